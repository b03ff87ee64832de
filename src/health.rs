//! What an answer of `grpc.health.v1` has no room for: in words, how a program is.

use tonic::Response;
use tonic::metadata::AsciiMetadataValue;

/// The header that says so.
pub const DETAIL: &str = "steeple-detail";

/// The longest header, so that it fits with every client.
const MAX_DETAIL: usize = 1_000;

/// The answer with these words.
#[must_use]
pub fn explained<T>(mut answer: Response<T>, detail: &str) -> Response<T> {
    if let Some(header) = header(detail) {
        answer.metadata_mut().insert(DETAIL, header);
    }
    answer
}

/// The words that came with an answer.
#[must_use]
pub fn detail<T>(answer: &Response<T>) -> &str {
    let detail = answer.metadata().get(DETAIL).and_then(|text| text.to_str().ok());
    detail.unwrap_or("it does not say why")
}

fn header(detail: &str) -> Option<AsciiMetadataValue> {
    let printable = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    let text: String = detail.chars().map(printable).take(MAX_DETAIL).collect();
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_that_every_client_reads() {
        let told = |text: &str| detail(&explained(Response::new(()), text)).to_owned();
        assert_eq!(told("no space (os error 28)"), "no space (os error 28)");
        assert_eq!(told("caf\u{e9}\nx"), "caf??x");
        assert_eq!(told(&"x".repeat(5_000)).len(), MAX_DETAIL);
        assert_eq!(detail(&Response::new(())), "it does not say why");
    }
}

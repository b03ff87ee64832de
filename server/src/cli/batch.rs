//! Many items in few calls: each call has a bounded number of them, and what was done is known even
//! where a later call fails.

use std::time::Duration;

use anyhow::{Context as _, bail};
use prost::Message;
use steeple_proto::spire::api::types;

use super::client::Client;
use super::output::{PATIENCE, Terminal};

/// The most items of a call, and of a page of a list.
pub(super) const ITEMS: usize = 500;

/// The most bytes of a call, which is well below what a server reads.
const BYTES: usize = 2 * 1024 * 1024;

/// What came of a batch: a result for each item that was sent, and why the rest was not.
#[derive(Debug)]
pub(super) struct Done<R> {
    pub(super) results: Vec<R>,
    pub(super) stopped: Option<anyhow::Error>,
}

/// A list that takes several calls, and says so to whoever waits at a terminal.
pub(super) struct Progress {
    notice: super::output::Notice,
    started: tokio::time::Instant,
}

/// Sends `items` in calls of at most [`ITEMS`], until all are sent or a call fails.
pub(super) async fn send<T: Message, R>(
    client: &Client,
    items: Vec<T>,
    mut call: impl AsyncFnMut(Vec<T>) -> anyhow::Result<Vec<R>>,
) -> Done<R> {
    let total = items.len();
    let mut progress = Progress::start(client.terminal());
    let mut results = Vec::with_capacity(total);
    for chunk in chunks(items) {
        let sent = chunk.len();
        let answered = call(chunk).await.and_then(|answered| {
            if answered.len() != sent {
                bail!("the server answered {} of {sent} items", answered.len());
            }
            Ok(answered)
        });
        match answered {
            Ok(answered) => results.extend(answered),
            Err(error) => {
                let done = results.len();
                let error = match done {
                    0 => error,
                    _ => error.context(format!("stopped after {done} of {total}")),
                };
                return Done { results, stopped: Some(error) };
            }
        }
        progress.show(results.len(), Some(total), "items");
    }
    Done { results, stopped: None }
}

/// Whether an item was done.
pub(super) fn is_ok(status: Option<&types::Status>) -> bool {
    status.is_some_and(|status| status.code == 0)
}

/// The next page of a list, unless this was the last.
pub(super) fn next_page(token: String, last: &str) -> anyhow::Result<Option<String>> {
    if token.is_empty() {
        return Ok(None);
    }
    if token == last {
        bail!("the server names the same page of the list again and again");
    }
    Ok(Some(token))
}

/// The size of a page as it goes over the wire.
pub(super) fn page_size() -> anyhow::Result<i32> {
    i32::try_from(ITEMS).context("the size of a page")
}

impl Progress {
    pub(super) fn start(terminal: Terminal) -> Self {
        Self { notice: terminal.notice(), started: tokio::time::Instant::now() }
    }

    /// Shows how far it got and how fast, if that takes a while.
    pub(super) fn show(&mut self, done: usize, total: Option<usize>, things: &str) {
        let elapsed = self.started.elapsed();
        if elapsed >= PATIENCE {
            self.notice.show(&progress_text(done, total, things, elapsed));
        }
    }
}

/// `1500 of 3000 entries, 750/s…`
fn progress_text(done: usize, total: Option<usize>, things: &str, elapsed: Duration) -> String {
    let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
    let millis = elapsed.as_millis().max(1);
    let rate = u128::try_from(done).unwrap_or_default() * 1_000 / millis;
    format!("{done}{of} {things}, {rate}/s…")
}

fn chunks<T: Message>(items: Vec<T>) -> Vec<Vec<T>> {
    let mut chunks: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let length = item.encoded_len();
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < ITEMS && bytes + length <= BYTES => {
                chunk.push(item);
                bytes += length;
            }
            Some(_) | None => {
                chunks.push(vec![item]);
                bytes = length;
            }
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lengths: &[usize], expected: &[usize]) {
        let entry = |length: &usize| types::Entry { id: "x".repeat(*length), ..Default::default() };
        let chunks = chunks(lengths.iter().map(entry).collect());
        assert_eq!(chunks.iter().map(Vec::len).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_call_is_bounded_in_items_and_bytes() {
        check(&[], &[]);
        check(&[1; 500], &[500]);
        check(&[1; 1001], &[500, 500, 1]);
        check(&[BYTES / 2, BYTES / 4, BYTES / 2, 1], &[2, 2]);
        check(&[2 * BYTES, 1], &[1, 1]);
    }

    #[test]
    fn progress_has_a_count_and_a_rate() {
        let text = |done, total, seconds| {
            progress_text(done, total, "entries", Duration::from_secs(seconds))
        };
        assert_eq!(text(1_500, Some(3_000), 2), "1500 of 3000 entries, 750/s…");
        assert_eq!(text(7, None, 4), "7 entries, 1/s…");
        assert_eq!(text(0, None, 0), "0 entries, 0/s…");
    }

    #[test]
    fn a_list_ends() {
        assert_eq!(next_page(String::new(), "a").unwrap(), None);
        assert_eq!(next_page("b".into(), "a").unwrap(), Some("b".into()));
        assert!(next_page("a".into(), "a").is_err());
    }
}

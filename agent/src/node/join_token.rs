//! `join_token`: whoever has the token is the node. It works once.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use zeroize::Zeroizing;

use super::attestor::{EvidenceError, Mark, NoChallenge, NodeAttestor, Session};

/// Where the token comes from.
#[derive(Debug)]
pub enum JoinToken {
    /// It was given.
    Given(Token),
    /// It is in a file, where a new one may be put while the agent runs.
    File(PathBuf),
    /// There is none. An agent that has been attested before does not need it.
    None,
}

/// What a join token is: it becomes the last part of the agent's SPIFFE ID.
pub const MUST_BE: &str =
    "a join token as `steeple-server token generate` prints it: 1 to 255 of [a-zA-Z0-9._-]";

/// The longest token that a server takes.
const MAX_LENGTH: usize = 255;

/// A join token. It is worth the identity of a node until it is used.
pub struct Token(Zeroizing<String>);

impl Token {
    /// Takes charge of a token.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self(Zeroizing::new(token))
    }

    /// Whether a server may have made it, or it is empty and none was given.
    #[must_use]
    pub fn is_one(&self) -> bool {
        let token = self.0.trim();
        token.is_empty() || is_one(token)
    }
}

fn is_one(token: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_LENGTH).contains(&token.len()) && token.bytes().all(fits)
}

#[tonic::async_trait]
impl NodeAttestor for JoinToken {
    fn method(&self) -> &'static str {
        "join_token"
    }

    async fn begin(&self) -> Result<Session, EvidenceError> {
        let text = match self {
            Self::Given(token) => token.0.clone(),
            Self::File(path) => match tokio::fs::read_to_string(path).await {
                Ok(text) => Zeroizing::new(text),
                Err(source) => return Err(EvidenceError::Read { path: path.clone(), source }),
            },
            Self::None => return Err(EvidenceError::NoToken),
        };
        let token = text.trim();
        if !is_one(token) {
            return Err(match self {
                Self::File(path) => {
                    EvidenceError::Malformed { path: path.clone(), must_be: MUST_BE }
                }
                Self::Given(_) | Self::None => EvidenceError::NoToken,
            });
        }
        Ok(Session {
            evidence: Zeroizing::new(token.as_bytes().to_vec()),
            once: Some(Mark::of(token.as_bytes())),
            responder: Box::new(NoChallenge),
        })
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::File(_) => {
                "make a join token with `steeple-server token generate` and write it to the join \
                 token file; the agent sees it within seconds"
            }
            Self::Given(_) | Self::None => {
                "make a join token with `steeple-server token generate` and restart the agent \
                 with it"
            }
        }
    }

    fn advice_without_evidence(&self) -> Option<&'static str> {
        Some(self.advice())
    }
}

impl FromStr for Token {
    type Err = Infallible;

    fn from_str(token: &str) -> Result<Self, Infallible> {
        Ok(Self::new(token.to_owned()))
    }
}

impl Clone for Token {
    /// Only for the parser of the command line, which keeps what it read.
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn evidence(token: &JoinToken) -> Result<(Vec<u8>, String), String> {
        let session = token.begin().await.map_err(|error| error.to_string())?;
        Ok((session.evidence.to_vec(), session.once.unwrap().as_str().to_owned()))
    }

    #[tokio::test]
    async fn a_token_is_sent_without_what_surrounds_it_in_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, " abc\n").unwrap();
        let from_file = evidence(&JoinToken::File(path.clone())).await.unwrap();
        let given = evidence(&JoinToken::Given(Token::new("abc".into()))).await.unwrap();
        assert_eq!(from_file, given);
        assert_eq!(given.0, b"abc");
        // SHA-256 of "abc", FIPS 180-2 B.1.
        assert!(given.1.starts_with("ba7816bf8f01cfea"));

        std::fs::write(&path, "new").unwrap();
        assert_eq!(evidence(&JoinToken::File(path)).await.unwrap().0, b"new");
    }

    #[tokio::test]
    async fn no_token_is_an_error_that_says_where_one_can_come_from() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let missing = evidence(&JoinToken::File(path.clone())).await.unwrap_err();
        assert!(missing.contains("cannot read"), "{missing}");
        std::fs::write(&path, "\n").unwrap();
        let empty = evidence(&JoinToken::File(path)).await.unwrap_err();
        assert!(empty.contains("is not a join token"), "{empty}");
        let none = evidence(&JoinToken::None).await.unwrap_err();
        assert!(none.contains("--join-token-file"), "{none}");
    }

    #[test]
    fn a_token_is_not_printed() {
        assert_eq!(format!("{:?}", Token::new("abc".into())), "Token(redacted)");
    }
}

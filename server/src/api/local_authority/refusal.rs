//! Why nothing was done with an authority, in the words that SPIRE has for it.

use std::fmt;

use steeple::shown::quoted;
use steeple::telemetry::with_causes;
use thiserror::Error;
use tonic::Code;

use crate::ca::control::{Change, ControlError};
use crate::ca::slots::Kind;

/// What was asked, of what, and why it was not done.
#[derive(Clone, Debug, Error)]
pub struct AuthorityRefusal {
    pub(in crate::api) asked: Asked,
    pub(in crate::api) of: Object,
    /// The name that was given, if one was.
    pub(in crate::api) named: String,
    #[source]
    pub(in crate::api) error: ControlError,
}

/// What was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::api) enum Asked {
    /// What there is.
    State,
    /// An authority that can sign next.
    Prepare,
    /// A change of one.
    Change(Change),
    /// That one of a server below this one is vouched for.
    Publish,
}

/// Of what it was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::api) enum Object {
    /// The server's own authorities.
    Own(Kind),
    /// What is above them.
    Upstream,
}

impl AuthorityRefusal {
    /// The status code.
    pub(in crate::api) fn code(&self) -> Code {
        match &self.error {
            ControlError::NotMade(_) => Code::Unimplemented,
            ControlError::Initializing | ControlError::Stopping => Code::Unavailable,
            ControlError::NoId
            | ControlError::Unknown
            | ControlError::Active
            | ControlError::Prepared
            | ControlError::Untainted => Code::InvalidArgument,
            ControlError::Taken => Code::InvalidArgument,
            ControlError::Old => match self.asked {
                Asked::Change(Change::Activate) => Code::FailedPrecondition,
                Asked::Change(Change::Taint | Change::Revoke)
                | Asked::State
                | Asked::Prepare
                | Asked::Publish => Code::InvalidArgument,
            },
            ControlError::Unusable
            | ControlError::HasUpstream
            | ControlError::NoUpstream
            | ControlError::Revoked => Code::FailedPrecondition,
            ControlError::TooMany => Code::ResourceExhausted,
            ControlError::Failed(error) if error.may_pass() => Code::Unavailable,
            ControlError::Failed(_) => Code::Internal,
        }
    }

    /// What an administrator is told. What failed beside this server is theirs to mend, so they are told
    /// why; what else failed is in the log.
    pub(in crate::api) fn message(&self) -> String {
        if let ControlError::Failed(error) = &self.error
            && error.is_outside()
        {
            return format!("{self}: {}", with_causes(&**error));
        }
        if self.is_nobody() {
            return format!("{self}: {}", quoted(&self.named));
        }
        self.to_string()
    }

    /// Whether the name that was given is that of no authority.
    fn is_nobody(&self) -> bool {
        let of_own = matches!(self.of, Object::Own(_));
        let asked = matches!(self.asked, Asked::Change(Change::Activate | Change::Taint));
        matches!(self.error, ControlError::Unknown) && of_own && asked
    }

    /// What is said before the reason.
    fn prefix(&self) -> &'static str {
        match (self.asked, self.of) {
            (Asked::Change(Change::Revoke), Object::Own(_)) => "invalid authority ID: ",
            (Asked::Change(Change::Revoke), Object::Upstream) => "invalid subject key ID: ",
            (Asked::Change(Change::Taint), Object::Upstream) => {
                "provided subject key id is not valid: "
            }
            (Asked::Change(Change::Activate), _)
            | (Asked::Change(Change::Taint), Object::Own(_))
            | (Asked::State | Asked::Prepare | Asked::Publish, _) => "",
        }
    }
}

impl fmt::Display for AuthorityRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            ControlError::NoId
            | ControlError::Unknown
            | ControlError::Active
            | ControlError::Prepared
            | ControlError::Old => write!(f, "{}{}", self.prefix(), self.reason()),
            // The words that SPIRE has for it.
            ControlError::NotMade(Kind::JwtKey) => f.write_str("JWT functionality is disabled"),
            ControlError::NotMade(Kind::X509Ca)
            | ControlError::Initializing
            | ControlError::Unusable
            | ControlError::NoUpstream
            | ControlError::TooMany => self.error.fmt(f),
            ControlError::Revoked | ControlError::Taken => {
                write!(f, "jwt_authority: {}", self.error)
            }
            ControlError::Untainted => f.write_str(match self.of {
                Object::Own(Kind::X509Ca) => {
                    "it is not possible to revoke an untainted root CA; taint it before"
                }
                Object::Own(Kind::JwtKey) => {
                    "it is not possible to revoke an untainted key; taint it before"
                }
                Object::Upstream => {
                    "it is not possible to revoke an untainted upstream authority; taint it before"
                }
            }),
            ControlError::HasUpstream => write!(
                f,
                "local authority can't be {} if there is an upstream authority",
                match self.asked {
                    Asked::Change(Change::Revoke) => "revoked",
                    Asked::Change(Change::Taint | Change::Activate)
                    | Asked::State
                    | Asked::Prepare
                    | Asked::Publish => "tainted",
                }
            ),
            ControlError::Failed(_) => write!(f, "failed to {}", Deed(self)),
            ControlError::Stopping => f.write_str("the server is shutting down"),
        }
    }
}

impl AuthorityRefusal {
    fn reason(&self) -> &'static str {
        use Change::{Activate, Revoke, Taint};
        let change = match self.asked {
            Asked::Change(change) => change,
            Asked::State | Asked::Prepare | Asked::Publish => return "there is no such authority",
        };
        match (&self.error, self.of, change) {
            (ControlError::NoId, Object::Own(_), _) => "no authority ID provided",
            (ControlError::NoId, Object::Upstream, _) => "no subject key ID provided",
            (ControlError::Active, Object::Upstream, _) => {
                "unable to use upstream authority singing current authority"
            }
            (ControlError::Prepared, Object::Upstream, _) => {
                "only upstream authorities signing an old authority can be used"
            }
            (_, Object::Upstream, _) => "upstream authority didn't sign the old local authority",
            (ControlError::Active, Object::Own(_), Activate) => {
                "unexpected authority ID: it is active already"
            }
            (ControlError::Old, Object::Own(_), Activate) => {
                "only Prepared authorities can be activated: unsupported local authority status: \
                 OLD"
            }
            (ControlError::Active, Object::Own(_), Taint) => {
                "unable to taint current local authority: activate another one before"
            }
            (ControlError::Prepared, Object::Own(_), Taint) => {
                "only Old local authorities can be tainted: unsupported local authority status: \
                 PREPARED"
            }
            (ControlError::Active, Object::Own(_), Revoke) => "unable to use current authority",
            (ControlError::Prepared, Object::Own(Kind::JwtKey), Revoke) => {
                "unable to use a prepared key"
            }
            (_, Object::Own(Kind::JwtKey), Revoke) => {
                "no JWT authority found with provided authority ID"
            }
            (_, Object::Own(Kind::X509Ca), Revoke) => "only Old local authority can be revoked",
            (_, Object::Own(_), Activate | Taint) => "unexpected authority ID",
        }
    }
}

/// What was to be done, and to what.
struct Deed<'a>(&'a AuthorityRefusal);

impl fmt::Display for Deed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.asked {
            Asked::State => "look at ",
            Asked::Prepare => "prepare ",
            Asked::Publish => "publish ",
            Asked::Change(Change::Activate) => "activate ",
            Asked::Change(Change::Taint) => "taint ",
            Asked::Change(Change::Revoke) => "revoke ",
        })?;
        f.write_str(match self.0.of {
            Object::Own(Kind::X509Ca) => "X.509 authority",
            Object::Own(Kind::JwtKey) => "JWT authority",
            Object::Upstream => "X.509 upstream authority",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use steeple::keys::KeyStoreError;

    use super::*;
    use crate::ca::rotation::RotationError;
    use crate::ca::upstream::UpstreamError;

    #[track_caller]
    fn check(error: impl Into<RotationError>, expected: (Code, &str)) {
        let refusal = AuthorityRefusal {
            asked: Asked::Prepare,
            of: Object::Own(Kind::X509Ca),
            named: String::new(),
            error: ControlError::Failed(Arc::new(error.into())),
        };
        assert_eq!((refusal.code(), &*refusal.message()), expected);
    }

    #[test]
    fn what_failed_beside_the_server_is_told_with_its_causes() {
        let timeout = || "root:8081 did not answer in time".into();
        let prefix = "failed to prepare X.509 authority: ";
        let of_upstream = |rest: &str| format!("{prefix}the upstream authority {rest}");
        let text = of_upstream("is not available: root:8081 did not answer in time");
        check(UpstreamError::Unavailable(timeout()), (Code::Unavailable, &text));
        let text = of_upstream("refused: root:8081 did not answer in time");
        check(UpstreamError::Refused(timeout()), (Code::Internal, &text));
        let full = io::Error::other("disk full");
        let text = format!("{prefix}the key store failed: disk full");
        check(KeyStoreError::Io(full), (Code::Unavailable, &text));
        check(RotationError::Random, (Code::Internal, "failed to prepare X.509 authority"));
    }
}

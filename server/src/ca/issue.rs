//! Signs what was prepared, and checks that what came out says what was prepared.
//!
//! The result is read again and compared; its signature is not verified a second time. The keys
//! are those of the authority's own certificate, and whoever asked checks the signature with the
//! bundle before it is used.

use std::sync::Arc;
use std::time::SystemTime;

use steeple::clock::unix_seconds;
use steeple::id::SpiffeId;
use steeple::jwt::make::{Claims, MakeError as JwtMakeError};
use steeple::keys::{Pace, SignError as KeyError};
use steeple::x509::make::{MakeError, Unsigned};
use steeple::x509::{Serial, X509Svid};
use thiserror::Error;

use super::authorities::{AuthorityId, JwtAuthority};
use crate::audit::event::Profile;

/// An X.509-SVID that may be signed. Only [`Authorities::prepare_x509`] makes one.
///
/// [`Authorities::prepare_x509`]: super::authorities::Authorities::prepare_x509
#[derive(Debug)]
pub struct PreparedX509 {
    pub(super) profile: Profile,
    pub(super) spiffe_id: SpiffeId,
    pub(super) capped: bool,
    pub(super) authority_id: AuthorityId,
    pub(super) unsigned: Unsigned,
}

/// A JWT-SVID that may be signed. Only [`Authorities::prepare_jwt`] makes one.
///
/// [`Authorities::prepare_jwt`]: super::authorities::Authorities::prepare_jwt
#[derive(Debug)]
pub struct PreparedJwt {
    pub(super) spiffe_id: SpiffeId,
    pub(super) audience: Vec<String>,
    pub(super) issued_at: i64,
    pub(super) expires_at: i64,
    pub(super) issuer: Option<Arc<str>>,
    pub(super) token_id: Option<String>,
    pub(super) capped: bool,
    pub(super) key: JwtAuthority,
}

/// Why nothing came out although it was allowed.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SignError {
    /// No certificate was made.
    #[error("the certificate was not made")]
    X509(#[source] MakeError),
    /// No token was made.
    #[error("the token was not made")]
    Jwt(#[source] JwtMakeError),
    /// The certificate says something else than was prepared.
    #[error("the certificate does not say what was to be signed")]
    Mismatch,
    /// The thread that signs ended.
    #[error("the thread that signs ended")]
    Panicked,
}

impl SignError {
    /// Whether it may go well later: the key is out of reach.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::X509(MakeError::Sign(error)) | Self::Jwt(JwtMakeError::Sign(error)) => {
                *error == KeyError::Unavailable
            }
            Self::X509(_) | Self::Jwt(_) | Self::Mismatch | Self::Panicked => false,
        }
    }
}

impl PreparedX509 {
    /// What it is for.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Whom it will name.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// The serial number that it will have.
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.unsigned.serial()
    }

    /// Until when it will be valid.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.unsigned.validity().not_after()
    }

    /// Whether that is less than was asked for, since the authority ends before.
    #[must_use]
    pub fn is_capped(&self) -> bool {
        self.capped
    }

    /// What will sign it.
    #[must_use]
    pub fn authority_id(&self) -> &AuthorityId {
        &self.authority_id
    }

    /// Signs it. The caller has recorded that it will be.
    pub(super) fn issue(self) -> Result<X509Svid, SignError> {
        let (serial, validity) = (self.unsigned.serial(), self.unsigned.validity());
        let svid = self.unsigned.sign().map_err(SignError::X509)?;
        let as_prepared = *svid.spiffe_id() == self.spiffe_id
            && svid.serial() == serial
            && unix_seconds(svid.not_after()) == unix_seconds(validity.not_after())
            && unix_seconds(svid.not_before()) == unix_seconds(validity.not_before())
            && svid.authority_key_id() == Some(self.authority_id.as_str());
        if as_prepared { Ok(svid) } else { Err(SignError::Mismatch) }
    }
}

impl PreparedJwt {
    /// Whom it will name.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// Whom it will be for.
    #[must_use]
    pub fn audience(&self) -> &[String] {
        &self.audience
    }

    /// From when on, in seconds since 1970.
    #[must_use]
    pub fn issued_at(&self) -> i64 {
        self.issued_at
    }

    /// Until when, in seconds since 1970.
    #[must_use]
    pub fn expires_at(&self) -> i64 {
        self.expires_at
    }

    /// Its own name, if it will have one.
    #[must_use]
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// Whether it expires before it was asked to, since the key does.
    #[must_use]
    pub fn is_capped(&self) -> bool {
        self.capped
    }

    /// What will sign it.
    #[must_use]
    pub fn authority_id(&self) -> &AuthorityId {
        self.key.id()
    }

    /// How long a signature takes.
    pub(super) fn pace(&self) -> Pace {
        self.key.pace()
    }

    /// Whether it is the first of its key that expires before it was asked to.
    pub(super) fn is_first_capped(&self) -> bool {
        self.capped && self.key.first_cut()
    }

    /// Signs it. The caller has recorded that it will be.
    pub(super) fn issue(&self) -> Result<String, SignError> {
        let claims = Claims {
            subject: &self.spiffe_id,
            audience: &self.audience,
            expires_at: self.expires_at,
            issued_at: self.issued_at,
            issuer: self.issuer.as_deref(),
            token_id: self.token_id.as_deref(),
        };
        self.key.signer().make(&claims).map_err(SignError::Jwt)
    }
}

/// Does what signs, where that keeps nobody waiting who asked for something else: here, if it takes
/// less than a few milliseconds, or in a thread of its own.
pub(super) async fn aside<T: Send + 'static>(
    pace: Pace,
    signatures: usize,
    sign: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SignError> {
    let quick = match pace {
        Pace::Quick => signatures <= 32,
        Pace::Slow => false,
    };
    if quick {
        return Ok(sign());
    }
    tokio::task::spawn_blocking(sign).await.map_err(|_panicked| SignError::Panicked)
}

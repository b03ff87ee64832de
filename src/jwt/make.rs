//! Makes JWT-SVIDs: exactly the headers and claims of JWT-SVID 2 and 3, signed.
//!
//! What may be signed was decided before: this module checks nothing but that the result can be
//! used at all.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use thiserror::Error;

use super::{Algorithm, MAX_TOKEN_LENGTH};
use crate::id::SpiffeId;
use crate::keys::{KeyKind, Scheme, SignError, Signer};

/// What a token says. `aud` is always an array and times are integers, which every client reads.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Claims<'a> {
    /// Whom it identifies.
    #[serde(rename = "sub")]
    pub subject: &'a SpiffeId,
    /// Whom it is for: exactly these.
    #[serde(rename = "aud")]
    pub audience: &'a [String],
    /// When it expires, in seconds since 1970.
    #[serde(rename = "exp")]
    pub expires_at: i64,
    /// When it was issued, in seconds since 1970; never in the future.
    #[serde(rename = "iat")]
    pub issued_at: i64,
    /// Who issued it, if that is to be said.
    #[serde(rename = "iss", skip_serializing_if = "Option::is_none")]
    pub issuer: Option<&'a str>,
    /// Its own name, if it has one.
    #[serde(rename = "jti", skip_serializing_if = "Option::is_none")]
    pub token_id: Option<&'a str>,
}

/// A key that signs tokens, with the header that all its tokens share.
#[derive(Clone)]
pub struct JwtSigner {
    key_id: Arc<str>,
    algorithm: Algorithm,
    /// The encoded header and the dot after it.
    prefix: Arc<str>,
    signer: Arc<dyn Signer>,
}

/// Why there is no token.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum MakeError {
    /// The token would identify a trust domain instead of somebody in it.
    #[error("the subject has no path")]
    SubjectWithoutPath,
    /// The token would be for nobody, or for the empty string.
    #[error("there is no audience, or an empty one")]
    NoAudience,
    /// The token would be too long to be used.
    #[error("the token would be longer than {MAX_TOKEN_LENGTH} bytes")]
    TooLong,
    /// The claims cannot be written.
    #[error("the claims cannot be written as JSON")]
    Claims,
    /// The key did not sign.
    #[error("the JWT key did not sign")]
    Sign(#[from] SignError),
}

/// The ID of a signing key is empty; tokens without one are refused by most validators.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a JWT key needs an ID")]
pub struct NoKeyId;

impl JwtSigner {
    /// The signer of tokens with this `kid`.
    pub fn new(key_id: &str, signer: Arc<dyn Signer>) -> Result<Self, NoKeyId> {
        if key_id.is_empty() {
            return Err(NoKeyId);
        }
        let algorithm = match signer.public_key().kind() {
            KeyKind::EcP256 => Algorithm::Es256,
            KeyKind::EcP384 => Algorithm::Es384,
            KeyKind::EcP521 => Algorithm::Es512,
            KeyKind::Rsa { .. } => Algorithm::Rs256,
        };
        // A string is written as JSON by serde_json, so that no key ID can add a member.
        let key_name = serde_json::Value::from(key_id);
        let header = format!(r#"{{"alg":"{algorithm}","kid":{key_name},"typ":"JWT"}}"#);
        let prefix = format!("{}.", URL_SAFE_NO_PAD.encode(header)).into();
        Ok(Self { key_id: key_id.into(), algorithm, prefix, signer })
    }

    /// The `kid` of the tokens.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The `alg` of the tokens.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key.
    #[must_use]
    pub fn signer(&self) -> &Arc<dyn Signer> {
        &self.signer
    }

    /// Makes a token in compact serialisation. May block for as long as the key takes.
    pub fn make(&self, claims: &Claims<'_>) -> Result<String, MakeError> {
        if claims.subject.is_trust_domain() {
            return Err(MakeError::SubjectWithoutPath);
        }
        if claims.audience.is_empty() || claims.audience.iter().any(String::is_empty) {
            return Err(MakeError::NoAudience);
        }
        let claims = serde_json::to_vec(claims).map_err(|_unwritable| MakeError::Claims)?;
        if claims.len() > MAX_TOKEN_LENGTH {
            return Err(MakeError::TooLong);
        }
        // The longest signature, of RSA with 4096 bits, takes 683 characters.
        let mut token = String::with_capacity(self.prefix.len() + claims.len() * 4 / 3 + 700);
        token.push_str(&self.prefix);
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.signer.sign(Scheme::Jws, token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        if token.len() > MAX_TOKEN_LENGTH { Err(MakeError::TooLong) } else { Ok(token) }
    }
}

impl fmt::Debug for JwtSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwtSigner({}, {:?})", self.algorithm, self.key_id)
    }
}

#[cfg(test)]
mod tests;

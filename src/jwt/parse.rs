//! Takes a token apart; checks its form, not its signature or claims.
//!
//! A token has one spelling: three parts of unpadded base64url without stray bits. Otherwise
//! somebody could change a token that a log or a replay cache has seen and keep it valid.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

use super::{Algorithm, LIMITS, MAX_TOKEN_LENGTH};
use crate::json::{self, Json, JsonError, Object};

/// Headers that carry or point to a key. A key that comes with the token proves nothing, so a
/// token that offers one is not for us (JWT-SVID 2, H102).
const KEY_HEADERS: [&str; 4] = ["jwk", "jku", "x5c", "x5u"];

/// A token in due form whose signature nobody has checked.
#[derive(Clone, Debug, PartialEq)]
pub struct UnverifiedToken<'a> {
    /// What it says its signature was made with.
    pub algorithm: Algorithm,
    /// Which key it says it was signed by.
    pub key_id: Option<String>,
    /// What it claims.
    pub claims: Object,
    /// What was signed: header and claims as they stand in the token.
    pub signed: &'a [u8],
    /// The signature.
    pub signature: Vec<u8>,
}

/// A part of a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// The JOSE header.
    Header,
    /// The claims.
    Claims,
    /// The signature.
    Signature,
}

/// Why a text is not a JWT-SVID by its form.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ParseError {
    /// It is longer than [`MAX_TOKEN_LENGTH`].
    #[error("token is longer than {MAX_TOKEN_LENGTH} bytes")]
    TooLong,
    /// It is not of the form `header.claims.signature`.
    #[error("token is not a JWS in compact serialization: three parts between two dots")]
    Parts,
    /// A part has padding, white space, stray bits or a character outside the alphabet.
    #[error("token {0} is not unpadded base64url")]
    Base64(Part),
    /// A part is not strict JSON.
    #[error("token {0} is not valid JSON")]
    Json(Part, #[source] JsonError),
    /// A part is JSON but no object.
    #[error("token {0} is not a JSON object")]
    NotAnObject(Part),
    /// `alg` is missing or not one of the nine.
    #[error("token header has no signature algorithm that a JWT-SVID may use")]
    Algorithm,
    /// `kid` is no string.
    #[error("token header has a key id that is not a string")]
    KeyId,
    /// `typ` is neither `JWT` nor `JOSE`.
    #[error("token header has a type other than JWT and JOSE")]
    Type,
    /// `crit` is there: whatever it names, nothing here implements it.
    #[error("token header marks an extension as critical")]
    Critical,
    /// The token brings a key or says where to find one.
    #[error("token header brings its own key")]
    EmbeddedKey,
    /// `cty` is there: the token holds another one.
    #[error("token header has a content type; nested tokens are not JWT-SVIDs")]
    ContentType,
}

/// Takes `token` apart.
///
/// Headers other than those of [`ParseError`] are ignored (the issuer may not set them, but
/// JWT-SVID has no rule for who reads one).
pub fn parse(token: &str) -> Result<UnverifiedToken<'_>, ParseError> {
    if token.len() > MAX_TOKEN_LENGTH {
        return Err(ParseError::TooLong);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(ParseError::Parts)?;
    let (header, claims) = signed.split_once('.').ok_or(ParseError::Parts)?;
    if header.is_empty() || claims.is_empty() || claims.contains('.') || signature.is_empty() {
        return Err(ParseError::Parts);
    }
    let header = object(Part::Header, header)?;
    let algorithm = algorithm(&header)?;
    let key_id = check_header(header)?;
    Ok(UnverifiedToken {
        algorithm,
        key_id,
        claims: object(Part::Claims, claims)?,
        signed: signed.as_bytes(),
        signature: decode(Part::Signature, signature)?,
    })
}

fn algorithm(header: &Object) -> Result<Algorithm, ParseError> {
    let name = header.get("alg").and_then(Json::as_str);
    name.and_then(Algorithm::named).ok_or(ParseError::Algorithm)
}

/// Checks all but `alg` and returns `kid`.
fn check_header(mut header: Object) -> Result<Option<String>, ParseError> {
    match header.get("typ") {
        None => {}
        Some(typ) if matches!(typ.as_str(), Some("JWT" | "JOSE")) => {}
        Some(_) => return Err(ParseError::Type),
    }
    if header.contains_key("crit") {
        return Err(ParseError::Critical);
    }
    if KEY_HEADERS.iter().any(|name| header.contains_key(*name)) {
        return Err(ParseError::EmbeddedKey);
    }
    if header.contains_key("cty") {
        return Err(ParseError::ContentType);
    }
    match header.remove("kid") {
        None => Ok(None),
        Some(Json::String(key_id)) => Ok(Some(key_id)),
        Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_)) => {
            Err(ParseError::KeyId)
        }
    }
}

fn object(part: Part, encoded: &str) -> Result<Object, ParseError> {
    let decoded = decode(part, encoded)?;
    let object = json::parse_object(&decoded, &LIMITS);
    object.map_err(|error| ParseError::Json(part, error))?.ok_or(ParseError::NotAnObject(part))
}

fn decode(part: Part, encoded: &str) -> Result<Vec<u8>, ParseError> {
    URL_SAFE_NO_PAD.decode(encoded).map_err(|_malformed| ParseError::Base64(part))
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Claims => "payload",
            Self::Signature => "signature",
        })
    }
}

#[cfg(test)]
mod tests;

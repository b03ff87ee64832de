//! Decides whether a token is a valid JWT-SVID for an audience (JWT-SVID 3 to 5).
//!
//! Which trust domains are believed is the caller's business: it hands in their keys.

use std::fmt;
use std::ops::Deref;
use std::time::{Duration, SystemTime};

use thiserror::Error;

use super::keys::{JwtKey, JwtKeys};
use super::parse::{self, ParseError, UnverifiedToken};
use super::{Algorithm, EXPIRY_LEEWAY, Excerpt, MAX_KEY_TRIALS, START_LEEWAY};
use crate::clock;
use crate::id::{self, SpiffeId, TrustDomain};
use crate::json::{Json, Number, Object};

/// What a token has to be for.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The audience that has to be among the token's, compared byte for byte.
    pub audience: &'a str,
    /// The trust domain of this system, which never issues a token to a bare trust domain ID.
    pub own: &'a TrustDomain,
}

/// A JWT-SVID that was valid when it was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtSvid {
    id: SpiffeId,
    audience: Vec<String>,
    expires_at: i64,
    claims: Object,
}

/// Why a token is not a valid JWT-SVID for the audience.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum JwtError {
    /// It is not in due form.
    #[error(transparent)]
    Malformed(#[from] ParseError),
    /// There is no `sub`.
    #[error("token missing subject claim")]
    NoSubject,
    /// `sub` is not a SPIFFE ID.
    #[error("token has a subject that is not a SPIFFE ID")]
    Subject(#[source] id::ParseError),
    /// `sub` is the ID of our own trust domain, which nobody is given.
    #[error("token has the trust domain itself as its subject")]
    TrustDomainSubject,
    /// There is no `exp`.
    #[error("token missing exp claim")]
    NoExpiry,
    /// A claim is there and of the wrong type.
    #[error("token claim `{name}` is not {must_be}")]
    Claim {
        /// Which claim.
        name: &'static str,
        /// What it should be.
        must_be: &'static str,
    },
    /// The trust domain of the subject has no JWT keys, or is none that the caller believes.
    #[error("no keys found for trust domain {:?}", .0.as_str())]
    NoKeys(TrustDomain),
    /// The trust domain has no key of the ID that the token names.
    #[error("public key {key_id} not found in trust domain {:?}", trust_domain.as_str())]
    UnknownKey {
        /// The ID.
        key_id: Excerpt,
        /// The trust domain.
        trust_domain: TrustDomain,
    },
    /// The key does not go with the algorithm that the token names.
    #[error("token algorithm {0} does not fit the key")]
    Algorithm(Algorithm),
    /// The key did not sign this.
    #[error("token signature is invalid")]
    Signature,
    /// `exp` is past.
    #[error("token has expired")]
    Expired,
    /// `nbf` is yet to come.
    #[error("token is not valid yet")]
    NotYetValid,
    /// `iat` is yet to come. The standard leaves open what to do then; a token from the future
    /// is refused, as go-spiffe does.
    #[error("token was issued in the future")]
    IssuedInFuture,
    /// The token is for others.
    #[error("expected audience in [{expected}] (audience={actual})")]
    Audience {
        /// Whom it had to be for.
        expected: Excerpt,
        /// Whom it is for.
        actual: Audiences,
    },
}

/// The audiences of a token, for an error message: the first few.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Audiences {
    shown: Vec<Excerpt>,
    more: bool,
}

/// Checks that `token` is a JWT-SVID that is valid `now`.
///
/// `keys_for` gives the keys of a trust domain that the caller believes; it is asked once, for
/// the trust domain of the token's subject. Everything of this trust domain is refused if that is
/// `None` or holds no key (Trust Domain and Bundle 4.1.4).
pub fn verify<K: Deref<Target = JwtKeys>>(
    token: &str,
    expected: &Expected<'_>,
    keys_for: impl FnOnce(&TrustDomain) -> Option<K>,
    now: SystemTime,
) -> Result<JwtSvid, JwtError> {
    let presented = Presented::read(token, expected.own)?;
    let keys = keys_for(presented.trust_domain());
    presented.verify(expected.audience, keys.as_deref(), now)
}

/// A token with the claims of a JWT-SVID, about which nobody has decided yet.
#[derive(Debug)]
pub struct Presented<'a> {
    token: UnverifiedToken<'a>,
    id: SpiffeId,
    audience: Vec<String>,
    times: Times,
}

impl<'a> Presented<'a> {
    /// Reads `token`. Trust domain `own` never issues one to a bare trust domain ID.
    pub fn read(token: &'a str, own: &TrustDomain) -> Result<Self, JwtError> {
        let token = parse::parse(token)?;
        let id = subject(&token.claims, own)?;
        let times = Times {
            expires_at: date(&token.claims, "exp")?.ok_or(JwtError::NoExpiry)?,
            not_before: date(&token.claims, "nbf")?,
            issued_at: date(&token.claims, "iat")?,
        };
        let audience = audience(&token.claims)?;
        Ok(Self { token, id, audience, times })
    }

    /// Whose keys have to vouch for it.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        self.id.trust_domain()
    }

    /// Checks that it is valid `now` and for `expected`, by the keys of its trust domain.
    pub fn verify(
        self,
        expected: &str,
        keys: Option<&JwtKeys>,
        now: SystemTime,
    ) -> Result<JwtSvid, JwtError> {
        let Self { mut token, id, audience, times } = self;
        let trust_domain = id.trust_domain();
        let keys = keys.filter(|keys| !keys.is_empty());
        let keys = keys.ok_or_else(|| JwtError::NoKeys(trust_domain.clone()))?;
        check_signature(&token, keys, trust_domain)?;
        check_times(&times, clock::unix_seconds(now))?;
        if expected.is_empty() || !audience.iter().any(|value| value == expected) {
            let (expected, actual) = (Excerpt::of(expected), Audiences::of(&audience));
            return Err(JwtError::Audience { expected, actual });
        }
        // One type for whoever reads the claims, whichever form the issuer chose.
        let listed = audience.iter().cloned().map(Json::String).collect();
        token.claims.insert("aud".to_owned(), Json::Array(listed));
        Ok(JwtSvid { id, audience, expires_at: times.expires_at, claims: token.claims })
    }
}

impl JwtSvid {
    /// Drops all claims but `sub`, `aud`, `exp` and those named, as is done for what a foreign
    /// trust domain claims.
    pub fn keep_only<'n>(&mut self, names: impl IntoIterator<Item = &'n str> + Clone) {
        self.claims.retain(|claim, _| {
            matches!(claim.as_str(), "sub" | "aud" | "exp")
                || names.clone().into_iter().any(|name| name == claim)
        });
    }

    /// Whom it identifies: `sub`.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Whom it is for, as it lists them.
    #[must_use]
    pub fn audience(&self) -> &[String] {
        &self.audience
    }

    /// When it expires, in seconds since 1970.
    #[must_use]
    pub fn expires_at(&self) -> i64 {
        self.expires_at
    }

    /// All that it claims; `aud` is always an array.
    #[must_use]
    pub fn claims(&self) -> &Object {
        &self.claims
    }

    /// The same, where nothing else is wanted of it.
    #[must_use]
    pub fn into_claims(self) -> Object {
        self.claims
    }
}

#[derive(Debug)]
struct Times {
    expires_at: i64,
    not_before: Option<i64>,
    issued_at: Option<i64>,
}

fn subject(claims: &Object, own: &TrustDomain) -> Result<SpiffeId, JwtError> {
    let subject = claims.get("sub").ok_or(JwtError::NoSubject)?;
    let subject = subject.as_str().ok_or(JwtError::Claim { name: "sub", must_be: "a string" })?;
    let id: SpiffeId = subject.parse().map_err(JwtError::Subject)?;
    if id.is_trust_domain() && id.trust_domain() == own {
        return Err(JwtError::TrustDomainSubject);
    }
    Ok(id)
}

/// A NumericDate (RFC 7519 2), fractions dropped.
fn date(claims: &Object, name: &'static str) -> Result<Option<i64>, JwtError> {
    let Some(date) = claims.get(name) else { return Ok(None) };
    let number = date.as_number().ok_or(JwtError::Claim { name, must_be: "a number" })?;
    Ok(Some(Number::floor(number)))
}

/// One string or several (RFC 7519 4.1.3).
fn audience(claims: &Object) -> Result<Vec<String>, JwtError> {
    const WRONG: JwtError =
        JwtError::Claim { name: "aud", must_be: "a string or a list of strings" };
    let values = match claims.get("aud") {
        Some(Json::String(value)) => vec![value.clone()],
        Some(Json::Array(values)) => {
            let text = |value: &Json| value.as_str().map(str::to_owned).ok_or(WRONG);
            values.iter().map(text).collect::<Result<_, _>>()?
        }
        Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_)) | None => {
            return Err(WRONG);
        }
    };
    if values.is_empty() {
        return Err(WRONG);
    }
    Ok(values)
}

fn check_signature(
    token: &UnverifiedToken<'_>,
    keys: &JwtKeys,
    trust_domain: &TrustDomain,
) -> Result<(), JwtError> {
    let verifies = |key: &JwtKey| key.verifies(token.algorithm, token.signed, &token.signature);
    let verified = match &token.key_id {
        Some(key_id) => {
            let key = keys.by_id(key_id).ok_or_else(|| JwtError::UnknownKey {
                key_id: Excerpt::of(key_id),
                trust_domain: trust_domain.clone(),
            })?;
            if !key.allows(token.algorithm) {
                return Err(JwtError::Algorithm(token.algorithm));
            }
            verifies(key)
        }
        // `kid` is optional in JWT-SVID 2.2.
        None => keys.that_allow(token.algorithm).take(MAX_KEY_TRIALS).any(verifies),
    };
    if verified { Ok(()) } else { Err(JwtError::Signature) }
}

fn check_times(times: &Times, now: i64) -> Result<(), JwtError> {
    let seconds = |leeway: Duration| i64::try_from(leeway.as_secs()).unwrap_or(0);
    if times.expires_at.saturating_add(seconds(EXPIRY_LEEWAY)) <= now {
        return Err(JwtError::Expired);
    }
    let latest_start = now.saturating_add(seconds(START_LEEWAY));
    if times.not_before.is_some_and(|not_before| not_before > latest_start) {
        return Err(JwtError::NotYetValid);
    }
    if times.issued_at.is_some_and(|issued_at| issued_at > latest_start) {
        return Err(JwtError::IssuedInFuture);
    }
    Ok(())
}

impl Audiences {
    const SHOWN: usize = 3;

    fn of(audience: &[String]) -> Self {
        let shown = audience.iter().take(Self::SHOWN).map(|value| Excerpt::of(value)).collect();
        Self { shown, more: audience.len() > Self::SHOWN }
    }
}

impl fmt::Display for Audiences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, audience) in self.shown.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{audience}")?;
        }
        f.write_str(if self.more { " …]" } else { "]" })
    }
}

#[cfg(test)]
mod tests;

//! What may be signed: the checks of every request, and what they leave to the key.
//!
//! Nothing here does I/O or signs. Who may ask is decided before, by whoever knows callers and
//! entries; these checks hold for all of them.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use steeple::clock::{from_unix_seconds, unix_seconds};
use steeple::entry::DnsName;
use steeple::id::{SpiffeId, TrustDomain};
use steeple::keys::PublicKey;
use steeple::x509::Name;
use steeple::x509::make::{MakeError, SvidRequest, Validity};
use thiserror::Error;

use super::authorities::Authorities;
use super::issue::{PreparedJwt, PreparedX509};
use crate::audit::event::Profile;

/// The most audiences of a token.
pub const MAX_AUDIENCES: usize = 32;

/// The longest audience in bytes.
pub const MAX_AUDIENCE_LENGTH: usize = 1024;

/// The longest life that may be asked for: what fits the wire, in seconds.
pub const MAX_TTL: Duration = Duration::from_secs(0x7fff_ffff);

/// A wish for an X.509-SVID.
#[derive(Clone, Copy, Debug)]
pub enum X509Request<'a> {
    /// For a workload, by an entry.
    Workload {
        /// Whom it names.
        spiffe_id: &'a SpiffeId,
        /// Whose key it is.
        public_key: &'a PublicKey,
        /// How long it is to live.
        ttl: Duration,
        /// DNS names; the first becomes the common name.
        dns_names: &'a [DnsName],
    },
    /// For an agent.
    Agent {
        /// Whom it names.
        spiffe_id: &'a SpiffeId,
        /// Whose key it is.
        public_key: &'a PublicKey,
        /// How long it is to live.
        ttl: Duration,
    },
    /// For this server.
    Server {
        /// Whose key it is.
        public_key: &'a PublicKey,
        /// How long it is to live.
        ttl: Duration,
    },
    /// For whomever an administrator hands it to.
    Minted {
        /// Whom it names.
        spiffe_id: &'a SpiffeId,
        /// Whose key it is.
        public_key: &'a PublicKey,
        /// How long it is to live.
        ttl: Duration,
        /// DNS names; the first becomes the common name.
        dns_names: &'a [DnsName],
        /// The subject in the place of the usual one.
        subject: Option<&'a Name>,
    },
}

/// A wish for a JWT-SVID.
#[derive(Clone, Copy, Debug)]
pub struct JwtRequest<'a> {
    /// Whom it names.
    pub spiffe_id: &'a SpiffeId,
    /// Whom it is for. What is named twice is written once.
    pub audience: &'a [String],
    /// How long it is to live.
    pub ttl: Duration,
    /// Whether it has a name of its own.
    pub token_id: TokenId,
    /// Its `iss`, if it is to have one.
    pub issuer: Option<&'a str>,
}

/// Whether a token has a `jti`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenId {
    /// It has none.
    Omitted,
    /// It has one that no other token has.
    Unique,
}

/// Why nothing was signed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Refusal {
    /// The ID is in another trust domain.
    #[error("`{0}` is not in trust domain `{1}`")]
    ForeignTrustDomain(SpiffeId, TrustDomain),
    /// The ID is that of the trust domain itself.
    #[error("`{0}` has no path; it names the trust domain and nobody in it")]
    NoPath(SpiffeId),
    /// The ID is one that only servers and agents have.
    #[error("`{0}` is reserved: `/spire` belongs to servers and agents")]
    Reserved(SpiffeId),
    /// An agent would be named like somebody else.
    #[error("`{0}` is not the ID of an agent: those are below `/spire/agent/`")]
    NotAnAgent(SpiffeId),
    /// It would live for less than a second.
    #[error("a life of less than a second")]
    NoLife,
    /// It would live for longer than the wire can say.
    #[error("a life of more than {} seconds", MAX_TTL.as_secs())]
    LifeTooLong,
    /// The authority that would sign has expired, and there is no other one yet.
    #[error("the active authority has expired")]
    AuthorityExpired,
    /// No key signs tokens here.
    #[error("JWT functionality is disabled")]
    NoTokens,
    /// A token for nobody.
    #[error("a token needs an audience")]
    NoAudience,
    /// A token for too many.
    #[error("a token is for at most {MAX_AUDIENCES} audiences")]
    TooManyAudiences,
    /// An audience is the empty text.
    #[error("an audience is empty")]
    EmptyAudience,
    /// An audience is too long.
    #[error("an audience is longer than {MAX_AUDIENCE_LENGTH} bytes")]
    AudienceTooLong,
    /// An audience has a control character.
    #[error("an audience has a control character")]
    AudienceControl,
    /// The certificate cannot be made.
    #[error("{0}")]
    Certificate(MakeError),
    /// There is no random number to name the token by.
    #[error("no random number")]
    Random,
}

impl Authorities {
    /// Decides what the X.509-SVID that is asked for will say. Its serial number is fixed with
    /// that, and its life is cut to that of the authority.
    pub fn prepare_x509(
        &self,
        request: &X509Request<'_>,
        now: SystemTime,
    ) -> Result<PreparedX509, Refusal> {
        let wish = Wish::new(request, self.trust_domain())?;
        let authority = self.x509();
        let (now, wished) = (whole(now), life(wish.ttl, now)?);
        let not_after = wished.min(authority.not_after());
        if not_after <= now {
            return Err(Refusal::AuthorityExpired);
        }
        let dns_names: Vec<_> = wish.dns_names.iter().map(|name| name.as_str().into()).collect();
        let ttl = not_after.duration_since(now).unwrap_or_default();
        let unsigned = authority
            .issuer()
            .prepare_svid(&SvidRequest {
                spiffe_id: &wish.spiffe_id,
                public_key: wish.public_key,
                dns_names: &dns_names,
                subject: wish.subject,
                validity: Validity::new(now, ttl),
            })
            .map_err(Refusal::Certificate)?;
        authority.will_sign_until(not_after);
        Ok(PreparedX509 {
            profile: wish.profile,
            spiffe_id: wish.spiffe_id,
            capped: not_after < wished,
            authority_id: authority.id().clone(),
            unsigned,
        })
    }

    /// Decides what the JWT-SVID that is asked for will say.
    pub fn prepare_jwt(
        &self,
        request: &JwtRequest<'_>,
        now: SystemTime,
    ) -> Result<PreparedJwt, Refusal> {
        let key = self.jwt().ok_or(Refusal::NoTokens)?;
        check_workload(request.spiffe_id, self.trust_domain())?;
        let wished = life(request.ttl, now)?;
        let expires_at = wished.min(key.not_after());
        if expires_at <= whole(now) {
            return Err(Refusal::AuthorityExpired);
        }
        let prepared = PreparedJwt {
            spiffe_id: request.spiffe_id.clone(),
            audience: checked_audience(request.audience)?,
            issued_at: unix_seconds(now),
            expires_at: unix_seconds(expires_at),
            issuer: request.issuer.map(Into::into),
            token_id: match request.token_id {
                TokenId::Omitted => None,
                TokenId::Unique => Some(unique()?),
            },
            capped: expires_at < wished,
            key: key.clone(),
        };
        key.will_sign_until(expires_at);
        Ok(prepared)
    }
}

/// What is asked for, whoever asks.
struct Wish<'a> {
    profile: Profile,
    spiffe_id: SpiffeId,
    public_key: &'a PublicKey,
    ttl: Duration,
    dns_names: &'a [DnsName],
    subject: Option<&'a Name>,
}

impl<'a> Wish<'a> {
    fn new(request: &X509Request<'a>, own: &TrustDomain) -> Result<Self, Refusal> {
        match *request {
            X509Request::Workload { spiffe_id, public_key, ttl, dns_names } => {
                check_workload(spiffe_id, own)?;
                let (profile, spiffe_id) = (Profile::Workload, spiffe_id.clone());
                Ok(Self { profile, spiffe_id, public_key, ttl, dns_names, subject: None })
            }
            X509Request::Agent { spiffe_id, public_key, ttl } => {
                check_member(spiffe_id, own)?;
                if !spiffe_id.is_agent() {
                    return Err(Refusal::NotAnAgent(spiffe_id.clone()));
                }
                let (profile, spiffe_id) = (Profile::Agent, spiffe_id.clone());
                Ok(Self { profile, spiffe_id, public_key, ttl, dns_names: &[], subject: None })
            }
            X509Request::Server { public_key, ttl } => {
                let (profile, spiffe_id) = (Profile::Server, own.server_id());
                Ok(Self { profile, spiffe_id, public_key, ttl, dns_names: &[], subject: None })
            }
            X509Request::Minted { spiffe_id, public_key, ttl, dns_names, subject } => {
                check_workload(spiffe_id, own)?;
                let (profile, spiffe_id) = (Profile::Minted, spiffe_id.clone());
                Ok(Self { profile, spiffe_id, public_key, ttl, dns_names, subject })
            }
        }
    }
}

fn check_member(spiffe_id: &SpiffeId, own: &TrustDomain) -> Result<(), Refusal> {
    if spiffe_id.trust_domain() != own {
        return Err(Refusal::ForeignTrustDomain(spiffe_id.clone(), own.clone()));
    }
    if spiffe_id.is_trust_domain() {
        return Err(Refusal::NoPath(spiffe_id.clone()));
    }
    Ok(())
}

fn check_workload(spiffe_id: &SpiffeId, own: &TrustDomain) -> Result<(), Refusal> {
    check_member(spiffe_id, own)?;
    if spiffe_id.is_reserved() { Err(Refusal::Reserved(spiffe_id.clone())) } else { Ok(()) }
}

/// Certificates and tokens know whole seconds.
pub(super) fn whole(time: SystemTime) -> SystemTime {
    from_unix_seconds(unix_seconds(time))
}

/// When a life that begins now ends.
pub(super) fn life(ttl: Duration, now: SystemTime) -> Result<SystemTime, Refusal> {
    let seconds = Duration::from_secs(ttl.as_secs());
    if seconds.is_zero() {
        return Err(Refusal::NoLife);
    }
    if seconds > MAX_TTL {
        return Err(Refusal::LifeTooLong);
    }
    whole(now).checked_add(seconds).ok_or(Refusal::LifeTooLong)
}

/// The audience without repetitions, in the order that was asked for.
fn checked_audience(audience: &[String]) -> Result<Vec<String>, Refusal> {
    if audience.len() > MAX_AUDIENCES {
        return Err(Refusal::TooManyAudiences);
    }
    for name in audience {
        if name.is_empty() {
            return Err(Refusal::EmptyAudience);
        }
        if name.len() > MAX_AUDIENCE_LENGTH {
            return Err(Refusal::AudienceTooLong);
        }
        if name.chars().any(char::is_control) {
            return Err(Refusal::AudienceControl);
        }
    }
    let mut seen = BTreeSet::new();
    let checked: Vec<_> = audience.iter().filter(|name| seen.insert(*name)).cloned().collect();
    if checked.is_empty() { Err(Refusal::NoAudience) } else { Ok(checked) }
}

/// 128 random bits as text.
fn unique() -> Result<String, Refusal> {
    use base64::Engine as _;
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| Refusal::Random)?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests;

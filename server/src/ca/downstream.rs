//! CA certificates for servers below this one: decided, recorded, signed and recorded again, as
//! everything that is signed here.

use std::time::{Duration, SystemTime};

use steeple::clock::unix_seconds;
use steeple::id::TrustDomain;
use steeple::keys::PublicKey;
use steeple::x509::make::{IntermediateRequest, Unsigned, Validity};
use steeple::x509::{Certificate, Chain, Serial};

use super::authorities::{Authorities, AuthorityId};
use super::issue::{SignError, aside};
use super::record::chain;
use super::request::{Refusal, life, whole};
use super::{Ca, IssueError, Order};
use crate::audit::Correlation;
use crate::audit::event::{Caller, Event, Hex, Profile};

/// A wish for the CA certificate of a server below this one.
#[derive(Clone, Copy, Debug)]
pub struct DownstreamRequest<'a> {
    /// Whose key it is.
    pub public_key: &'a PublicKey,
    /// How long it is to live.
    pub ttl: Duration,
}

/// A CA certificate that was signed.
#[derive(Clone, Debug)]
pub struct IssuedCa {
    /// It, and those that lead from it to a root, without that.
    pub chain: Chain,
    /// Whether it lives shorter than was asked for, since its issuer does.
    pub capped: bool,
    /// Names it in the audit log.
    pub correlation: Correlation,
}

/// A CA certificate that may be signed. Only [`Authorities::prepare_downstream`] makes one.
#[derive(Debug)]
pub struct PreparedCa {
    trust_domain: TrustDomain,
    capped: bool,
    authority_id: AuthorityId,
    unsigned: Unsigned,
}

impl Authorities {
    /// Decides what the CA certificate of a server below this one will say. It is called as this
    /// one's, in a unit that counts the tiers, and its life is cut to that of this one's.
    pub fn prepare_downstream(
        &self,
        request: &DownstreamRequest<'_>,
        now: SystemTime,
    ) -> Result<PreparedCa, Refusal> {
        let authority = self.x509();
        let issuer = authority.issuer();
        let (now, wished) = (whole(now), life(request.ttl, now)?);
        let not_after = wished.min(authority.not_after());
        if not_after <= now {
            return Err(Refusal::AuthorityExpired);
        }
        let tier = issuer.intermediates().len().saturating_add(1);
        let unsigned = issuer
            .prepare_ca(&IntermediateRequest {
                trust_domain: self.trust_domain(),
                subject: &issuer.name().with_unit(&format!("DOWNSTREAM-{tier}")),
                public_key: request.public_key,
                validity: Validity::new(now, not_after.duration_since(now).unwrap_or_default()),
            })
            .map_err(Refusal::Certificate)?;
        authority.will_sign_until(not_after);
        Ok(PreparedCa {
            trust_domain: self.trust_domain().clone(),
            capped: not_after < wished,
            authority_id: authority.id().clone(),
            unsigned,
        })
    }
}

impl PreparedCa {
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

    /// Signs it. The caller has recorded that it will be.
    fn issue(self) -> Result<Chain, SignError> {
        let (serial, not_after) = (self.serial(), self.not_after());
        let chain = self.unsigned.sign_chain().map_err(SignError::X509)?;
        let certificate = Certificate::parse(chain.leaf()).or(Err(SignError::Mismatch))?;
        let as_prepared = certificate.is_ca()
            && certificate.uris() == [self.trust_domain.id().as_str().as_bytes()]
            && certificate.serial() == serial
            && unix_seconds(certificate.not_after()) == unix_seconds(not_after);
        if as_prepared { Ok(chain) } else { Err(SignError::Mismatch) }
    }
}

impl Ca {
    /// Issues the CA certificate of a server below this one.
    pub async fn issue_downstream(
        &self,
        caller: &Caller,
        order: &Order<'_, DownstreamRequest<'_>>,
    ) -> Result<IssuedCa, IssueError> {
        let (authorities, now) = (self.authorities(), self.clock.now());
        let correlation = self.audit.correlation();
        let spiffe_id = authorities.trust_domain().id();
        let entry_id = order.entry_id.cloned();
        let refused = |why: String| Event::X509Refused {
            correlation: Some(correlation),
            spiffe_id: Some(spiffe_id.clone()),
            entry_id: entry_id.clone(),
            why,
        };
        let decision = authorities.prepare_downstream(&order.request, now);
        let event = match &decision {
            Ok(prepared) => Event::X509Intent {
                correlation,
                profile: Profile::DownstreamCa,
                spiffe_id: spiffe_id.clone(),
                entry_id: entry_id.clone(),
                serial: Hex(prepared.serial()),
                not_after: unix_seconds(prepared.not_after()),
                authority_id: prepared.authority_id.clone(),
            },
            Err(refusal) => refused(refusal.to_string()),
        };
        self.record(caller, &[event]).await?;
        let prepared = decision?;
        let (serial, capped) = (Hex(prepared.serial()), prepared.capped);
        let not_after = unix_seconds(prepared.not_after());
        let authority_id = prepared.authority_id.clone();
        let pace = authorities.x509().pace();
        let signed = aside(pace, 1, move || prepared.issue()).await.and_then(|signed| signed);
        if signed.is_ok() {
            self.cas.add(&authority_id, not_after, unix_seconds(now));
        }
        let event = match &signed {
            Ok(_) => Event::X509Issued {
                correlation,
                spiffe_id: spiffe_id.clone(),
                entry_id: entry_id.clone(),
                serial,
                not_after,
                capped,
            },
            Err(error) => refused(chain(error)),
        };
        self.record(caller, &[event]).await?;
        Ok(IssuedCa { chain: signed?, capped, correlation })
    }
}

#[cfg(test)]
mod tests;

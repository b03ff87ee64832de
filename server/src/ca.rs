//! The server's certificate and token authority: what is signed, by what, and until when.
//!
//! [`Ca`] is the one way to a signature: a request is prepared (its checks), recorded in the audit
//! log, signed, and the result recorded before it is handed out. [`rotation`] keeps fresh what
//! signs. Who may ask for what is decided elsewhere.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use steeple::bundle::{Bundle, JwtAuthority};
use steeple::clock::{Clock, from_unix_seconds, unix_seconds};
use steeple::entry::EntryId;
use steeple::id::SpiffeId;
use steeple::x509::X509Svid;
use thiserror::Error;
use tokio::sync::watch;
use tracing::warn;

use self::authorities::Authorities;
use self::issue::{PreparedX509, SignError};
use self::request::{JwtRequest, Refusal, X509Request};
use self::tally::Tally;
use crate::audit::event::{Caller, Event};
use crate::audit::{Audit, AuditError, Correlation};

pub mod authorities;
pub mod control;
pub mod downstream;
pub mod issue;
pub mod journal;
pub mod own_svid;
mod prune;
mod record;
pub mod request;
pub mod rotation;
pub mod slots;
pub mod tally;
pub mod upstream;

/// Where the journal of the authorities and the bundle that vouches for them are kept.
///
/// A `save` that fails has changed nothing.
pub trait Ledger: fmt::Debug + Send + Sync + 'static {
    /// The journal that was saved last.
    fn journal(&self) -> impl Future<Output = Result<Option<Vec<u8>>, LedgerError>> + Send;

    /// The bundle of the server's own trust domain as it is now.
    fn own_bundle(&self) -> Arc<Bundle>;

    /// Saves the journal and changes the own bundle, durably, both or neither.
    fn save(
        &self,
        journal: Vec<u8>,
        changes: Vec<BundleChange>,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
}

/// A change of the server's own bundle.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BundleChange {
    /// Vouch for a CA.
    AddX509(CertificateDer<'static>),
    /// Vouch for a JWT key.
    AddJwt(JwtAuthority),
    /// Mark a CA as no longer to be relied on. That it is not there is no error.
    TaintX509(CertificateDer<'static>),
    /// Mark the JWT key of this ID as no longer to be relied on. That it is not there is no error.
    TaintJwt(String),
    /// No longer vouch for a CA. That it is not there is no error.
    RemoveX509(CertificateDer<'static>),
    /// No longer vouch for the JWT key of this ID. That it is not there is no error.
    RemoveJwt(String),
}

/// The ledger could not be read or written.
#[derive(Debug, Error)]
#[error("the ledger failed")]
pub struct LedgerError(#[source] pub Box<dyn StdError + Send + Sync>);

/// What signs.
#[derive(Clone, Debug)]
pub struct Ca {
    authorities: watch::Receiver<Arc<Authorities>>,
    audit: Arc<Audit>,
    clock: Arc<dyn Clock>,
    /// SVIDs.
    tally: Arc<Tally>,
    /// CA certificates for servers below this one.
    cas: Arc<Tally>,
}

/// A request, and the entry that it is made by, if it is.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a, R> {
    /// What is wanted.
    pub request: R,
    /// Why it may be wanted.
    pub entry_id: Option<&'a EntryId>,
}

/// An X.509-SVID, and what the audit log says about it.
#[derive(Clone, Debug)]
pub struct IssuedX509 {
    /// It.
    pub svid: X509Svid,
    /// Whether it lives shorter than was asked for, since its issuer does.
    pub capped: bool,
    /// Names it in the audit log.
    pub correlation: Correlation,
}

/// A JWT-SVID, and what the audit log says about it.
#[derive(Clone)]
pub struct IssuedJwt {
    /// The token.
    pub token: String,
    /// From when on it is valid, in seconds since 1970.
    pub issued_at: i64,
    /// Until when, in seconds since 1970.
    pub expires_at: i64,
    /// Whether it lives shorter than was asked for, since its key does.
    pub capped: bool,
    /// Names it in the audit log.
    pub correlation: Correlation,
}

/// Why there is no SVID.
#[derive(Clone, Debug, Error)]
pub enum IssueError {
    /// It may not be signed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be recorded, so it was not signed or not handed out.
    #[error(transparent)]
    Unrecorded(Arc<AuditError>),
    /// The key did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Ca {
    /// Signs with the authorities that are active at the time.
    #[must_use]
    pub fn new(
        authorities: watch::Receiver<Arc<Authorities>>,
        audit: Arc<Audit>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let [tally, cas] = [(); 2].map(|()| Arc::new(Tally::new(unix_seconds(clock.now()))));
        Self { authorities, audit, clock, tally, cas }
    }

    /// How many of the SVIDs that were signed have not expired.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How many of the CA certificates for servers below this one have not expired.
    #[must_use]
    pub fn tally_of_cas(&self) -> &Tally {
        &self.cas
    }

    /// The authorities that are active now.
    #[must_use]
    pub fn authorities(&self) -> Arc<Authorities> {
        self.authorities.borrow().clone()
    }

    /// Issues X.509-SVIDs, each with a result of its own, in order. What they have in common is
    /// done once: two writes of the audit log, however many there are.
    pub async fn issue_x509(
        &self,
        caller: &Caller,
        orders: &[Order<'_, X509Request<'_>>],
    ) -> Vec<Result<IssuedX509, IssueError>> {
        let (authorities, now) = (self.authorities(), self.clock.now());
        let mut events = Vec::with_capacity(orders.len());
        let mut prepared = Vec::with_capacity(orders.len());
        for order in orders {
            let correlation = self.audit.correlation();
            let decision = authorities.prepare_x509(&order.request, now);
            events.push(record::x509_decision(order, correlation, &decision));
            prepared.push(Attempt { correlation, result: decision });
        }
        if let Err(error) = self.record(caller, &events).await {
            return orders.iter().map(|_| Err(error.clone())).collect();
        }
        let results = sign_x509(&authorities, prepared).await;
        let issuer = authorities.x509().id();
        for issued in results.iter().filter_map(|attempt| attempt.result.as_ref().ok()) {
            let not_after = unix_seconds(issued.svid.not_after());
            self.tally.add(issuer, not_after, unix_seconds(now));
        }
        let mut issued = results.iter().filter_map(|attempt| attempt.result.as_ref().ok());
        let is_told = |issued: &&IssuedX509| {
            issued.capped && *issued.svid.spiffe_id() != authorities.trust_domain().server_id()
        };
        if let Some(cut) = issued.find(is_told)
            && authorities.x509().first_cut()
        {
            tell_of_cut("X509-SVID", cut.svid.spiffe_id(), unix_seconds(cut.svid.not_after()));
        }
        let told = |(order, result)| record::x509_result(order, result);
        let events: Vec<_> = orders.iter().zip(&results).filter_map(told).collect();
        if let Err(error) = self.record(caller, &events).await {
            return orders.iter().map(|_| Err(error.clone())).collect();
        }
        results.into_iter().map(|attempt| attempt.result).collect()
    }

    /// Issues one X.509-SVID.
    pub async fn issue_one_x509(
        &self,
        caller: &Caller,
        order: &Order<'_, X509Request<'_>>,
    ) -> Result<IssuedX509, IssueError> {
        let results = self.issue_x509(caller, std::slice::from_ref(order)).await;
        results.into_iter().next().unwrap_or(Err(IssueError::Sign(SignError::Mismatch)))
    }

    /// Issues a JWT-SVID.
    pub async fn issue_jwt(
        &self,
        caller: &Caller,
        order: &Order<'_, JwtRequest<'_>>,
    ) -> Result<IssuedJwt, IssueError> {
        let (authorities, now) = (self.authorities(), self.clock.now());
        let correlation = self.audit.correlation();
        let decision = authorities.prepare_jwt(&order.request, now).map(Arc::new);
        let event = record::jwt_decision(order, correlation, decision.as_deref());
        self.record(caller, &[event]).await?;
        let prepared = decision?;
        let signing = Arc::clone(&prepared);
        let signed = issue::aside(prepared.pace(), 1, move || signing.issue()).await;
        let signed = signed.and_then(|signed| signed);
        if signed.is_ok() {
            self.tally.add(prepared.authority_id(), prepared.expires_at(), unix_seconds(now));
        }
        let event = record::jwt_result(order, correlation, &prepared, signed.as_deref());
        self.record(caller, &[event]).await?;
        let token = signed?;
        if prepared.is_first_capped() {
            tell_of_cut("JWT-SVID", prepared.spiffe_id(), prepared.expires_at());
        }
        Ok(IssuedJwt {
            token,
            issued_at: prepared.issued_at(),
            expires_at: prepared.expires_at(),
            capped: prepared.is_capped(),
            correlation,
        })
    }

    async fn record(&self, caller: &Caller, events: &[Event]) -> Result<(), IssueError> {
        if events.is_empty() {
            return Ok(());
        }
        let recorded = self.audit.record(caller, events).await;
        recorded.map_err(|error| IssueError::Unrecorded(Arc::new(error)))
    }
}

/// Tells of the first SVID of an authority that ends with it. The audit log has all of them.
fn tell_of_cut(kind: &str, spiffe_id: &SpiffeId, expires_at: i64) {
    let expires_at = humantime::format_rfc3339_seconds(from_unix_seconds(expires_at));
    warn!(%spiffe_id, %expires_at,
        "{kind} lifetime was cut, as its authority ends before; others may follow unseen");
}

/// Something that was tried under a name.
#[derive(Debug)]
struct Attempt<T, E> {
    correlation: Correlation,
    result: Result<T, E>,
}

async fn sign_x509(
    authorities: &Authorities,
    prepared: Vec<Attempt<PreparedX509, Refusal>>,
) -> Vec<Attempt<IssuedX509, IssueError>> {
    let correlations: Vec<_> = prepared.iter().map(|attempt| attempt.correlation).collect();
    let sign = move || prepared.into_iter().map(sign_one).collect();
    let (pace, count) = (authorities.x509().pace(), correlations.len());
    issue::aside(pace, count, sign).await.unwrap_or_else(|error| {
        let attempt = |correlation| Attempt { correlation, result: Err(error.into()) };
        correlations.into_iter().map(attempt).collect()
    })
}

fn sign_one(attempt: Attempt<PreparedX509, Refusal>) -> Attempt<IssuedX509, IssueError> {
    let correlation = attempt.correlation;
    let result = attempt.result.map_err(IssueError::from).and_then(|prepared| {
        let capped = prepared.is_capped();
        Ok(IssuedX509 { svid: prepared.issue()?, capped, correlation })
    });
    Attempt { correlation, result }
}

impl fmt::Debug for IssuedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedJwt").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

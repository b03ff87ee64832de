//! The SPIFFE Workload API: who is calling, what are they entitled to, and the answer in the form
//! of the standard.
//!
//! A caller is attested once for each call, and again only where an attestor failed; a stream
//! re-checks before every message that all it was found to be still holds. A stream always ends
//! with a status that says why, and never with OK or CANCELLED, which make clients stop for good.

mod again;
mod caller;
mod delegated;
mod error;
mod jwt;
mod updates;
mod x509;

use std::sync::Arc;

use steeple::clock::Clock;
use steeple_proto::workload::spiffe_workload_api_server::SpiffeWorkloadApi;
use steeple_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, WitBundlesRequest, WitBundlesResponse, WitsvidRequest,
    WitsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

pub use self::delegated::DelegatedIdentityApi;
pub use self::error::WorkloadError;

use self::caller::Caller;
use self::updates::{Updates, View as _};
use crate::attest::Attestors;
use crate::attest::interest::Interest;
use crate::complaints::Complaints;
use crate::identity::{Holders, Snapshot};

/// Whom the Workload API works with.
#[derive(Clone, Debug)]
pub struct Deps {
    /// Who finds out what a caller is.
    pub attestors: Attestors,
    /// What the server says of this node; `None` until the first synchronisation.
    pub snapshot: watch::Receiver<Option<Arc<Snapshot>>>,
    /// Who has the credentials.
    pub holders: Holders,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Tells every stream to end.
    pub stop: CancellationToken,
    /// What was logged of callers that get nothing.
    pub complaints: Complaints,
    /// Who is given bundles.
    pub verifiers: Verifiers,
}

/// Who is told the keys of the own trust domain, which are no secret.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Verifiers {
    /// Who has an identity.
    #[default]
    Registered,
    /// Whoever asks, and if it has no identity, no other keys than these.
    Anybody,
}

/// The Workload API of this agent. Its callers' [`crate::peer::Peer`] is in the extensions of each
/// request.
#[derive(Clone, Debug)]
pub struct WorkloadApi(Arc<Deps>);

impl WorkloadApi {
    /// The API over these.
    #[must_use]
    pub fn new(deps: Deps) -> Self {
        Self(Arc::new(deps))
    }

    /// Who asks for a stream, which checks that this holds before anything is minted or leaves.
    async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, WorkloadError> {
        Caller::attest_for(&self.0, request.extensions(), Interest::ALL).await
    }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadApi {
    type FetchX509SVIDStream = Updates<X509svidResponse>;
    type FetchX509BundlesStream = Updates<X509BundlesResponse>;
    type FetchJWTBundlesStream = Updates<JwtBundlesResponse>;
    type FetchWITSVIDStream = Updates<WitsvidResponse>;
    type FetchWITBundlesStream = Updates<WitBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let caller = self.caller(&request).await?;
        x509::Svids::new(caller).updates().await
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        let caller = self.caller(&request).await?;
        x509::Bundles::new(caller).updates().await
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        Ok(Response::new(jwt::serve(&self.0, request).await?))
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        let caller = self.caller(&request).await?;
        jwt::Bundles::new(caller).updates().await
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        Ok(Response::new(jwt::validate(&self.0, &request).await?))
    }

    async fn fetch_witsvid(
        &self,
        _: Request<WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        Err(WorkloadError::NoWit.into())
    }

    async fn fetch_wit_bundles(
        &self,
        _: Request<WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        Err(WorkloadError::NoWit.into())
    }
}

#[cfg(test)]
mod tests;

//! The Delegated Identity API: SVIDs and bundles that one process fetches for others.
//!
//! A delegate is attested like any workload, must own an entry whose SPIFFE ID the configuration
//! names, and is checked again for each message: with the entry goes the permission.
//!
//! Whom keys belong to: a delegate that names a process by its number gets what that process would
//! get, and the keys are that process's own, gone when it exits. One that names selectors gets keys
//! of its own for just these, see [`delegation`]. In neither case do credentials go to others that
//! give power over the server: entries with `admin` or `downstream` are left out.

mod delegation;
mod party;
mod views;

use std::collections::BTreeSet;
use std::sync::Arc;

use steeple::clock::unix_seconds;
use steeple::convert::id_to_proto;
use steeple::entry::Entry;
use steeple::id::SpiffeId;
use steeple_proto::spire::api::agent::delegatedidentity::v1::delegated_identity_server::DelegatedIdentity;
use steeple_proto::spire::api::agent::delegatedidentity::v1::{
    FetchJwtsviDsRequest, FetchJwtsviDsResponse, SubscribeToJwtBundlesRequest,
    SubscribeToJwtBundlesResponse, SubscribeToX509BundlesRequest, SubscribeToX509BundlesResponse,
    SubscribeToX509sviDsRequest, SubscribeToX509sviDsResponse,
};
use steeple_proto::spire::api::types;
use tonic::{Request, Response, Status};

use self::delegation::{Delegations, Purpose};
use self::party::{Delegate, Delegation, Subject};
use self::views::{Bundles, Kind, Svids};
use super::caller::{Caller, Party as _};
use super::updates::{Updates, View as _, fits};
use super::x509::hint;
use super::{Deps, WorkloadError, jwt};
use crate::identity::JwtToken;

/// The Delegated Identity API of this agent. Its callers' [`crate::peer::Peer`] is in the
/// extensions of each request.
#[derive(Clone, Debug)]
pub struct DelegatedIdentityApi {
    deps: Arc<Deps>,
    delegates: Arc<BTreeSet<SpiffeId>>,
    delegations: Delegations,
}

impl DelegatedIdentityApi {
    /// The API over these, for whoever has one of these IDs.
    #[must_use]
    pub fn new(deps: Deps, delegates: BTreeSet<SpiffeId>) -> Self {
        let (deps, delegates) = (Arc::new(deps), Arc::new(delegates));
        Self { deps, delegates, delegations: Delegations::default() }
    }

    /// The caller, who is a delegate now.
    async fn delegate<T>(&self, request: &Request<T>) -> Result<Delegate, WorkloadError> {
        let caller = Caller::attest(&self.deps, request.extensions()).await?;
        let delegate = Delegate { caller, delegates: self.delegates.clone() };
        delegate.authorize()?;
        Ok(delegate)
    }

    /// The caller, and whom it asks for.
    async fn delegation<T>(
        &self,
        request: &Request<T>,
        (pid, selectors): (i32, &[types::Selector]),
        purpose: Purpose,
    ) -> Result<Delegation, WorkloadError> {
        let delegate = self.delegate(request).await?;
        let subject = match Subject::read(pid, selectors)? {
            Subject::Process(pid) => delegate.process(pid).await?,
            Subject::Selectors(selectors) => {
                let attested = delegate.caller.attested();
                self.delegations.of(attested, &selectors, purpose).into()
            }
        };
        Ok(Delegation { delegate, subject })
    }
}

#[tonic::async_trait]
impl DelegatedIdentity for DelegatedIdentityApi {
    type SubscribeToX509SVIDsStream = Updates<SubscribeToX509sviDsResponse>;
    type SubscribeToX509BundlesStream = Updates<SubscribeToX509BundlesResponse>;
    type SubscribeToJWTBundlesStream = Updates<SubscribeToJwtBundlesResponse>;

    async fn subscribe_to_x509svi_ds(
        &self,
        request: Request<SubscribeToX509sviDsRequest>,
    ) -> Result<Response<Self::SubscribeToX509SVIDsStream>, Status> {
        let asked = (request.get_ref().pid, request.get_ref().selectors.as_slice());
        let delegation = self.delegation(&request, asked, Purpose::Keys).await?;
        Svids::new(delegation).updates().await
    }

    async fn subscribe_to_x509_bundles(
        &self,
        request: Request<SubscribeToX509BundlesRequest>,
    ) -> Result<Response<Self::SubscribeToX509BundlesStream>, Status> {
        let delegate = self.delegate(&request).await?;
        Bundles::new(delegate, Kind::x509()).updates().await
    }

    async fn fetch_jwtsvi_ds(
        &self,
        request: Request<FetchJwtsviDsRequest>,
    ) -> Result<Response<FetchJwtsviDsResponse>, Status> {
        let message = request.get_ref();
        let audience = jwt::audiences(message.audience.clone())?;
        let asked = (message.pid, message.selectors.as_slice());
        let delegation = self.delegation(&request, asked, Purpose::Tokens).await?;
        let tokens = jwt::tokens(&delegation, |_| true, &audience).await?;
        let svids = tokens.iter().map(|(entry, token)| jwt_svid(entry, token));
        let response = FetchJwtsviDsResponse { svids: svids.collect() };
        fits(&response)?;
        delegation.lives().still_hold()?;
        jwt::fetched(&delegation, &tokens);
        Ok(Response::new(response))
    }

    async fn subscribe_to_jwt_bundles(
        &self,
        request: Request<SubscribeToJwtBundlesRequest>,
    ) -> Result<Response<Self::SubscribeToJWTBundlesStream>, Status> {
        let delegate = self.delegate(&request).await?;
        Bundles::new(delegate, Kind::jwt()).updates().await
    }
}

fn jwt_svid(entry: &Entry, token: &JwtToken) -> types::Jwtsvid {
    types::Jwtsvid {
        token: token.token.to_string(),
        id: Some(id_to_proto(&entry.content.spiffe_id)),
        expires_at: unix_seconds(token.expires_at),
        issued_at: token.issued_at,
        hint: hint(entry),
    }
}

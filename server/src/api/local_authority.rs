//! The RPCs about the server's own authorities: how one is replaced, tainted and revoked.
//!
//! Other than SPIRE's, a prepared authority is answered again and not thrown away while it can
//! sign, and to taint twice is no error.

use std::sync::Arc;

use steeple_proto::spire::api::server::localauthority::v1 as pb;
use steeple_proto::spire::api::server::localauthority::v1::local_authority_server;
use tonic::{Request, Response, Status};

use self::refusal::{Asked, AuthorityRefusal, Object};
use super::{Deps, no_wit};
use crate::ca::control::{Change, ControlError, Standing, State};
use crate::ca::slots::Kind;

pub(super) mod refusal;

/// Answers the RPCs.
#[derive(Debug)]
pub(super) struct LocalAuthorityService(pub(super) Arc<Deps>);

impl LocalAuthorityService {
    fn state(&self, kind: Kind) -> Result<State, Status> {
        self.0.authorities.state(kind).map_err(|error| refused(Asked::State, (kind, ""), error))
    }

    async fn prepare<T>(
        &self,
        request: &Request<T>,
        kind: Kind,
    ) -> Result<Option<pb::AuthorityState>, Status> {
        let caller = super::admitted(request)?.for_audit();
        self.0.recordable()?;
        let prepared = self.0.authorities.prepare(caller, kind).await;
        let prepared = prepared.map_err(|error| refused(Asked::Prepare, (kind, ""), error))?;
        Ok(Some(to_proto(prepared)))
    }

    async fn change<T>(
        &self,
        request: &Request<T>,
        change: Change,
        (kind, id): (Kind, &str),
    ) -> Result<Option<pb::AuthorityState>, Status> {
        let caller = super::admitted(request)?.for_audit();
        self.0.recordable()?;
        let changed = self.0.authorities.change(caller, change, (kind, id)).await;
        let changed = changed.map_err(|error| refused(Asked::Change(change), (kind, id), error))?;
        Ok(Some(to_proto(changed)))
    }

    async fn change_upstream<T>(
        &self,
        request: &Request<T>,
        change: Change,
        subject_key_id: &str,
    ) -> Result<String, Status> {
        let caller = super::admitted(request)?.for_audit();
        self.0.recordable()?;
        let changed = self.0.authorities.change_upstream(caller, change, subject_key_id).await;
        let changed = changed.map_err(|error| AuthorityRefusal {
            asked: Asked::Change(change),
            of: Object::Upstream,
            named: subject_key_id.to_owned(),
            error,
        });
        Ok(changed.map_err(super::ApiError::from)?.id.to_string())
    }
}

#[tonic::async_trait]
impl local_authority_server::LocalAuthority for LocalAuthorityService {
    async fn get_jwt_authority_state(
        &self,
        _: Request<pb::GetJwtAuthorityStateRequest>,
    ) -> Result<Response<pb::GetJwtAuthorityStateResponse>, Status> {
        let State { active, prepared, old } = self.state(Kind::JwtKey)?;
        Ok(Response::new(pb::GetJwtAuthorityStateResponse {
            active: Some(to_proto(active)),
            prepared: prepared.map(to_proto),
            old: old.map(to_proto),
        }))
    }

    async fn prepare_jwt_authority(
        &self,
        request: Request<pb::PrepareJwtAuthorityRequest>,
    ) -> Result<Response<pb::PrepareJwtAuthorityResponse>, Status> {
        let prepared_authority = self.prepare(&request, Kind::JwtKey).await?;
        Ok(Response::new(pb::PrepareJwtAuthorityResponse { prepared_authority }))
    }

    async fn activate_jwt_authority(
        &self,
        request: Request<pb::ActivateJwtAuthorityRequest>,
    ) -> Result<Response<pb::ActivateJwtAuthorityResponse>, Status> {
        let named = (Kind::JwtKey, &*request.get_ref().authority_id);
        let activated_authority = self.change(&request, Change::Activate, named).await?;
        Ok(Response::new(pb::ActivateJwtAuthorityResponse { activated_authority }))
    }

    async fn taint_jwt_authority(
        &self,
        request: Request<pb::TaintJwtAuthorityRequest>,
    ) -> Result<Response<pb::TaintJwtAuthorityResponse>, Status> {
        let named = (Kind::JwtKey, &*request.get_ref().authority_id);
        let tainted_authority = self.change(&request, Change::Taint, named).await?;
        Ok(Response::new(pb::TaintJwtAuthorityResponse { tainted_authority }))
    }

    async fn revoke_jwt_authority(
        &self,
        request: Request<pb::RevokeJwtAuthorityRequest>,
    ) -> Result<Response<pb::RevokeJwtAuthorityResponse>, Status> {
        let named = (Kind::JwtKey, &*request.get_ref().authority_id);
        let revoked_authority = self.change(&request, Change::Revoke, named).await?;
        Ok(Response::new(pb::RevokeJwtAuthorityResponse { revoked_authority }))
    }

    async fn get_x509_authority_state(
        &self,
        _: Request<pb::GetX509AuthorityStateRequest>,
    ) -> Result<Response<pb::GetX509AuthorityStateResponse>, Status> {
        let State { active, prepared, old } = self.state(Kind::X509Ca)?;
        Ok(Response::new(pb::GetX509AuthorityStateResponse {
            active: Some(to_proto(active)),
            prepared: prepared.map(to_proto),
            old: old.map(to_proto),
        }))
    }

    async fn prepare_x509_authority(
        &self,
        request: Request<pb::PrepareX509AuthorityRequest>,
    ) -> Result<Response<pb::PrepareX509AuthorityResponse>, Status> {
        let prepared_authority = self.prepare(&request, Kind::X509Ca).await?;
        Ok(Response::new(pb::PrepareX509AuthorityResponse { prepared_authority }))
    }

    async fn activate_x509_authority(
        &self,
        request: Request<pb::ActivateX509AuthorityRequest>,
    ) -> Result<Response<pb::ActivateX509AuthorityResponse>, Status> {
        let named = (Kind::X509Ca, &*request.get_ref().authority_id);
        let activated_authority = self.change(&request, Change::Activate, named).await?;
        Ok(Response::new(pb::ActivateX509AuthorityResponse { activated_authority }))
    }

    async fn taint_x509_authority(
        &self,
        request: Request<pb::TaintX509AuthorityRequest>,
    ) -> Result<Response<pb::TaintX509AuthorityResponse>, Status> {
        let named = (Kind::X509Ca, &*request.get_ref().authority_id);
        let tainted_authority = self.change(&request, Change::Taint, named).await?;
        Ok(Response::new(pb::TaintX509AuthorityResponse { tainted_authority }))
    }

    async fn taint_x509_upstream_authority(
        &self,
        request: Request<pb::TaintX509UpstreamAuthorityRequest>,
    ) -> Result<Response<pb::TaintX509UpstreamAuthorityResponse>, Status> {
        let id = &request.get_ref().subject_key_id;
        let id = self.change_upstream(&request, Change::Taint, id).await?;
        let upstream_authority_subject_key_id = id;
        Ok(Response::new(pb::TaintX509UpstreamAuthorityResponse {
            upstream_authority_subject_key_id,
        }))
    }

    async fn revoke_x509_authority(
        &self,
        request: Request<pb::RevokeX509AuthorityRequest>,
    ) -> Result<Response<pb::RevokeX509AuthorityResponse>, Status> {
        let named = (Kind::X509Ca, &*request.get_ref().authority_id);
        let revoked_authority = self.change(&request, Change::Revoke, named).await?;
        Ok(Response::new(pb::RevokeX509AuthorityResponse { revoked_authority }))
    }

    async fn revoke_x509_upstream_authority(
        &self,
        request: Request<pb::RevokeX509UpstreamAuthorityRequest>,
    ) -> Result<Response<pb::RevokeX509UpstreamAuthorityResponse>, Status> {
        let id = &request.get_ref().subject_key_id;
        let id = self.change_upstream(&request, Change::Revoke, id).await?;
        let upstream_authority_subject_key_id = id;
        Ok(Response::new(pb::RevokeX509UpstreamAuthorityResponse {
            upstream_authority_subject_key_id,
        }))
    }

    async fn get_wit_authority_state(
        &self,
        _: Request<pb::GetWitAuthorityStateRequest>,
    ) -> Result<Response<pb::GetWitAuthorityStateResponse>, Status> {
        Err(no_wit())
    }

    async fn prepare_wit_authority(
        &self,
        _: Request<pb::PrepareWitAuthorityRequest>,
    ) -> Result<Response<pb::PrepareWitAuthorityResponse>, Status> {
        Err(no_wit())
    }

    async fn activate_wit_authority(
        &self,
        _: Request<pb::ActivateWitAuthorityRequest>,
    ) -> Result<Response<pb::ActivateWitAuthorityResponse>, Status> {
        Err(no_wit())
    }

    async fn taint_wit_authority(
        &self,
        _: Request<pb::TaintWitAuthorityRequest>,
    ) -> Result<Response<pb::TaintWitAuthorityResponse>, Status> {
        Err(no_wit())
    }

    async fn revoke_wit_authority(
        &self,
        _: Request<pb::RevokeWitAuthorityRequest>,
    ) -> Result<Response<pb::RevokeWitAuthorityResponse>, Status> {
        Err(no_wit())
    }
}

fn refused(asked: Asked, (kind, id): (Kind, &str), error: ControlError) -> Status {
    let (of, named) = (Object::Own(kind), id.to_owned());
    super::ApiError::from(AuthorityRefusal { asked, of, named, error }).into()
}

fn to_proto(standing: Standing) -> pb::AuthorityState {
    pb::AuthorityState {
        authority_id: standing.id.to_string(),
        expires_at: standing.expires_at.unwrap_or_default(),
        upstream_authority_subject_key_id: standing
            .upstream_authority_id
            .map(|id| id.to_string())
            .unwrap_or_default(),
    }
}

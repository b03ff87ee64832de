//! The RPCs that sign.

use std::sync::Arc;

use steeple::convert::{id_from_proto, id_to_proto};
use steeple_proto::spire::api::server::svid::v1 as pb;
use steeple_proto::spire::api::server::svid::v1::svid_server;
use steeple_proto::spire::api::types;
use tonic::{Request, Response, Status};

use super::Deps;
use super::error::{ApiError, item_status};
use super::issued::{hint, jwt_to_proto, x509_to_proto};
use super::limits::Limited;
use crate::audit::event::Event;
use crate::ca::Order;
use crate::ca::request::{JwtRequest, TokenId, X509Request};

mod batch;
mod downstream;
mod mint;

/// Answers the RPCs.
#[derive(Debug)]
pub(super) struct SvidService(pub(super) Arc<Deps>);

#[tonic::async_trait]
impl svid_server::Svid for SvidService {
    async fn mint_x509svid(
        &self,
        request: Request<pb::MintX509svidRequest>,
    ) -> Result<Response<pb::MintX509svidResponse>, Status> {
        let caller = super::admitted(&request)?.for_audit();
        let request = request.into_inner();
        let wish = mint::Wish::read(&request.csr)?;
        let order = Order {
            request: X509Request::Minted {
                spiffe_id: &wish.spiffe_id,
                public_key: wish.csr.public_key(),
                ttl: mint::ttl(request.ttl, self.0.ttl.x509_svid)?,
                dns_names: &wish.dns_names,
                subject: Some(wish.csr.subject()).filter(|subject| !subject.is_empty()),
            },
            entry_id: None,
        };
        let issued = self.0.ca.issue_one_x509(&caller, &order).await.map_err(ApiError::from)?;
        Ok(Response::new(pb::MintX509svidResponse { svid: Some(x509_to_proto(&issued, None)) }))
    }

    async fn mint_jwtsvid(
        &self,
        request: Request<pb::MintJwtsvidRequest>,
    ) -> Result<Response<pb::MintJwtsvidResponse>, Status> {
        let caller = super::admitted(&request)?.for_audit();
        let request = request.into_inner();
        let id = id_from_proto(request.id.as_ref(), "id").map_err(ApiError::from)?;
        let order = Order {
            request: JwtRequest {
                spiffe_id: &id,
                audience: &request.audience,
                ttl: mint::ttl(request.ttl, self.0.ttl.jwt_svid)?,
                token_id: TokenId::Omitted,
                issuer: self.0.jwt_issuer.as_deref(),
            },
            entry_id: None,
        };
        let issued = self.0.ca.issue_jwt(&caller, &order).await.map_err(ApiError::from)?;
        let svid = types::Jwtsvid { id: Some(id_to_proto(&id)), ..jwt_to_proto(issued) };
        Ok(Response::new(pb::MintJwtsvidResponse { svid: Some(svid) }))
    }

    async fn batch_new_x509svid(
        &self,
        request: Request<pb::BatchNewX509svidRequest>,
    ) -> Result<Response<pb::BatchNewX509svidResponse>, Status> {
        let params = &request.get_ref().params;
        if params.is_empty() {
            let expected = "missing parameters";
            return Err(ApiError::Invalid { field: "params", expected }.into());
        }
        let cost = u32::try_from(params.len()).unwrap_or(u32::MAX);
        self.0.charge(&request, Limited::X509Signing, cost)?;
        let results = batch::issue(&self.0, &request).await?;
        let results = results
            .iter()
            .map(|result| pb::batch_new_x509svid_response::Result {
                status: Some(item_status(result)),
                svid: result
                    .as_ref()
                    .ok()
                    .map(|(issued, entry)| x509_to_proto(issued, Some(entry))),
            })
            .collect();
        Ok(Response::new(pb::BatchNewX509svidResponse { results }))
    }

    async fn new_jwtsvid(
        &self,
        request: Request<pb::NewJwtsvidRequest>,
    ) -> Result<Response<pb::NewJwtsvidResponse>, Status> {
        self.0.charge(&request, Limited::JwtSigning, 1)?;
        let caller = super::admitted(&request)?.for_audit();
        let authorized = self.0.registry.authorized(&self.0.agent(&request).await?.id);
        let request = request.into_inner();
        let found = batch::entry_id(&request.entry_id)
            .and_then(|id| authorized.get(&id).ok_or(ApiError::NotYourEntry));
        let entry = match found {
            Ok(entry) => entry,
            Err(error) => {
                let why = error.to_string();
                let (correlation, spiffe_id, entry_id) = (None, None, None);
                let event = Event::JwtRefused { correlation, spiffe_id, entry_id, why };
                self.0.record_done(&caller, [event]).await;
                return Err(error.into());
            }
        };
        let content = &entry.content;
        let order = Order {
            request: JwtRequest {
                spiffe_id: &content.spiffe_id,
                audience: &request.audience,
                ttl: content.jwt_svid_ttl.unwrap_or(self.0.ttl.jwt_svid),
                token_id: if content.jwt_svid_include_jti {
                    TokenId::Unique
                } else {
                    TokenId::Omitted
                },
                issuer: self.0.jwt_issuer.as_deref(),
            },
            entry_id: Some(&entry.id),
        };
        let issued = self.0.ca.issue_jwt(&caller, &order).await.map_err(ApiError::from)?;
        let svid = types::Jwtsvid {
            id: Some(id_to_proto(&content.spiffe_id)),
            hint: hint(entry),
            ..jwt_to_proto(issued)
        };
        Ok(Response::new(pb::NewJwtsvidResponse { svid: Some(svid) }))
    }

    async fn mint_witsvid(
        &self,
        _: Request<pb::MintWitsvidRequest>,
    ) -> Result<Response<pb::MintWitsvidResponse>, Status> {
        Err(super::no_wit())
    }

    async fn batch_new_witsvid(
        &self,
        _: Request<pb::BatchNewWitsvidRequest>,
    ) -> Result<Response<pb::BatchNewWitsvidResponse>, Status> {
        Err(super::no_wit())
    }

    async fn new_downstream_x509ca(
        &self,
        request: Request<pb::NewDownstreamX509caRequest>,
    ) -> Result<Response<pb::NewDownstreamX509caResponse>, Status> {
        self.0.charge(&request, Limited::X509Signing, 1)?;
        Ok(Response::new(downstream::issue(&self.0, &request).await?))
    }
}

//! What the scripted server says of bundles: its trust domain is `td`, and it has that of `other`.

use steeple_proto::spire::api::server::bundle::v1 as pb;
use steeple_proto::spire::api::server::bundle::v1::bundle_server;
use steeple_proto::spire::api::types;
use tonic::{Request, Response, Status};

use super::scripted::Scripted;

type Answer<T> = Result<Response<T>, Status>;

fn named(trust_domain: &str) -> types::Bundle {
    types::Bundle { trust_domain: trust_domain.into(), ..types::Bundle::default() }
}

fn no<T>() -> Answer<T> {
    Err(Status::unimplemented("it is not in the script"))
}

#[tonic::async_trait]
impl bundle_server::Bundle for Scripted {
    async fn get_bundle(&self, _: Request<pb::GetBundleRequest>) -> Answer<types::Bundle> {
        Ok(Response::new(named("td")))
    }

    async fn list_federated_bundles(
        &self,
        _: Request<pb::ListFederatedBundlesRequest>,
    ) -> Answer<pb::ListFederatedBundlesResponse> {
        let (bundles, next_page_token) = (vec![named("other")], String::new());
        Ok(Response::new(pb::ListFederatedBundlesResponse { bundles, next_page_token }))
    }

    async fn count_bundles(
        &self,
        _: Request<pb::CountBundlesRequest>,
    ) -> Answer<pb::CountBundlesResponse> {
        no()
    }

    async fn append_bundle(&self, _: Request<pb::AppendBundleRequest>) -> Answer<types::Bundle> {
        no()
    }

    async fn publish_jwt_authority(
        &self,
        _: Request<pb::PublishJwtAuthorityRequest>,
    ) -> Answer<pb::PublishJwtAuthorityResponse> {
        no()
    }

    async fn publish_wit_authority(
        &self,
        _: Request<pb::PublishWitAuthorityRequest>,
    ) -> Answer<pb::PublishWitAuthorityResponse> {
        no()
    }

    async fn get_federated_bundle(
        &self,
        _: Request<pb::GetFederatedBundleRequest>,
    ) -> Answer<types::Bundle> {
        no()
    }

    async fn batch_create_federated_bundle(
        &self,
        _: Request<pb::BatchCreateFederatedBundleRequest>,
    ) -> Answer<pb::BatchCreateFederatedBundleResponse> {
        no()
    }

    async fn batch_update_federated_bundle(
        &self,
        _: Request<pb::BatchUpdateFederatedBundleRequest>,
    ) -> Answer<pb::BatchUpdateFederatedBundleResponse> {
        no()
    }

    async fn batch_set_federated_bundle(
        &self,
        _: Request<pb::BatchSetFederatedBundleRequest>,
    ) -> Answer<pb::BatchSetFederatedBundleResponse> {
        no()
    }

    async fn batch_delete_federated_bundle(
        &self,
        _: Request<pb::BatchDeleteFederatedBundleRequest>,
    ) -> Answer<pb::BatchDeleteFederatedBundleResponse> {
        no()
    }
}

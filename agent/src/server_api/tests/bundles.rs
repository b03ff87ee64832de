//! How bundles are asked for, of a server that answers as SPIRE's does.

use std::collections::BTreeMap;

use steeple_proto::spire::api::server::bundle::v1 as bundle;
use steeple_proto::spire::api::server::bundle::v1::bundle_server::{
    Bundle as BundleApi, BundleServer,
};

use super::*;

/// Has the bundle of `td`, and those of some foreign trust domains by the names they are asked for.
#[derive(Clone, Debug, Default)]
struct Bundles {
    foreign: BTreeMap<&'static str, types::Bundle>,
}

#[tonic::async_trait]
impl Dial for Bundles {
    async fn dial(&self) -> Result<Box<dyn Stream>, DialError> {
        Ok(serve(Server::builder().add_service(BundleServer::new(self.clone()))))
    }
}

impl Bundles {
    fn client(&self) -> Grpc {
        Grpc::new(Arc::new(Link::new(Arc::new(self.clone()), None)))
    }
}

fn wire(trust_domain: &str) -> types::Bundle {
    types::Bundle {
        trust_domain: trust_domain.into(),
        x509_authorities: vec![types::X509Certificate { asn1: vec![1], tainted: true }],
        jwt_authorities: vec![types::JwtKey {
            public_key: vec![2],
            key_id: "k".into(),
            expires_at: 9,
            tainted: false,
        }],
        refresh_hint: 300,
        sequence_number: 7,
        // Of a server that has them switched on; this agent has no use for them.
        wit_authorities: vec![types::WitKey {
            public_key: vec![3],
            key_id: "w".into(),
            expires_at: 9,
            tainted: false,
        }],
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl BundleApi for Bundles {
    async fn get_bundle(
        &self,
        request: Request<bundle::GetBundleRequest>,
    ) -> Answer<types::Bundle> {
        assert_eq!(request.get_ref().output_mask, None, "no mask is every field");
        Ok(Response::new(wire("td")))
    }

    async fn get_federated_bundle(
        &self,
        request: Request<bundle::GetFederatedBundleRequest>,
    ) -> Answer<types::Bundle> {
        let found = self.foreign.get(request.get_ref().trust_domain.as_str());
        found.cloned().map(Response::new).ok_or_else(|| Status::not_found("bundle not found"))
    }

    async fn count_bundles(
        &self,
        _: Request<bundle::CountBundlesRequest>,
    ) -> Answer<bundle::CountBundlesResponse> {
        Err(Status::unimplemented(""))
    }

    async fn append_bundle(
        &self,
        _: Request<bundle::AppendBundleRequest>,
    ) -> Answer<types::Bundle> {
        Err(Status::unimplemented(""))
    }

    async fn publish_jwt_authority(
        &self,
        _: Request<bundle::PublishJwtAuthorityRequest>,
    ) -> Answer<bundle::PublishJwtAuthorityResponse> {
        Err(Status::unimplemented(""))
    }

    async fn publish_wit_authority(
        &self,
        _: Request<bundle::PublishWitAuthorityRequest>,
    ) -> Answer<bundle::PublishWitAuthorityResponse> {
        Err(Status::unimplemented(""))
    }

    async fn list_federated_bundles(
        &self,
        _: Request<bundle::ListFederatedBundlesRequest>,
    ) -> Answer<bundle::ListFederatedBundlesResponse> {
        Err(Status::unimplemented(""))
    }

    async fn batch_create_federated_bundle(
        &self,
        _: Request<bundle::BatchCreateFederatedBundleRequest>,
    ) -> Answer<bundle::BatchCreateFederatedBundleResponse> {
        Err(Status::unimplemented(""))
    }

    async fn batch_update_federated_bundle(
        &self,
        _: Request<bundle::BatchUpdateFederatedBundleRequest>,
    ) -> Answer<bundle::BatchUpdateFederatedBundleResponse> {
        Err(Status::unimplemented(""))
    }

    async fn batch_set_federated_bundle(
        &self,
        _: Request<bundle::BatchSetFederatedBundleRequest>,
    ) -> Answer<bundle::BatchSetFederatedBundleResponse> {
        Err(Status::unimplemented(""))
    }

    async fn batch_delete_federated_bundle(
        &self,
        _: Request<bundle::BatchDeleteFederatedBundleRequest>,
    ) -> Answer<bundle::BatchDeleteFederatedBundleResponse> {
        Err(Status::unimplemented(""))
    }
}

#[tokio::test]
async fn a_bundle_is_read_with_all_that_this_agent_knows_of() {
    let own = ServerApi::bundle(&Bundles::default().client()).await.unwrap();
    assert_eq!(own.trust_domain.as_str(), "td");
    assert_eq!((own.x509_authorities.len(), own.x509_authorities[0].tainted), (1, true));
    assert_eq!((own.jwt_authorities.len(), own.jwt_authorities[0].expires_at), (1, Some(9)));
}

#[tokio::test]
async fn a_foreign_bundle_is_there_or_not_or_somebody_elses() {
    let bundles = Bundles { foreign: [("b", wire("b")), ("c", wire("d"))].into() };
    let client = bundles.client();
    let of = async |name: &str| client.federated_bundle(&name.parse().unwrap()).await;
    assert_eq!(of("b").await.unwrap().unwrap().trust_domain.as_str(), "b");
    assert_eq!(of("missing").await, Ok(None));
    assert!(matches!(of("c").await, Err(ServerError::Answer(_))));
}

//! The life of the server's authorities, as an administrator moves it on.

use steeple_proto::spire::api::server::bundle::v1 as bundle_pb;
use steeple_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use steeple_proto::spire::api::server::localauthority::v1 as pb;
use steeple_proto::spire::api::server::localauthority::v1::local_authority_client::LocalAuthorityClient;

use super::*;

/// The calls about one kind of authority, under one name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Of {
    X509,
    Jwt,
}

#[derive(Clone, Copy, Debug)]
enum Do {
    Activate,
    Taint,
    Revoke,
}

struct Admin {
    client: LocalAuthorityClient<Channel>,
    of: Of,
}

impl Admin {
    fn new(server: &Server, of: Of) -> Self {
        Self { client: LocalAuthorityClient::new(server.local()), of }
    }

    /// The names of those that are active, prepared and old.
    async fn state(&mut self) -> [Option<String>; 3] {
        let states = match self.of {
            Of::X509 => {
                let request = pb::GetX509AuthorityStateRequest {};
                let state = self.client.get_x509_authority_state(request).await.unwrap();
                let state = state.into_inner();
                [state.active, state.prepared, state.old]
            }
            Of::Jwt => {
                let request = pb::GetJwtAuthorityStateRequest {};
                let state = self.client.get_jwt_authority_state(request).await.unwrap();
                let state = state.into_inner();
                [state.active, state.prepared, state.old]
            }
        };
        states.map(|state| state.map(|state| state.authority_id))
    }

    async fn prepare(&mut self) -> pb::AuthorityState {
        let prepared = match self.of {
            Of::X509 => {
                let request = pb::PrepareX509AuthorityRequest {};
                let answer = self.client.prepare_x509_authority(request).await.unwrap();
                answer.into_inner().prepared_authority
            }
            Of::Jwt => {
                let request = pb::PrepareJwtAuthorityRequest {};
                let answer = self.client.prepare_jwt_authority(request).await.unwrap();
                answer.into_inner().prepared_authority
            }
        };
        prepared.unwrap()
    }

    async fn change(&mut self, what: Do, id: &str) -> Result<(), Status> {
        let authority_id = id.to_owned();
        let client = &mut self.client;
        match (self.of, what) {
            (Of::X509, Do::Activate) => {
                let request = pb::ActivateX509AuthorityRequest { authority_id };
                client.activate_x509_authority(request).await.map(drop)
            }
            (Of::X509, Do::Taint) => {
                let request = pb::TaintX509AuthorityRequest { authority_id };
                client.taint_x509_authority(request).await.map(drop)
            }
            (Of::X509, Do::Revoke) => {
                let request = pb::RevokeX509AuthorityRequest { authority_id };
                client.revoke_x509_authority(request).await.map(drop)
            }
            (Of::Jwt, Do::Activate) => {
                let request = pb::ActivateJwtAuthorityRequest { authority_id };
                client.activate_jwt_authority(request).await.map(drop)
            }
            (Of::Jwt, Do::Taint) => {
                let request = pb::TaintJwtAuthorityRequest { authority_id };
                client.taint_jwt_authority(request).await.map(drop)
            }
            (Of::Jwt, Do::Revoke) => {
                let request = pb::RevokeJwtAuthorityRequest { authority_id };
                client.revoke_jwt_authority(request).await.map(drop)
            }
        }
    }

    #[track_caller]
    fn check(&self, done: Result<(), Status>, code: Code, message: &str) {
        let status = done.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, message), "{:?}", self.of);
    }
}

/// What the bundle says of the authorities, oldest first.
async fn taints(server: &Server, of: Of) -> Vec<bool> {
    let mut client = BundleClient::new(server.local());
    let bundle = client.get_bundle(bundle_pb::GetBundleRequest::default()).await.unwrap();
    let bundle = bundle.into_inner();
    match of {
        Of::X509 => bundle.x509_authorities.iter().map(|authority| authority.tainted).collect(),
        Of::Jwt => bundle.jwt_authorities.iter().map(|authority| authority.tainted).collect(),
    }
}

/// LocalAuthority (spire.md 1.10), force-rotation-self-signed and force-rotation-jwt-authority
/// as far as one server goes.
#[tokio::test]
async fn an_authority_goes_from_prepared_to_revoked() {
    for of in [Of::X509, Of::Jwt] {
        let server = Server::new().await;
        let mut admin = Admin::new(&server, of);
        let [Some(first), None, None] = admin.state().await else { panic!("not one authority") };
        let second = admin.prepare().await;
        assert_eq!(admin.prepare().await, second, "it is answered again, not thrown away");
        assert!(second.expires_at > NOW && second.upstream_authority_subject_key_id.is_empty());
        let second = second.authority_id;
        assert_eq!(taints(&server, of).await, [false, false]);

        admin.change(Do::Activate, &second).await.unwrap();
        admin.change(Do::Taint, &first).await.unwrap();
        assert_eq!(admin.state().await, [Some(second.clone()), None, Some(first.clone())]);
        assert_eq!(taints(&server, of).await, [true, false]);
        admin.change(Do::Revoke, &first).await.unwrap();
        assert_eq!(taints(&server, of).await, [false]);
        assert_eq!(admin.state().await, [Some(second), None, None]);
        let done = server.audited();
        let done: Vec<_> = done.iter().filter(|event| !event.contains("intent")).collect();
        assert_eq!(
            done,
            ["authority_prepared", "authority_activated", "authority_tainted", "authority_revoked"]
        );
    }
}

#[tokio::test]
async fn each_refusal_has_the_words_of_spire() {
    for of in [Of::X509, Of::Jwt] {
        let server = Server::new().await;
        let mut admin = Admin::new(&server, of);
        let [Some(active), ..] = admin.state().await else { panic!("no authority") };
        let prepared = admin.prepare().await.authority_id;
        let invalid = Code::InvalidArgument;
        let unexpected = "unexpected authority ID: \"nobody\"";

        for what in [Do::Activate, Do::Taint] {
            let done = admin.change(what, "").await;
            admin.check(done, invalid, "no authority ID provided");
            let done = admin.change(what, "nobody").await;
            admin.check(done, invalid, unexpected);
        }
        let done = admin.change(Do::Activate, &active).await;
        admin.check(done, invalid, "unexpected authority ID: it is active already");
        let done = admin.change(Do::Taint, &active).await;
        let words = "unable to taint current local authority: activate another one before";
        admin.check(done, invalid, words);
        let done = admin.change(Do::Taint, &prepared).await;
        let words = "only Old local authorities can be tainted: unsupported local authority \
                     status: PREPARED";
        admin.check(done, invalid, words);

        let done = admin.change(Do::Revoke, "").await;
        admin.check(done, invalid, "invalid authority ID: no authority ID provided");
        let done = admin.change(Do::Revoke, &active).await;
        admin.check(done, invalid, "invalid authority ID: unable to use current authority");
        let (of_prepared, of_nobody, of_untainted) = match of {
            Of::X509 => (
                "invalid authority ID: only Old local authority can be revoked",
                "invalid authority ID: only Old local authority can be revoked",
                "it is not possible to revoke an untainted root CA; taint it before",
            ),
            Of::Jwt => (
                "invalid authority ID: unable to use a prepared key",
                "invalid authority ID: no JWT authority found with provided authority ID",
                "it is not possible to revoke an untainted key; taint it before",
            ),
        };
        let done = admin.change(Do::Revoke, &prepared).await;
        admin.check(done, invalid, of_prepared);
        let done = admin.change(Do::Revoke, "nobody").await;
        admin.check(done, invalid, of_nobody);

        admin.change(Do::Activate, &prepared).await.unwrap();
        let done = admin.change(Do::Activate, &active).await;
        let words = "only Prepared authorities can be activated: unsupported local authority \
                     status: OLD";
        admin.check(done, Code::FailedPrecondition, words);
        let done = admin.change(Do::Revoke, &active).await;
        admin.check(done, invalid, of_untainted);
    }
}

#[tokio::test]
async fn without_an_upstream_authority_there_is_none_to_change() {
    let server = Server::new().await;
    let mut client = LocalAuthorityClient::new(server.local());
    let subject_key_id = "ab".to_owned();
    let request = pb::TaintX509UpstreamAuthorityRequest { subject_key_id: subject_key_id.clone() };
    let status = client.taint_x509_upstream_authority(request).await.unwrap_err();
    let expected = (Code::FailedPrecondition, "upstream authority is not configured");
    assert_eq!((status.code(), status.message()), expected);
    let request = pb::RevokeX509UpstreamAuthorityRequest { subject_key_id };
    let status = client.revoke_x509_upstream_authority(request).await.unwrap_err();
    assert_eq!((status.code(), status.message()), expected);
}

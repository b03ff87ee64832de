//! The server's APIs as an administrator and an agent call them from this process.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use steeple::clock::{Clock as _, SystemClock};
use steeple::id::SpiffeId;
use steeple::keys::{KeyAlgorithm, PrivateKey, Signer};
use steeple::tls::{ClientDeps, Connector, ExpectedServer, Material, Trust};
use steeple::x509::csr::{self, Wish};
use steeple::x509::verify::{AnchorSet, Anchors};
use steeple::x509::{Chain, Name, Subject, X509Svid};
use steeple_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use steeple_proto::spire::api::server::agent::v1::attest_agent_request::{Params, Step};
use steeple_proto::spire::api::server::agent::v1::attest_agent_response::Step as Answer;
use steeple_proto::spire::api::server::agent::v1::{
    AgentX509svidParams, AttestAgentRequest, CreateJoinTokenRequest, RenewAgentRequest,
};
use steeple_proto::spire::api::server::bundle::v1::GetBundleRequest;
use steeple_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use steeple_proto::spire::api::types;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::Dir;

/// An agent that is nothing but its key and SVID.
pub(crate) struct BareAgent {
    pub(crate) id: types::Spiffeid,
    key: Arc<PrivateKey>,
    chain: Chain,
}

/// The admin socket of the server in `dir`, connected to when it is first used.
pub(crate) fn admin(dir: &Dir) -> Channel {
    let path = super::admin_socket(dir);
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://server").connect_with_connector_lazy(connector)
}

impl BareAgent {
    /// Joins the server in `dir`, which listens on `port`.
    pub(crate) async fn join(dir: &Dir, port: u16) -> Self {
        let request = CreateJoinTokenRequest { ttl: 60, ..Default::default() };
        let token = AgentClient::new(admin(dir)).create_join_token(request).await.unwrap();
        let data = types::AttestationData {
            r#type: "join_token".into(),
            payload: token.into_inner().value.into_bytes(),
        };
        let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
        let params = Some(AgentX509svidParams { csr: csr(&*key, None) });
        let step = Some(Step::Params(Params { data: Some(data), params }));
        let steps = futures_util::stream::iter([AttestAgentRequest { step }]);
        let mut client = AgentClient::new(connect(port, None, trust(dir).await));
        let mut answers = client.attest_agent(steps).await.unwrap().into_inner();
        let Some(Answer::Result(outcome)) = answers.message().await.unwrap().unwrap().step else {
            panic!("a join token needs no challenge")
        };
        let svid = outcome.svid.unwrap();
        Self { id: svid.id.clone().unwrap(), key, chain: chain(svid) }
    }

    /// A connection to a server, made when it is first used.
    pub(crate) fn connect(&self, port: u16, trust: &Trust) -> Channel {
        let material = Material::new(&self.chain, self.key.clone()).unwrap();
        connect(port, Some(material), trust.clone())
    }

    /// Whether its SVID is valid for no longer than this.
    pub(crate) fn ends_within(&self, time: Duration) -> bool {
        let svid = X509Svid::new(self.chain.clone()).unwrap();
        svid.not_after() <= SystemClock.now() + time
    }

    /// Takes its next SVID into use.
    pub(crate) async fn renew(&mut self, channel: Channel) -> Result<(), Status> {
        let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
        let params = Some(AgentX509svidParams { csr: csr(&*key, None) });
        let request = RenewAgentRequest { params };
        let renewed = AgentClient::new(channel).renew_agent(request).await?.into_inner();
        (self.key, self.chain) = (key, chain(renewed.svid.unwrap()));
        Ok(())
    }
}

/// The certificates of an answer.
pub(crate) fn chain(svid: types::X509svid) -> Chain {
    Chain::new(svid.cert_chain.into_iter().map(Into::into).collect()).unwrap()
}

/// A request to sign for `key`.
pub(crate) fn csr(key: &dyn Signer, spiffe_id: Option<&SpiffeId>) -> Vec<u8> {
    let subject = Name::from(&Subject::default());
    csr::make(key, &Wish { subject: &subject, spiffe_id, dns_names: &[] }).unwrap()
}

fn connect(port: u16, material: Option<Material>, trust: Trust) -> Channel {
    let spiffe_id = "spiffe://example.org/spire/server".parse().unwrap();
    let deps = ClientDeps {
        material: watch::channel(material.map(Arc::new)).1,
        server: ExpectedServer { spiffe_id, trust },
        clock: Arc::new(SystemClock),
    };
    let address = format!("127.0.0.1:{port}");
    let connector = Connector::new(&address, deps, Duration::from_secs(10)).unwrap();
    Endpoint::from_static("http://server").connect_with_connector_lazy(connector)
}

/// The authorities of the server in `dir` as they are now.
pub(crate) async fn trust(dir: &Dir) -> Trust {
    let request = GetBundleRequest::default();
    let bundle = BundleClient::new(admin(dir)).get_bundle(request).await.unwrap().into_inner();
    let bundle = steeple::convert::bundle_from_proto(&bundle).unwrap();
    let anchors = AnchorSet::of("example.org".parse().unwrap(), Anchors::from(&bundle));
    Trust::Anchors(watch::channel(Arc::new(anchors)).1)
}

//! What connects to a server as an agent does: an SVID, its key, and what the server has to prove.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls_pki_types::CertificateDer;
use steeple::clock::SystemClock;
use steeple::id::{SpiffeId, TrustDomain};
use steeple::keys::{KeyAlgorithm, PrivateKey};
use steeple::tls::{ClientDeps, Connector, ExpectedServer, Material, Trust};
use steeple::x509::verify::{AnchorSet, Anchors};
use steeple::x509::{Chain, Name, Subject, csr};
use steeple_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use steeple_proto::spire::api::server::agent::v1::{
    AgentX509svidParams, AttestAgentRequest, attest_agent_request, attest_agent_response,
};
use steeple_proto::spire::api::types;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::caller;
use crate::server::{Server, TRUST_DOMAIN};

const KEY_FILE: &str = "key.der";
const CHAIN_FILE: &str = "chain.der";
const ANCHORS_FILE: &str = "anchors.der";

/// Who connects.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: SpiffeId,
    pub(crate) material: Arc<Material>,
    pub(crate) anchors: Arc<AnchorSet>,
}

impl Node {
    /// Becomes an agent by a join token.
    pub(crate) async fn join(server: &Server) -> anyhow::Result<Self> {
        let (key, wish) = key_and_request(None)?;
        let data = types::AttestationData {
            r#type: "join_token".into(),
            payload: server.join_token().await?.into_bytes(),
        };
        let params = AgentX509svidParams { csr: wish };
        let opening = attest_agent_request::Params { data: Some(data), params: Some(params) };
        let step = Some(attest_agent_request::Step::Params(opening));
        let (messages, stream) = mpsc::channel(1);
        messages.send(AttestAgentRequest { step }).await?;
        let nobody = Self::client(None, server.server_id()?, server.anchors());
        let channel = channel(server.address(), nobody).await?;
        let mut answers =
            AgentClient::new(channel).attest_agent(ReceiverStream::new(stream)).await?.into_inner();
        match answers.message().await?.and_then(|answer| answer.step) {
            Some(attest_agent_response::Step::Result(result)) => {
                Self::of(key, result.svid.context("no SVID")?, server)
            }
            Some(attest_agent_response::Step::Challenge(_)) | None => {
                anyhow::bail!("a join token was answered with something else than an SVID")
            }
        }
    }

    /// An SVID of this path, and its key, in files of `directory` for [`Node::load`].
    pub(crate) async fn mint(
        server: &Server,
        path: &str,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let id = SpiffeId::new(&trust_domain()?, path)?;
        let (key, wish) = key_and_request(Some(&id))?;
        let svid = server.mint(wish).await?;
        fs::create_dir(directory)?;
        fs::write(directory.join(KEY_FILE), key.pkcs8()?.expose())?;
        fs::write(directory.join(CHAIN_FILE), svid.cert_chain.concat())?;
        fs::write(directory.join(ANCHORS_FILE), server.authorities().concat())?;
        Self::of(key, svid, server)
    }

    /// Reads what [`Node::mint`] wrote.
    pub(crate) fn load(directory: &Path) -> anyhow::Result<Self> {
        let chain = Chain::from_concatenated(&fs::read(directory.join(CHAIN_FILE))?)?;
        let anchors = Chain::from_concatenated(&fs::read(directory.join(ANCHORS_FILE))?)?;
        let key = PrivateKey::from_pkcs8(&fs::read(directory.join(KEY_FILE))?)?;
        let anchors = AnchorSet::of(trust_domain()?, Anchors::new(anchors.certificates()));
        let id = steeple::x509::X509Svid::new(chain.clone())?.spiffe_id().clone();
        let material = Arc::new(Material::new(&chain, Arc::new(key))?);
        Ok(Self { id, material, anchors: Arc::new(anchors) })
    }

    fn of(key: PrivateKey, svid: types::X509svid, server: &Server) -> anyhow::Result<Self> {
        let chain = svid.cert_chain.into_iter().map(CertificateDer::from).collect();
        let chain = Chain::new(chain)?;
        let id = steeple::x509::X509Svid::new(chain.clone())?.spiffe_id().clone();
        let material = Arc::new(Material::new(&chain, Arc::new(key))?);
        Ok(Self { id, material, anchors: server.anchors() })
    }

    /// Opens a connection to `address`, where `id` has to be, and presents this node's SVID.
    pub(crate) async fn connect(&self, address: &str, id: &SpiffeId) -> anyhow::Result<Channel> {
        let material = Some(Arc::clone(&self.material));
        channel(address, Self::client(material, id.clone(), Arc::clone(&self.anchors))).await
    }

    fn client(
        material: Option<Arc<Material>>,
        spiffe_id: SpiffeId,
        anchors: Arc<AnchorSet>,
    ) -> ClientDeps {
        let trust = Trust::Anchors(watch::Sender::new(anchors).subscribe());
        ClientDeps {
            material: watch::Sender::new(material).subscribe(),
            server: ExpectedServer { spiffe_id, trust },
            clock: Arc::new(SystemClock),
        }
    }
}

pub(crate) fn trust_domain() -> anyhow::Result<TrustDomain> {
    Ok(TrustDomain::parse(TRUST_DOMAIN)?)
}

/// A new key, and a request for a certificate of it.
pub(crate) fn key_and_request(id: Option<&SpiffeId>) -> anyhow::Result<(PrivateKey, Vec<u8>)> {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256)?;
    let subject = Name::from(&Subject::default());
    let wish = csr::Wish { subject: &subject, spiffe_id: id, dns_names: &[] };
    let request = csr::make(&key, &wish)?;
    Ok((key, request))
}

async fn channel(address: &str, deps: ClientDeps) -> anyhow::Result<Channel> {
    let connector = Connector::new(address, deps, Duration::from_secs(10))?;
    Ok(caller::endpoint().connect_with_connector(connector).await?)
}

//! SPIRE's server APIs as a client of them: requests out, answers read into the agent's own types.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use steeple::bundle::Bundle;
use steeple::convert::{ConvertError, bundle_from_proto, id_from_proto};
use steeple::entry::{Entry, EntryId};
use steeple::id::TrustDomain;
use steeple_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use steeple_proto::spire::api::server::agent::v1::{
    AgentX509svidParams, PostStatusRequest, RenewAgentRequest,
};
use steeple_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use steeple_proto::spire::api::server::bundle::v1::{GetBundleRequest, GetFederatedBundleRequest};
use steeple_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use steeple_proto::spire::api::server::svid::v1::{
    BatchNewX509svidRequest, NewJwtsvidRequest, NewX509svidParams, batch_new_x509svid_response,
};
use steeple_proto::steeple::authority::v1::authority_use_client::AuthorityUseClient;
use steeple_proto::steeple::authority::v1::{Holding, ReportUseRequest};
use tonic::Code;
use tracing::info;

use super::attest::chain;
use super::entries::{self, Unreadable};
use super::link::{Link, request};
use super::node_api::{AttestError, Attested, NodeApi, Opening, Responder};
use super::status::mint_refusal;
use super::{
    BearerToken, KnownEntries, MAX_ANSWER, MintRefusal, Minted, MintedJwt, ServerApi, ServerError,
    X509Mint,
};
use crate::census::Use;

/// How many SVIDs are asked for in one call, as that is what servers sign in one.
const BATCH: usize = 500;

/// How many authorities of a kind a report names.
const MAX_REPORTED: usize = 32;

/// A server behind a [`Link`].
#[derive(Debug)]
pub struct Grpc {
    link: Arc<Link>,
    unreadable: Unreadable,
    without_sync: AtomicBool,
}

impl Grpc {
    /// The server that `link` leads to.
    #[must_use]
    pub fn new(link: Arc<Link>) -> Self {
        Self { link, unreadable: Unreadable::default(), without_sync: AtomicBool::new(false) }
    }

    async fn mint_batch(
        &self,
        requests: &[X509Mint],
    ) -> Result<Vec<Result<Minted, MintRefusal>>, ServerError> {
        let params: Vec<_> = requests
            .iter()
            .map(|mint| NewX509svidParams {
                entry_id: mint.entry_id.to_string(),
                csr: mint.csr.clone(),
            })
            .collect();
        let answer = self
            .link
            .call(|channel| {
                let message = BatchNewX509svidRequest { params: params.clone() };
                async move {
                    let mut client = SvidClient::new(channel).max_decoding_message_size(MAX_ANSWER);
                    client.batch_new_x509svid(request(message)).await
                }
            })
            .await?
            .into_inner();
        if answer.results.len() != requests.len() {
            return Err(ServerError::Answer(format!(
                "{} results for {} requests",
                answer.results.len(),
                requests.len()
            )));
        }
        Ok(answer.results.into_iter().map(minted).collect())
    }

    async fn fetch_bundle(&self) -> Result<Bundle, ServerError> {
        let answer = self.link.call(|channel| async move {
            let mut client = BundleClient::new(channel).max_decoding_message_size(MAX_ANSWER);
            client.get_bundle(request(GetBundleRequest { output_mask: None })).await
        });
        bundle_from_proto(&answer.await?.into_inner()).map_err(unreadable)
    }
}

#[tonic::async_trait]
impl ServerApi for Grpc {
    async fn mint_x509(
        &self,
        requests: Vec<X509Mint>,
    ) -> Result<Vec<Result<Minted, MintRefusal>>, ServerError> {
        let mut results = Vec::with_capacity(requests.len());
        for batch in requests.chunks(BATCH) {
            results.extend(self.mint_batch(batch).await?);
        }
        Ok(results)
    }

    async fn mint_jwt(
        &self,
        entry: &EntryId,
        audience: &[String],
    ) -> Result<MintedJwt, ServerError> {
        let answer = self.link.call(|channel| async move {
            let mut client = SvidClient::new(channel).max_decoding_message_size(MAX_ANSWER);
            let message =
                NewJwtsvidRequest { entry_id: entry.to_string(), audience: audience.to_vec() };
            client.new_jwtsvid(request(message)).await
        });
        let svid = answer.await?.into_inner().svid;
        let svid = svid.ok_or_else(|| ServerError::Answer("svid is missing".into()))?;
        if svid.token.is_empty() {
            return Err(ServerError::Answer("svid.token is empty".into()));
        }
        Ok(MintedJwt {
            spiffe_id: id_from_proto(svid.id.as_ref(), "svid.id").map_err(unreadable)?,
            token: BearerToken::new(svid.token),
            issued_at: svid.issued_at,
            expires_at: svid.expires_at,
        })
    }

    async fn sync_entries(&self, known: &KnownEntries) -> Result<Vec<Arc<Entry>>, ServerError> {
        let noted = &self.unreadable;
        if !self.without_sync.load(Ordering::Relaxed) {
            match self.link.call(|channel| entries::sync(channel, known, noted)).await {
                Err(ServerError::Unsupported(_)) => {
                    info!("the server has no differential sync, so each one fetches every entry");
                    self.without_sync.store(true, Ordering::Relaxed);
                }
                outcome => return outcome,
            }
        }
        self.link.call(|channel| entries::all(channel, known, noted)).await
    }

    async fn bundle(&self) -> Result<Bundle, ServerError> {
        self.fetch_bundle().await
    }

    async fn federated_bundle(
        &self,
        trust_domain: &TrustDomain,
    ) -> Result<Option<Bundle>, ServerError> {
        let answer = self.link.call(|channel| async move {
            let mut client = BundleClient::new(channel).max_decoding_message_size(MAX_ANSWER);
            let message = GetFederatedBundleRequest {
                trust_domain: trust_domain.to_string(),
                output_mask: None,
            };
            match client.get_federated_bundle(request(message)).await {
                Ok(answer) => Ok(Some(answer.into_inner())),
                Err(status) if status.code() == Code::NotFound => Ok(None),
                Err(status) => Err(status),
            }
        });
        let Some(bundle) = answer.await? else {
            return Ok(None);
        };
        let bundle = bundle_from_proto(&bundle).map_err(unreadable)?;
        if bundle.trust_domain != *trust_domain {
            return Err(ServerError::Answer(format!(
                "the bundle of {} where that of {trust_domain} was asked for",
                bundle.trust_domain
            )));
        }
        Ok(Some(bundle))
    }

    async fn report_use(&self, held: &Use) -> Result<Duration, ServerError> {
        let holdings = |of_kind: &BTreeMap<String, u32>| {
            let holding =
                |(id, svids): (&String, &u32)| Holding { authority_id: id.clone(), svids: *svids };
            of_kind.iter().take(MAX_REPORTED).map(holding).collect::<Vec<_>>()
        };
        let answer = self.link.call(|channel| {
            let message = ReportUseRequest {
                bundle_sequence: held.bundle_sequence,
                x509: holdings(&held.held.x509),
                jwt: holdings(&held.held.jwt),
                agent_authority_ids: held.own.clone(),
            };
            async move { AuthorityUseClient::new(channel).report_use(request(message)).await }
        });
        let again_after = answer.await?.into_inner().report_again_after;
        Ok(Duration::from_secs(again_after.into()))
    }
}

#[tonic::async_trait]
impl NodeApi for Grpc {
    async fn attest(
        &self,
        opening: Opening,
        responder: &dyn Responder,
    ) -> Result<Attested, AttestError> {
        // What went wrong is either the server's affair or the responder's: the link knows of the
        // first alone.
        let exchange = self.link.call(|channel| async {
            Ok(super::attest::attest(channel, &opening, responder).await)
        });
        exchange.await?
    }

    async fn renew(&self, csr: Vec<u8>) -> Result<Vec<CertificateDer<'static>>, ServerError> {
        let answer = self.link.call(|channel| {
            let params = Some(AgentX509svidParams { csr: csr.clone() });
            async move {
                let mut client = AgentClient::new(channel).max_decoding_message_size(MAX_ANSWER);
                client.renew_agent(request(RenewAgentRequest { params })).await
            }
        });
        let svid = answer.await?.into_inner().svid;
        chain(svid.ok_or_else(|| ServerError::Answer("svid is missing".into()))?)
    }

    async fn post_status(&self, version: &str) -> Result<(), ServerError> {
        let answer = self.link.call(|channel| async move {
            let mut client = AgentClient::new(channel);
            let message =
                PostStatusRequest { current_bundle_serial: 0, agent_version: version.to_owned() };
            client.post_status(request(message)).await
        });
        answer.await.map(|_nothing| ())
    }

    async fn own_bundle(&self) -> Result<Bundle, ServerError> {
        self.fetch_bundle().await
    }
}

fn minted(result: batch_new_x509svid_response::Result) -> Result<Minted, MintRefusal> {
    let svid = result.svid.ok_or_else(|| mint_refusal(result.status.as_ref()))?;
    let failed = |error: String| MintRefusal::Failed(error);
    Ok(Minted {
        spiffe_id: id_from_proto(svid.id.as_ref(), "svid.id")
            .map_err(|error| failed(error.to_string()))?,
        chain: chain(svid).map_err(|error| failed(error.to_string()))?,
    })
}

fn unreadable(error: ConvertError) -> ServerError {
    ServerError::Answer(error.to_string())
}

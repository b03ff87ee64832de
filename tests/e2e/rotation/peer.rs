//! A workload that uses what it holds at each moment, and counts what comes of it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use steeple::bundle::Bundle;
use steeple::clock::{Clock as _, SystemClock};
use steeple::id::{SpiffeId, TrustDomain};
use steeple::jwk;
use steeple::jwt;
use steeple::jwt::keys::JwtKeys;
use steeple::jwt::verify::{Expected, verify};
use steeple::keys::PrivateKey;
use steeple::tls::{Acceptor, ClientDeps, Connector, ExpectedServer, Material, ServerDeps, Trust};
use steeple::x509::verify::{AnchorSet, Anchors};
use steeple::x509::{Chain, X509Svid, split_certificates};
use steeple_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, ValidateJwtsvidRequest, X509svid,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::Streaming;

use crate::harness::workload::{Client, connect, request, watch as watch_svids};

/// Where the agent is, for a process that is to be a peer.
pub(super) const SOCKET: &str = "STEEPLE_TEST_PEER_OF";

/// How often it calls the next one, in milliseconds.
pub(super) const PACE: &str = "STEEPLE_TEST_PEER_PACE";

const DEADLINE: Duration = Duration::from_secs(30);

/// What a peer did.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Outcome {
    pub(super) handshakes: usize,
    pub(super) tokens: usize,
    /// How many authorities signed what it presented.
    pub(super) x509_authorities: usize,
    pub(super) jwt_authorities: usize,
    pub(super) failures: Vec<String>,
}

type Failure = Box<dyn Error>;

/// What a peer holds.
struct Held {
    material: watch::Sender<Arc<Material>>,
    /// The same, for the side that may have none.
    presented: watch::Sender<Option<Arc<Material>>>,
    anchors: watch::Sender<Arc<AnchorSet>>,
    jwt_keys: watch::Sender<Arc<JwtKeys>>,
    /// How many authorities of each kind the bundles have.
    x509_known: Cell<usize>,
    jwt_known: Cell<usize>,
}

/// Does what a peer does, until the order to stop.
pub(super) fn run(socket: PathBuf) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(work(&socket)).unwrap();
    println!("\ndid {}", serde_json::to_string(&outcome).unwrap());
}

async fn work(socket: &Path) -> Result<Outcome, Failure> {
    let mut client = connect(socket).await;
    let (first, svids) = watch_svids(&mut client).await?;
    let asked = request(JwtBundlesRequest {});
    let mut bundles = client.fetch_jwt_bundles(asked).await?.into_inner();
    let held = Held::of(&first.svids[0], &bundles.message().await?.ok_or("no JWT bundle")?)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("\nlistens {}", listener.local_addr()?.port());
    let ports = order().await?;

    let (notes, quiet) = (RefCell::new(Notes::default()), Cell::new(false));
    let stops = async {
        order().await?;
        quiet.set(true);
        order().await.map(drop)
    };
    let ended: Result<(), Failure> = tokio::select! {
        stopped = stops => stopped,
        Err(error) = follow_svids(svids, &held, &notes) => Err(error),
        Err(error) = follow_bundles(bundles, &held) => Err(error),
        Err(error) = answer(&listener, &held, client.clone(), &notes) => Err(error),
        Err(error) = call((&ports, &quiet), &held, client.clone(), &notes) => Err(error),
    };
    let mut notes = notes.into_inner();
    if let Err(error) = ended {
        notes.outcome.failures.push(error.to_string());
    }
    Ok(notes.outcome())
}

/// The next order, one line each.
async fn order() -> Result<String, Failure> {
    let (give, order) = tokio::sync::oneshot::channel();
    std::thread::spawn(|| give.send(std::io::stdin().lines().next()));
    Ok(order.await?.ok_or("no more orders")??)
}

#[derive(Default)]
struct Notes {
    outcome: Outcome,
    x509_authorities: BTreeSet<String>,
    jwt_authorities: BTreeSet<String>,
}

impl Notes {
    fn outcome(self) -> Outcome {
        Outcome {
            x509_authorities: self.x509_authorities.len(),
            jwt_authorities: self.jwt_authorities.len(),
            ..self.outcome
        }
    }
}

impl Held {
    fn of(svid: &X509svid, bundles: &JwtBundlesResponse) -> Result<Self, Failure> {
        let (material, anchors) = read(svid)?;
        let bundle = read_jwt_bundle(bundles)?;
        Ok(Self {
            presented: watch::Sender::new(Some(material.clone())),
            material: watch::Sender::new(material),
            anchors: watch::Sender::new(anchors),
            jwt_keys: watch::Sender::new(Arc::new(JwtKeys::new(&bundle.jwt_authorities))),
            x509_known: Cell::new(split_certificates(&svid.bundle, 100)?.len()),
            jwt_known: Cell::new(bundle.jwt_authorities.len()),
        })
    }

    /// Says how many authorities it knows.
    fn tell(&self) {
        println!("\nknows {} {}", self.x509_known.get(), self.jwt_known.get());
    }
}

async fn follow_svids(
    mut stream: Streaming<steeple_proto::workload::X509svidResponse>,
    held: &Held,
    notes: &RefCell<Notes>,
) -> Result<Infallible, Failure> {
    loop {
        let message = stream.message().await?.ok_or("the stream of SVIDs ended")?;
        let (material, anchors) = read(&message.svids[0])?;
        let svid = X509Svid::new(material.chain().clone())?;
        let authority = svid.authority_key_id().ok_or("no authority")?.to_owned();
        if notes.borrow_mut().x509_authorities.insert(authority.clone()) {
            println!("\nholds {authority}");
        }
        held.anchors.send_replace(anchors);
        held.x509_known.set(split_certificates(&message.svids[0].bundle, 100)?.len());
        held.tell();
        held.material.send_replace(material.clone());
        held.presented.send_replace(Some(material));
    }
}

async fn follow_bundles(
    mut stream: Streaming<JwtBundlesResponse>,
    held: &Held,
) -> Result<Infallible, Failure> {
    loop {
        let message = stream.message().await?.ok_or("the stream of JWT bundles ended")?;
        let bundle = read_jwt_bundle(&message)?;
        held.jwt_keys.send_replace(Arc::new(JwtKeys::new(&bundle.jwt_authorities)));
        held.jwt_known.set(bundle.jwt_authorities.len());
        held.tell();
    }
}

/// Accepts connections, and says of the token on each whether it is valid.
async fn answer(
    listener: &TcpListener,
    held: &Held,
    client: Client,
    notes: &RefCell<Notes>,
) -> Result<Infallible, Failure> {
    let deps = ServerDeps {
        material: held.material.subscribe(),
        anchors: held.anchors.subscribe(),
        clock: Arc::new(SystemClock),
    };
    let acceptor = Acceptor::new(deps, DEADLINE)?;
    loop {
        let (stream, _) = listener.accept().await?;
        if let Err(error) = one_answer(&acceptor, stream, held, client.clone()).await {
            notes.borrow_mut().outcome.failures.push(format!("as a server: {error:?}"));
        }
    }
}

async fn one_answer(
    acceptor: &Acceptor,
    stream: TcpStream,
    held: &Held,
    mut client: Client,
) -> Result<(), Failure> {
    let mut accepted = acceptor.accept(stream).await?;
    let steeple::tls::Client::Peer(caller) = accepted.client else {
        return Err("no client SVID".into());
    };
    if *caller.spiffe_id() != id() {
        return Err(caller.spiffe_id().to_string().into());
    }
    let mut token = String::new();
    accepted.stream.read_to_string(&mut token).await?;
    let keys = held.jwt_keys.borrow().clone();
    let expected = Expected { audience: "peers", own: &own() };
    verify(&token, &expected, |_| Some(keys), SystemClock.now())?;
    // And as the agent does it for those who ask it to.
    let asked = ValidateJwtsvidRequest { audience: "peers".into(), svid: token };
    client.validate_jwtsvid(request(asked)).await?;
    accepted.stream.write_all(b"valid").await?;
    accepted.stream.shutdown().await?;
    Ok(())
}

/// Calls one of the others after the other, until it is to be quiet.
async fn call(
    (ports, quiet): (&str, &Cell<bool>),
    held: &Held,
    mut client: Client,
    notes: &RefCell<Notes>,
) -> Result<Infallible, Failure> {
    let deps = ClientDeps {
        material: held.presented.subscribe(),
        server: ExpectedServer { spiffe_id: id(), trust: Trust::Anchors(held.anchors.subscribe()) },
        clock: Arc::new(SystemClock),
    };
    let pace = std::env::var(PACE)?.parse().map(Duration::from_millis)?;
    loop {
        for port in ports.split(' ') {
            let connector = Connector::new(&format!("127.0.0.1:{port}"), deps.clone(), DEADLINE)?;
            match one_call(&connector, &mut client, notes).await {
                Ok(()) => println!("\ncalled"),
                Err(error) => {
                    notes.borrow_mut().outcome.failures.push(format!("as a client: {error:?}"));
                }
            }
            if quiet.get() {
                println!("\nquiet");
                return std::future::pending().await;
            }
            tokio::time::sleep(pace).await;
        }
    }
}

async fn one_call(
    connector: &Connector,
    client: &mut Client,
    notes: &RefCell<Notes>,
) -> Result<(), Failure> {
    let mut connected = connector.connect().await?;
    let asked = JwtsvidRequest { audience: vec!["peers".into()], spiffe_id: String::new() };
    let token = client.fetch_jwtsvid(request(asked)).await?.into_inner().svids.remove(0).svid;
    let key = jwt::parse::parse(&token)?.key_id.ok_or("no key ID")?.to_string();
    if notes.borrow_mut().jwt_authorities.insert(key.clone()) {
        println!("\npresents {key}");
    }
    connected.stream.write_all(token.as_bytes()).await?;
    connected.stream.shutdown().await?;
    let mut said = String::new();
    connected.stream.read_to_string(&mut said).await?;
    if said != "valid" {
        return Err("the token is not valid".into());
    }
    let outcome = &mut notes.borrow_mut().outcome;
    outcome.handshakes += 1;
    outcome.tokens += 1;
    Ok(())
}

fn read(svid: &X509svid) -> Result<(Arc<Material>, Arc<AnchorSet>), Failure> {
    let chain = Chain::from_concatenated(&svid.x509_svid)?;
    let key = Arc::new(PrivateKey::from_pkcs8(&svid.x509_svid_key)?);
    let certificates = split_certificates(&svid.bundle, 100)?;
    let anchors = AnchorSet::of(own(), Anchors::new(certificates.iter()));
    Ok((Arc::new(Material::new(&chain, key)?), Arc::new(anchors)))
}

fn read_jwt_bundle(bundles: &JwtBundlesResponse) -> Result<Bundle, Failure> {
    let document = bundles.bundles.get("spiffe://example.org").ok_or("no bundle of our own")?;
    // The Workload API gives plain JWK sets; the keys in the document of a bundle say their use.
    let mut document: Value = serde_json::from_slice(document)?;
    for key in document["keys"].as_array_mut().ok_or("no keys")? {
        key["use"] = "jwt-svid".into();
    }
    let document = serde_json::to_vec(&document)?;
    Ok(jwk::parse::bundle_document(own(), &document, SystemClock.now())?.bundle)
}

fn own() -> TrustDomain {
    "example.org".parse().unwrap()
}

fn id() -> SpiffeId {
    "spiffe://example.org/peer".parse().unwrap()
}

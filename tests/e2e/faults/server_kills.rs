//! A server that is killed at random moments, while it is told and asked all sorts of things.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use steeple::keys::{KeyAlgorithm, PrivateKey};
use steeple_proto::spire::api::server::bundle::v1::GetBundleRequest;
use steeple_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use steeple_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use steeple_proto::spire::api::server::entry::v1::{
    BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, ListEntriesRequest,
};
use steeple_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use steeple_proto::spire::api::server::svid::v1::{
    BatchNewX509svidRequest, MintJwtsvidRequest, MintX509svidRequest, NewJwtsvidRequest,
    NewX509svidParams,
};
use steeple_proto::spire::api::types;
use tokio::runtime::{Builder, Runtime};
use tonic::Status;
use tonic::transport::Channel;

use super::audited::Told;
use super::ledger::Ledger;
use crate::harness::api::{self, BareAgent};
use crate::harness::process::Process;
use crate::harness::random::Random;
use crate::harness::{Dir, Joins, Settings, audit, launch_server, port, start_server};

/// How often a server is killed, by each of two who do.
const KILLS: usize = 100;

/// The largest number of answers that a server gives before it is killed.
const ANSWERS: u64 = 60;

/// About how long a server takes to start.
const START: Duration = Duration::from_millis(80);

/// How often the answers are counted.
const TICK: Duration = Duration::from_millis(2);

/// What an SVID has left when it is renewed without a risk.
const SHORT: Duration = Duration::from_secs(20);

/// Authorities rotate in the course of it, and no limit keeps anybody waiting.
const SETTINGS: Settings = Settings {
    environment: &[],
    server: "ca_ttl = \"30s\"\nratelimit = { signing = false }\n",
    agent: "",
    joins: Joins::ByToken,
};

#[test]
fn what_a_killed_server_acknowledged_and_signed_is_there_afterwards() {
    let mut random = Random::new();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for killer in 0..2 {
            let random = random.split();
            scope.spawn(move || {
                let told = Victim::new(random).run();
                println!("{killer}: {} in {:?}", told.summary(), started.elapsed());
            });
        }
    });
}

/// A server that is killed again and again, and those who work with it.
struct Victim {
    dir: Dir,
    random: Random,
    agent: BareAgent,
    workload: Workload,
    clients: Clients,
}

/// What the clients of the server know.
struct Clients {
    writers: [Ledger; 4],
    minter: Ledger,
    agent: Ledger,
    /// How many answers they have heard.
    answers: Rc<Cell<u64>>,
}

/// What the agent asks SVIDs for.
struct Workload {
    entry_id: String,
    csr: Vec<u8>,
}

impl Victim {
    fn new(random: Random) -> Self {
        let dir = Dir::in_memory();
        let mut server = start_server(&dir, SETTINGS, 0);
        let victim = runtime().block_on(async {
            let agent = BareAgent::join(&dir, port(&server)).await;
            let mut clients = Clients::new();
            clients.agent.asks_to_create("/workload");
            let request = creation("/workload", &agent.id);
            let mut admin = EntryClient::new(api::admin(&dir));
            let created = admin.batch_create_entry(request).await.unwrap().into_inner();
            let entry = created.results[0].entry.clone().unwrap();
            clients.agent.created(&entry);
            let csr = api::csr(&PrivateKey::generate(KeyAlgorithm::EcP256).unwrap(), None);
            let workload = Workload { entry_id: entry.id, csr };
            (agent, workload, clients)
        });
        server.kill();
        let (agent, workload, clients) = victim;
        Self { dir, random, agent, workload, clients }
    }

    /// Lives and dies. All that was told in the meantime.
    fn run(mut self) -> Told {
        for life in 0..KILLS {
            if self.random.below(4) == 0 {
                // It may not even have started.
                let mut server = launch_server(&self.dir, SETTINGS, 0);
                std::thread::park_timeout(self.random.time(START));
                server.kill();
            } else {
                let mut server = start_server(&self.dir, SETTINGS, 0);
                runtime().block_on(self.live(life, &mut server));
            }
        }
        let mut server = start_server(&self.dir, SETTINGS, 0);
        runtime().block_on(self.check());
        assert!(server.stop().success());
        let mut told = Told::default();
        self.clients.all().for_each(|ledger| told.add(std::mem::take(&mut ledger.told)));
        told.check(&audit(&self.dir));
        told
    }

    async fn live(&mut self, life: usize, server: &mut Process) {
        self.check().await;
        let (port, trust) = (port(server), api::trust(&self.dir).await);
        // Nobody kills it yet: what is left of the SVID may be less than the lives take in which the
        // server ends before it is asked for another one.
        if self.agent.ends_within(SHORT) {
            self.agent.renew(self.agent.connect(port, &trust)).await.unwrap();
        }
        let admin = api::admin(&self.dir);
        let (answers, more) = (self.clients.answers.clone(), self.random.below(ANSWERS));
        let (last, delay) = (answers.get() + more, self.random.time(TICK));
        let writers = self.clients.writers.iter_mut().enumerate().map(|(number, ledger)| {
            let path = format!("/{life}/{number}");
            write(ledger, self.random.split(), path, admin.clone())
        });
        let agent = async {
            self.agent.renew(self.agent.connect(port, &trust)).await?;
            let channel = self.agent.connect(port, &trust);
            ask(&mut self.clients.agent, &self.workload, channel).await
        };
        let minter = mint(&mut self.clients.minter, admin.clone());
        let killed = Cell::new(false);
        let killer = async {
            while answers.get() < last {
                tokio::time::sleep(TICK).await;
            }
            tokio::time::sleep(delay).await;
            killed.set(true);
            server.kill();
        };
        let writers = join_all(writers.map(|writer| ends_with_it(&killed, writer)));
        let others = (ends_with_it(&killed, agent), ends_with_it(&killed, minter));
        tokio::join!(killer, writers, others.0, others.1);
    }

    /// What the server knows is what its clients were told.
    async fn check(&mut self) {
        let channel = api::admin(&self.dir);
        let request = GetBundleRequest::default();
        let bundle = BundleClient::new(channel.clone()).get_bundle(request).await;
        let bundle = bundle.unwrap().into_inner();
        let listed = EntryClient::new(channel).list_entries(ListEntriesRequest::default()).await;
        let listed = listed.unwrap().into_inner();
        assert_eq!(listed.next_page_token, "");
        let mut found = listed.entries.into_iter().map(|entry| (entry.id.clone(), entry)).collect();
        for ledger in self.clients.all() {
            ledger.settle(&mut found);
            ledger.check_authorities(&bundle);
        }
        assert!(found.is_empty(), "nobody asked for {found:?}");
    }
}

impl Clients {
    fn new() -> Self {
        let answers = Rc::new(Cell::new(0));
        let ledger = || Ledger::counting(answers.clone());
        let writers = std::array::from_fn(|_| ledger());
        Self { writers, minter: ledger(), agent: ledger(), answers }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Ledger> {
        self.writers.iter_mut().chain([&mut self.minter, &mut self.agent])
    }
}

/// Lets a client go on until the server has been killed.
async fn ends_with_it(
    killed: &Cell<bool>,
    client: impl Future<Output = Result<Infallible, Status>>,
) {
    let Err(status) = client.await;
    assert!(killed.get(), "the server lives, and says {status}");
}

/// Creates, changes and deletes entries.
async fn write(
    ledger: &mut Ledger,
    mut random: Random,
    name: String,
    channel: Channel,
) -> Result<Infallible, Status> {
    let mut client = EntryClient::new(channel);
    for number in 0.. {
        let entries = ledger.len().try_into().unwrap();
        match random.below(4) {
            0 | 1 if entries < 40 => {
                let path = format!("{name}/{number}");
                ledger.asks_to_create(&path);
                let request = creation(&path, &id("/node"));
                let answer = client.batch_create_entry(request).await?.into_inner();
                ledger.created(done(&answer.results[0].status, &answer.results[0].entry));
            }
            2 if entries > 0 => {
                let (id, hint) = (ledger.entry(random.below(entries)), number.to_string());
                ledger.asks_to_update(&id, &hint);
                let entry = types::Entry { id, hint, ..Default::default() };
                let input_mask = Some(types::EntryMask { hint: true, ..Default::default() });
                let request =
                    BatchUpdateEntryRequest { entries: vec![entry], input_mask, output_mask: None };
                let answer = client.batch_update_entry(request).await?.into_inner();
                ledger.updated(done(&answer.results[0].status, &answer.results[0].entry));
            }
            _ if entries > 0 => {
                let id = ledger.entry(random.below(entries));
                ledger.asks_to_delete(&id);
                let request = BatchDeleteEntryRequest { ids: vec![id.clone()] };
                let answer = client.batch_delete_entry(request).await?.into_inner();
                done(&answer.results[0].status, &Some(()));
                ledger.deleted(&id);
            }
            _ => {}
        }
    }
    unreachable!()
}

/// Mints as an administrator.
async fn mint(ledger: &mut Ledger, channel: Channel) -> Result<Infallible, Status> {
    let spiffe_id = "spiffe://example.org/minted".parse().unwrap();
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let csr = api::csr(&key, Some(&spiffe_id));
    let mut client = SvidClient::new(channel);
    loop {
        let request = MintX509svidRequest { csr: csr.clone(), ttl: 0 };
        let svid = client.mint_x509svid(request).await?.into_inner().svid;
        ledger.signed(svid.unwrap());
        let audience = vec!["somebody".to_owned()];
        let request = MintJwtsvidRequest { id: Some(id("/minted")), audience, ttl: 0 };
        let token = client.mint_jwtsvid(request).await?.into_inner().svid;
        ledger.signed_token(&token.unwrap().token);
    }
}

/// Asks for SVIDs as an agent.
async fn ask(
    ledger: &mut Ledger,
    workload: &Workload,
    channel: Channel,
) -> Result<Infallible, Status> {
    let mut client = SvidClient::new(channel);
    let wish = NewX509svidParams { entry_id: workload.entry_id.clone(), csr: workload.csr.clone() };
    loop {
        let request = BatchNewX509svidRequest { params: vec![wish.clone(); 3] };
        for result in client.batch_new_x509svid(request).await?.into_inner().results {
            ledger.signed(done(&result.status, &result.svid).clone());
        }
        let (entry_id, audience) = (workload.entry_id.clone(), vec!["somebody".to_owned()]);
        let request = NewJwtsvidRequest { entry_id, audience };
        let token = client.new_jwtsvid(request).await?.into_inner().svid;
        ledger.signed_token(&token.unwrap().token);
    }
}

/// The result of one item, which succeeded.
#[track_caller]
fn done<'a, T>(status: &Option<types::Status>, result: &'a Option<T>) -> &'a T {
    let status = status.as_ref().unwrap();
    assert_eq!(status.code, 0, "{status:?}");
    result.as_ref().unwrap()
}

fn creation(path: &str, parent_id: &types::Spiffeid) -> BatchCreateEntryRequest {
    let selector = types::Selector { r#type: "unix".into(), value: "uid:1".into() };
    let entry = types::Entry {
        spiffe_id: Some(id(path)),
        parent_id: Some(parent_id.clone()),
        selectors: vec![selector],
        ..Default::default()
    };
    BatchCreateEntryRequest { entries: vec![entry], output_mask: None }
}

fn id(path: &str) -> types::Spiffeid {
    types::Spiffeid { trust_domain: "example.org".into(), path: path.into() }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

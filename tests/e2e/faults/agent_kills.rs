//! An agent that is killed at random moments, while it attests, renews and serves.

use std::time::{Duration, Instant};

use steeple::keys::{PrivateKey, Signer as _};
use steeple::x509::{Certificate, split_certificates};
use steeple_proto::workload::{JwtsvidRequest, X509svid};
use tonic::Status;

use super::audited::Told;
use crate::harness::random::Random;
use crate::harness::workload::{request, try_connect, watch};
use crate::harness::{Deployment, Joins, Settings, eventually};
use crate::workload_api::this_user;

const KILLS: usize = 200;

/// The longest that an agent is left to work once it has served something.
const LIFE: Duration = Duration::from_millis(60);

/// About how long an agent takes to start.
const START: Duration = Duration::from_millis(80);

/// It is time to renew the agent's SVID in one life of a few, and there are some more lives in which
/// it can be before it has expired.
const SETTINGS: Settings = Settings {
    environment: &[],
    server: "agent_ttl = \"15s\"\nratelimit = { attestation = false, signing = false }\n",
    agent: "",
    joins: Joins::ByToken,
};

#[test]
fn a_killed_agent_is_the_same_agent_and_serves_nothing_unrecorded() {
    let mut random = Random::new();
    let started = Instant::now();
    let mut node = Deployment::with(SETTINGS);
    node.register("/web", &[&this_user()]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut told = Told::default();
    for _ in 0..KILLS {
        if random.below(3) == 0 {
            node.agent.kill();
            node.agent = node.launch_agent();
            std::thread::park_timeout(random.time(START));
            continue;
        }
        node.restart_agent();
        // Its token is spent: had it lost its SVID, nobody would be served any more.
        eventually("somebody is served", || runtime.block_on(ask(&node, &mut told)).ok());
        let working = async { while ask(&node, &mut told).await.is_ok() {} };
        let life = random.time(LIFE);
        // That the time is over is what was waited for.
        let _over = runtime.block_on(async { tokio::time::timeout(life, working).await });
    }
    node.restart_agent();
    eventually("it serves", || runtime.block_on(ask(&node, &mut told)).ok());
    eventually("it is healthy", || node.workload(&["healthcheck"]).status.success().then_some(()));
    let agents = node.admin_json(&["agent", "list"])["agents"].take();
    assert_eq!(agents.as_array().unwrap().len(), 1, "{agents}");
    assert!(node.server.stop().success());
    // The agent may give the same to several.
    told.serials.sort_unstable();
    told.serials.dedup();
    told.tokens.sort_unstable();
    told.tokens.dedup();
    let renewed = node.audit().iter().filter(|record| record["event"] == "agent_renewed").count();
    told.check(&node.audit());
    assert!(renewed > 1, "it was never time to renew");
    let (svids, tokens) = (told.serials.len(), told.tokens.len());
    println!("{svids} SVIDs, {tokens} tokens, {renewed} renewals, in {:?}", started.elapsed());
}

/// Asks for all there is.
async fn ask(node: &Deployment, told: &mut Told) -> Result<(), Status> {
    let mut client = try_connect(&node.socket()).await?;
    let (answer, _stream) = watch(&mut client).await?;
    for svid in &answer.svids {
        assert_belongs_together(svid);
        told.serials.push(serial_hex(svid));
    }
    let asked = JwtsvidRequest { audience: vec!["somebody".into()], spiffe_id: String::new() };
    let tokens = client.fetch_jwtsvid(request(asked)).await?.into_inner().svids;
    told.tokens.extend(tokens.iter().map(|token| super::ledger::hash(&token.svid)));
    Ok(())
}

fn assert_belongs_together(svid: &X509svid) {
    let chain = split_certificates(&svid.x509_svid, 10).unwrap();
    let key = PrivateKey::from_pkcs8(&svid.x509_svid_key).unwrap();
    assert_eq!(Certificate::parse(&chain[0]).unwrap().spki_der(), key.public_key().spki_der());
}

fn serial_hex(svid: &X509svid) -> String {
    let chain = split_certificates(&svid.x509_svid, 10).unwrap();
    Certificate::parse(&chain[0]).unwrap().serial().to_hex()
}

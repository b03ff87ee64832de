//! Join tokens and `x509pop`: a token becomes one segment of a path, and no node is attested
//! whose certificate nobody signed or which does not show that it holds the key.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use steeple::clock::{Clock, from_unix_seconds};
use steeple::id::TrustDomain;
use steeple::keys::{PrivateKey, Scheme, Signer as _};
use steeple::x509::Chain;
use steeple_server::node_attest::path_template::PathTemplate;
use steeple_server::node_attest::x509pop::authorities::Authorities;
use steeple_server::node_attest::x509pop::{Config, DEFAULT_TEMPLATE, TEMPLATE_NAMES, X509Pop};
use steeple_server::node_attest::{
    AttestError, Attested, Conversation, NodeAttestor as _, join_token,
};

use crate::input::{Input, Seed};
use crate::target::Target;
use crate::targets::svid::{Authority, NOW, changed, overwritten};

pub(crate) const TARGET: Target = Target {
    name: "node",
    check,
    seeds,
    words: &[
        "{\"certificates\":[\"",
        "\"]}",
        "\",\"",
        "{\"ecdsa_signature\":{",
        "{\"rsa_signature\":{",
        "\"nonce\":\"",
        "\"r\":\"",
        "\"s\":\"",
        "\"signature\":\"",
        "null",
        "AA==",
        "..",
        "/",
    ],
    max_length: 4096,
};

struct World {
    trust_domain: TrustDomain,
    server: X509Pop,
    chain: Chain,
    key: PrivateKey,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let authority = Authority::new("a.org");
    let trust_domain = TrustDomain::parse("a.org").unwrap();
    let pem = steeple::jwk::pem::write([authority.certificate()]);
    let config = Config {
        trust_domain: trust_domain.clone(),
        authorities: Authorities::from_pem(pem.as_bytes()).unwrap(),
        max_intermediates: 4,
        max_rsa_bits: 4096,
        path: PathTemplate::new(DEFAULT_TEMPLATE, TEMPLATE_NAMES).unwrap(),
    };
    let (chain, key) = authority.svid();
    World { trust_domain, server: X509Pop::new(config, Arc::new(Always)), chain, key }
});

#[derive(Debug)]
struct Always;

impl Clock for Always {
    fn now(&self) -> SystemTime {
        from_unix_seconds(NOW)
    }
}

/// A node that answers with what this makes of a challenge.
struct Answer<F>(F);

#[tonic::async_trait]
impl<F: FnMut(Vec<u8>) -> Vec<u8> + Send> Conversation for Answer<F> {
    async fn challenge(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, AttestError> {
        Ok((self.0)(challenge))
    }
}

/// A join token; or the messages of a node as they are; or those of a good node, changed.
fn check(input: &[u8]) {
    let mut input = Input::new(input);
    match input.byte() % 4 {
        0 => check_token(input.rest()),
        1 => {
            let (payload, answer) = (input.chunk(), input.rest());
            let attested = attest(payload, |_challenge| answer.to_vec());
            assert!(attested.is_err(), "{attested:?} without a challenge of ours");
        }
        2 => {
            let leaf = changed(WORLD.chain.leaf(), input);
            let attested = attest(&opening(&leaf), right_answer);
            assert_eq!(attested.is_ok(), leaf == WORLD.chain.leaf(), "{attested:?}");
        }
        _ => check_answer(input),
    }
}

fn check_token(token: &[u8]) {
    let Ok(token) = std::str::from_utf8(token) else { return };
    let made = join_token::agent_id(&WORLD.trust_domain, token);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_segment = !matches!(token, "" | "." | "..") && token.bytes().all(allowed);
    assert_eq!(made.is_ok(), is_segment && token.len() <= 255, "{made:?}");
    if let Ok(id) = made {
        assert_eq!(id.as_str(), format!("spiffe://a.org/spire/agent/join_token/{token}"));
    }
}

/// An answer proves something only if nonce and numbers are those that were signed.
fn check_answer(input: Input<'_>) {
    let mut answers = Vec::new();
    let attested = attest(&opening(WORLD.chain.leaf()), |challenge| {
        let right = right_answer(challenge);
        let sent = overwritten(&right, input);
        answers = vec![right, sent.clone()];
        sent
    });
    let meaning = |answer: &[u8]| {
        let answer: Value = serde_json::from_slice(answer).ok()?;
        let bytes = |name: &str| STANDARD.decode(answer["ecdsa_signature"][name].as_str()?).ok();
        let number = |name| Some(bytes(name)?.into_iter().skip_while(|byte| *byte == 0));
        let numbers = [number("r")?, number("s")?].map(Iterator::collect::<Vec<_>>);
        Some((answer["rsa_signature"].is_null(), bytes("nonce")?, numbers))
    };
    if attested.is_ok() {
        assert_eq!(meaning(&answers[1]), meaning(&answers[0]));
    } else {
        assert_ne!(answers[0], answers[1], "{attested:?}");
    }
}

fn attest(
    payload: &[u8],
    answer: impl FnMut(Vec<u8>) -> Vec<u8> + Send,
) -> Result<Attested, AttestError> {
    let mut node = Answer(answer);
    let mut attested = pin!(WORLD.server.attest(payload, &mut node));
    let Poll::Ready(attested) = attested.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    else {
        panic!("waits for something");
    };
    if let Ok(attested) = &attested {
        assert!(attested.agent_id.path().starts_with("/spire/agent/x509pop/"), "{attested:?}");
        assert!(attested.name.is_none());
    }
    attested
}

fn opening(leaf: &[u8]) -> Vec<u8> {
    json!({ "certificates": [STANDARD.encode(leaf)] }).to_string().into_bytes()
}

fn right_answer(challenge: Vec<u8>) -> Vec<u8> {
    let challenge: Value = serde_json::from_slice(&challenge).unwrap();
    let theirs = challenge["ecdsa_signature"]["nonce"].as_str().unwrap();
    let (theirs, ours) = (STANDARD.decode(theirs).unwrap(), [7; 32]);
    let signature = WORLD.key.sign(Scheme::Jws, &[&*theirs, &ours].concat()).unwrap();
    let (r, s) = signature.split_at(32);
    let [nonce, r, s] = [&ours, r, s].map(|bytes| STANDARD.encode(bytes));
    json!({ "ecdsa_signature": { "nonce": nonce, "r": r, "s": s } }).to_string().into_bytes()
}

fn seeds() -> Vec<Vec<u8>> {
    let (chain, _) = Authority::new("a.org").svid();
    let form = |form: u8| Seed::default().byte(form);
    let answer = |at: usize, by: &[u8]| form(3).number(at).byte(1).chunk(by).rest(&[]);
    let change = |what: u8| form(2).number(30).byte(what).chunk(b"\x82\x01a").rest(&[]);
    let proof = br#"{"rsa_signature":{"nonce":"AA==","signature":"AA=="}}"#;
    let mut seeds = vec![
        form(0).rest(b"5f6c8e8c-2b1e-4a7f-9c54-6d1f0a3b7e21"),
        form(0).rest(b"../../server"),
        form(0).rest("a".repeat(256).as_bytes()),
        form(1).chunk(&opening(chain.leaf())).rest(proof),
        form(1).chunk(br#"{"certificates":[]}"#).rest(b"{}"),
        form(2).rest(&[]),
        form(3).rest(&[]),
        answer(30, b"A"),
        answer(0, br#"{"rsa_signature":null,"#),
    ];
    seeds.extend((0..8).map(change));
    seeds
}

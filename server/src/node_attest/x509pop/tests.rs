//! Nodes with every kind of certificate and answer.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PSS_SHA256, RsaKeyPair,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    SerialNumber,
};
use serde_json::{Value, json};
use steeple::clock::from_unix_seconds;

use super::proof::RsaKey;
use super::*;
use crate::node_attest::path_template::RenderError;

#[derive(Debug)]
struct At(SystemTime);

impl Clock for At {
    fn now(&self) -> SystemTime {
        self.0
    }
}

const NOW: i64 = 2_000_000_000;

struct Pki {
    root: Issuer<'static, KeyPair>,
    root_pem: String,
    root_fingerprint: String,
}

struct Node {
    chain: Vec<Vec<u8>>,
    key: KeyPair,
}

/// What a node answers to the challenge that it gets.
type Respond = fn(&Node, &Value) -> Value;

fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = (from_unix_seconds(NOW) - Duration::from_secs(60)).into();
    params.not_after = (from_unix_seconds(NOW) + Duration::from_secs(60)).into();
    params
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = params();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn pki() -> Pki {
    let key = KeyPair::generate().unwrap();
    let params = ca_params("root");
    let certificate = params.self_signed(&key).unwrap();
    Pki {
        root_pem: certificate.pem(),
        root_fingerprint: leaf::fingerprint(certificate.der()),
        root: Issuer::new(params, key),
    }
}

fn leaf_params() -> CertificateParams {
    let mut params = params();
    params.distinguished_name.push(DnType::CommonName, "node-1");
    params.serial_number = Some(SerialNumber::from_slice(&[0x0a, 0x0b]));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    params.subject_alt_names = vec![
        uri("x509pop://td/env/prod/eu"),
        uri("x509pop://other/env/test"),
        uri("x509pop://td/incomplete"),
        uri("https://td/a/b"),
    ];
    params
}

fn node(pki: &Pki, change: impl FnOnce(&mut CertificateParams)) -> Node {
    node_with(pki, KeyPair::generate().unwrap(), change)
}

fn node_with(pki: &Pki, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Node {
    let mut params = leaf_params();
    change(&mut params);
    let chain = vec![params.signed_by(&key, &pki.root).unwrap().der().to_vec()];
    Node { chain, key }
}

fn rsa_key(bits: rcgen::RsaKeySize) -> KeyPair {
    KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, bits).unwrap()
}

fn server(pki: &Pki, template: &str) -> X509Pop {
    let config = Config {
        trust_domain: TrustDomain::parse("td").unwrap(),
        authorities: Authorities::from_pem(pki.root_pem.as_bytes()).unwrap(),
        max_intermediates: 4,
        max_rsa_bits: 3_072,
        path: PathTemplate::new(template, TEMPLATE_NAMES).unwrap(),
    };
    X509Pop::new(config, Arc::new(At(from_unix_seconds(NOW))))
}

fn payload(chain: &[Vec<u8>]) -> Vec<u8> {
    let certificates: Vec<_> = chain.iter().map(|der| STANDARD.encode(der)).collect();
    json!({ "certificates": certificates }).to_string().into_bytes()
}

struct Wire<'a>(&'a Node, Respond);

#[tonic::async_trait]
impl Conversation for Wire<'_> {
    async fn challenge(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, AttestError> {
        let challenge = serde_json::from_slice(&challenge).unwrap();
        Ok((self.1)(self.0, &challenge).to_string().into_bytes())
    }
}

fn nonce_in(challenge: &Value, member: &str) -> Vec<u8> {
    STANDARD.decode(challenge[member]["nonce"].as_str().unwrap()).unwrap()
}

/// As SPIRE's agents answer, with numbers that have no leading zeros.
fn ec(node: &Node, challenge: &Value) -> Value {
    assert!(challenge["rsa_signature"].is_null());
    let nonce = [7; 32];
    let message = [&nonce_in(challenge, "ecdsa_signature")[..], &nonce].concat();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, node.key.serialized_der())
        .unwrap();
    let signature = key.sign(&SystemRandom::new(), &message).unwrap();
    let number = |bytes: &[u8]| {
        let start = bytes.iter().position(|byte| *byte != 0).unwrap();
        STANDARD.encode(&bytes[start..])
    };
    let (r, s) = signature.as_ref().split_at(32);
    json!({
        "rsa_signature": null,
        "ecdsa_signature": { "nonce": STANDARD.encode(nonce), "r": number(r), "s": number(s) },
    })
}

fn rsa(node: &Node, challenge: &Value) -> Value {
    let nonce = [7; 32];
    let message = [&nonce_in(challenge, "rsa_signature")[..], &nonce].concat();
    let key = RsaKeyPair::from_pkcs8(node.key.serialized_der()).unwrap();
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), &message, &mut signature).unwrap();
    json!({
        "rsa_signature": { "nonce": STANDARD.encode(nonce), "signature": STANDARD.encode(signature) },
    })
}

async fn attest(server: &X509Pop, node: &Node, respond: Respond) -> Result<Attested, AttestError> {
    server.attest(&payload(&node.chain), &mut Wire(node, respond)).await
}

#[track_caller]
fn check_error(found: Result<Attested, AttestError>, expected: AttestError) {
    assert_eq!(found, Err(expected));
}

#[tokio::test]
async fn a_node_with_a_certificate_and_its_key_is_an_agent() {
    let pki = pki();
    let server = server(&pki, DEFAULT_TEMPLATE);
    let node = node(&pki, |_| {});
    let found = attest(&server, &node, ec).await.unwrap();
    let fingerprint = leaf::fingerprint(&node.chain[0]);
    assert_eq!(found.agent_id.as_str(), format!("spiffe://td/spire/agent/x509pop/{fingerprint}"));
    assert!(found.can_reattest);
    let selectors: BTreeSet<_> = found.selectors.iter().map(|s| s.as_str().to_owned()).collect();
    let expected = [
        "x509pop:subject:cn:node-1".to_owned(),
        format!("x509pop:ca:fingerprint:{}", pki.root_fingerprint),
        "x509pop:serialnumber:0a0b".to_owned(),
        "x509pop:san:env:prod/eu".to_owned(),
    ];
    assert_eq!(selectors, expected.into());
}

#[tokio::test]
async fn an_rsa_key_proves_possession_within_bounds() {
    let pki = pki();
    let server = server(&pki, DEFAULT_TEMPLATE);
    let fine = node_with(&pki, rsa_key(rcgen::RsaKeySize::_2048), |_| {});
    assert!(attest(&server, &fine, rsa).await.is_ok());
    let large = node_with(&pki, rsa_key(rcgen::RsaKeySize::_4096), |_| {});
    check_error(
        attest(&server, &large, rsa).await,
        AttestError::Unsuitable("its RSA key is larger than the server checks"),
    );
}

#[tokio::test]
async fn the_template_decides_the_path() {
    let pki = pki();
    let node = node(&pki, |_| {});
    let at = |template| server(&pki, template);
    let found = attest(&at("/n/{{ .Subject.CommonName }}-{{ .SerialNumberHex }}"), &node, ec).await;
    assert_eq!(found.unwrap().agent_id.path(), "/spire/agent/n/node-1-0a0b");
    let found = attest(&at("/{{ .TrustDomain }}/{{ .PluginName }}"), &node, ec).await;
    assert_eq!(found.unwrap().agent_id.path(), "/spire/agent/td/x509pop");
    let slash = RenderError::NotASegment("URISanSelectors.env".into());
    check_error(attest(&at("/{{ .URISanSelectors.env }}"), &node, ec).await, slash.into());
}

#[tokio::test]
async fn an_intermediate_counts_as_an_authority_and_too_many_are_refused() {
    let pki = pki();
    let server = server(&pki, DEFAULT_TEMPLATE);
    let key = KeyPair::generate().unwrap();
    let params = ca_params("intermediate");
    let certificate = params.signed_by(&key, &pki.root).unwrap().der().to_vec();
    let below = Pki { root: Issuer::new(params, key), ..tests::pki() };
    let mut node = node(&below, |_| {});
    check_error(attest(&server, &node, ec).await, AttestError::Untrusted);
    node.chain.push(certificate.clone());
    let found = attest(&server, &node, ec).await.unwrap();
    let authority = format!("x509pop:ca:fingerprint:{}", leaf::fingerprint(&certificate));
    assert!(found.selectors.contains(&authority.parse().unwrap()));
    node.chain.extend([certificate.clone(), certificate.clone(), certificate.clone()]);
    assert!(attest(&server, &node, ec).await.is_ok());
    node.chain.push(certificate);
    let too_long = AttestError::TooLong("the certificate chain");
    check_error(attest(&server, &node, ec).await, too_long);
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_is_refused() {
    let (pki, stranger) = (pki(), pki());
    let server = server(&pki, DEFAULT_TEMPLATE);
    check_error(attest(&server, &node(&stranger, |_| {}), ec).await, AttestError::Untrusted);
    let expired = node(&pki, |p| p.not_after = from_unix_seconds(NOW - 1).into());
    check_error(attest(&server, &expired, ec).await, AttestError::Untrusted);
    let early = node(&pki, |p| p.not_before = from_unix_seconds(NOW + 1).into());
    check_error(attest(&server, &early, ec).await, AttestError::Untrusted);
    let no_usage = AttestError::Unsuitable("its key usage does not have digitalSignature");
    let other_use = node(&pki, |p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment]);
    check_error(attest(&server, &other_use, ec).await, no_usage.clone());
    check_error(attest(&server, &node(&pki, |p| p.key_usages.clear()), ec).await, no_usage);
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let wrong_kind = AttestError::Unsuitable("its key is neither RSA nor on P-256, P-384 or P-521");
    check_error(attest(&server, &node_with(&pki, ed25519, |_| {}), ec).await, wrong_kind);
}

#[tokio::test]
async fn an_answer_without_proof_of_possession_is_refused() {
    let pki = pki();
    let server = server(&pki, DEFAULT_TEMPLATE);
    let node = node(&pki, |_| {});
    let other_key: Respond = |node, challenge| {
        let thief = Node { chain: node.chain.clone(), key: KeyPair::generate().unwrap() };
        ec(&thief, challenge)
    };
    let replay: Respond = |node, challenge| {
        let mut other = challenge.clone();
        other["ecdsa_signature"]["nonce"] = json!(STANDARD.encode([9; 32]));
        ec(node, &other)
    };
    let responses: &[Respond] = &[
        other_key,
        replay,
        |_, _| json!({ "rsa_signature": null, "ecdsa_signature": null }),
        |node, challenge| {
            let mut answer = ec(node, challenge);
            answer["rsa_signature"] = json!({ "nonce": STANDARD.encode([1; 32]), "signature": "" });
            answer
        },
        |node, challenge| {
            let mut answer = ec(node, challenge);
            answer["ecdsa_signature"]["nonce"] = json!(STANDARD.encode([7; 31]));
            answer
        },
        |node, challenge| {
            let mut answer = ec(node, challenge);
            answer["ecdsa_signature"]["r"] = json!("");
            answer
        },
        |node, challenge| {
            let mut answer = ec(node, challenge);
            answer["ecdsa_signature"]["s"] = json!(STANDARD.encode([1; 33]));
            answer
        },
    ];
    for respond in responses {
        check_error(attest(&server, &node, *respond).await, AttestError::NoPossession);
    }
    let found = attest(&server, &node, |_, _| json!({ "ecdsa_signature": { "nonce": "!" } })).await;
    assert!(matches!(found, Err(AttestError::Malformed { what: "challenge response", .. })));
}

#[tokio::test]
async fn a_payload_that_is_not_a_chain_is_refused() {
    let pki = pki();
    let server = server(&pki, DEFAULT_TEMPLATE);
    let node = node(&pki, |_| {});
    for payload in [
        &b""[..],
        b"{}",
        b"[]",
        br#"{"certificates":[]}"#,
        br#"{"certificates":["!"]}"#,
        br#"{"certificates":["AAAA"]}"#,
    ] {
        let found = server.attest(payload, &mut Wire(&node, ec)).await;
        assert!(matches!(found, Err(AttestError::Malformed { .. })), "{found:?}");
    }
    let mut trailing = node.chain.clone();
    trailing[0].push(0);
    let found = server.attest(&payload(&trailing), &mut Wire(&node, ec)).await;
    assert!(matches!(found, Err(AttestError::Malformed { what: "certificate", .. })));
    let found = server.attest(&vec![b' '; MAX_PAYLOAD + 1], &mut Wire(&node, ec)).await;
    check_error(found, AttestError::TooLong("payload"));
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn a_pss_signature_may_have_a_salt_of_any_length() {
    let message = [[1; 32], [2; 32]].concat();
    let verify = |modulus: &str, signature: &[u8], message: &[u8]| {
        RsaKey::new(&bytes(modulus), &[1, 0, 1]).unwrap().verify(message, signature)
    };
    assert_eq!(verify(MODULUS, &bytes(LONGEST_SALT), &message), Ok(()));
    assert_eq!(verify(MODULUS, &bytes(NO_SALT), &message), Ok(()));

    let refused = Err(AttestError::NoPossession);
    assert_eq!(verify(MODULUS, &bytes(PKCS1), &message), refused);
    assert_eq!(verify(MODULUS, &bytes(LONGEST_SALT), &message[1..]), refused);
    assert_eq!(verify(MODULUS, &bytes(LONGEST_SALT)[1..], &message), refused);
    assert_eq!(verify(MODULUS, &bytes(MODULUS), &message), refused);
    assert_eq!(verify(MODULUS, &[0; 256], &message), refused);
    for at in [0, 128, 255] {
        let mut flipped = bytes(LONGEST_SALT);
        flipped[at] ^= 1;
        assert_eq!(verify(MODULUS, &flipped, &message), refused);
    }
}

#[test]
fn an_rsa_key_with_a_costly_or_useless_exponent_is_no_key() {
    let modulus = bytes(MODULUS);
    assert!(RsaKey::new(&modulus, &[3]).is_some());
    for exponent in [&[][..], &[0], &[1], &[2], &[1, 0, 0, 0, 1]] {
        assert!(RsaKey::new(&modulus, exponent).is_none(), "{exponent:?}"); // H141
    }
}

/// Made with openssl over 32 bytes of 1 and 32 of 2, by a key of 2048 bits.
const MODULUS: &str = "B4DE2CE047D090DEFF7459C47CAAB9E3FBBBE2C33406D962B066575DCDCB27F550D90BBAE7345B9D77C6B529F3830B00A63017322B9AE020BDB5EDF0CC58172850901E601A5FA79CC740B28E9CD7794F1878D6DEE172F4C54568214A00E0F55F141E725546F7BD2AA0421D7A3FF2BE24D5D502016C56289136891E01D8434D8235B1DCAD25510FA62A35E5EDA66D250CC6B806C69130DFBA5975E3C174F7EDE8CDB60483FDD9A70CBA70CA9DC8813AE9FE0F2E3AA99A25556F8E50DD1C1E19EAB14E78CDB72A2741D612E839F223194317A24EB4DFD880688A8347C4A011DAF1F7D58CB137007CB05D59725E7E65735740429EC51FDECDE2127BAED4B70AAA5B";
const LONGEST_SALT: &str = "829fe5a4150f511d535b33e89487f6b037ae0f49f8314dd013305c9410c69fad8aedf54e3ee0683d0806463301c35bb49f010fb805cc9e4dee524a326718a5775f853ef4fc8a9f7b1b0fd2f15f42a10739b72d1cebe663ec7f9e556e9be4e0eab4c21448f1cdb0bb5b0ccb8d5dfc3a9ab73c9a51a7544cef91cd88d3cb77b8cce67d38ce12751b829dd199dd7586690204dcd22d0550cd8cb1bf4619af62f613d008461fab83700e4c49a1d57e074997a6f7e3b792002fbd8930ce42fa6b0eeb14663c5481566f5934dca2b676ccc0188e7bdef077c3d80b7006b201532769e8e93d8b4d4b8b8feac9126b2801e388655f9e1f54755581f8a5c5904002a05795";
const NO_SALT: &str = "6060a013a896d76e179f3ce63993c58afdb84aeae4b54fb0904782b9381ed50fbc972947b02117a86373eb7d122f984e0fe57dc06b08fc39b4404d3f9f580256f646276d536353ffe7e35fb1b426ce7e58e7356585ef22146bfd25d6c409ad8817a6f2a914880d558818705ef90b38466f30cbd088c13f357ef794ed0ba856eda5a36022fdb006f941d4ad71d1db110e283d9839f43ef2581eff08b53cba3e800a34106e82c9c0285891220a7e71f29c5f312563ae3338eb312ee56247909d50f6ac08af3bfaf9252c13a5f5e035361b37a5e684ff93945762231c756c36c30ab5edfd4dab205b3ccfdfc7ddd4b0232bf59c0739d132f095cb7eeaa88f73913a";
const PKCS1: &str = "57e700772a07d6063b1c02c6f1192a7204f97f94fe8f2365dcb4e177fdb4b4d2f908b71522964236e665d740fb75da577bc092b1cdc2c97fec06d908f449879f0a2bfbab3631674de83dc8533cc6e59a5036add480289393a526178cde106b7b1c16cd9b0e6a6fa83e0d2f5a4956949b0893cd027c6043a363b6ea678541322a43a11c07c63669792dbe0c8ac31b15140702282570af2208e872a1773fcc36bdde3595e3aaf255864bb754424d651f572f63f97edccf5cb8927863532a135d9396c3837eb06eea127db60e3bd80a778a00754f91b9eee9772348b3e313c61f0ad04878c88be834e266a1de6dec8978f13a1d20e5d58a911c78157a8bda83b5e4";

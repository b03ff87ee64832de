//! X.509-SVIDs: what is read is what another reader finds, and what verifies is either as an
//! authority signed it or, where an authority signs anything, within the rules of X509-SVID.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use steeple::clock::from_unix_seconds;
use steeple::id::{SpiffeId, TrustDomain};
use steeple::keys::{KeyAlgorithm, PrivateKey, Scheme, Signer as _};
use steeple::x509::make::{
    CaRequest, IntermediateRequest, Issuer, SvidRequest, Validity, self_signed_ca,
};
use steeple::x509::verify::{AnchorSet, Anchors, PeerError, Role, VerifiedPeer, verify_peer};
use steeple::x509::{Certificate, Chain, Name, Subject, X509Svid};
use x509_parser::error::X509Error;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};

use crate::der::Node;
use crate::input::{Input, Seed};
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "svid",
    check,
    seeds,
    words: &[
        "spiffe://a.org/x",
        "spiffe://a.org",
        "spiffe://b.org/x",
        "\u{1}\u{1}",
        "\u{3}\u{2}\u{1}\u{6}",
        "\u{3}\u{2}\u{2}\u{4}",
        "U\u{1d}\u{11}",
        "U\u{1d}\u{13}",
        "U\u{1d}\u{f}",
        "U\u{1d}\u{25}",
        "U\u{1d}\u{1e}",
        "700101000000Z",
        "20500101000000Z",
        "-----BEGIN CERTIFICATE-----",
    ],
    max_length: 8192,
};

pub(crate) const NOW: i64 = 1_800_000_000;
const HOUR: Duration = Duration::from_secs(3600);

/// At least as many as a leaf has.
const MAX_ELEMENTS: usize = 80;

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 3;

/// A root of one trust domain.
pub(crate) struct Authority {
    trust_domain: TrustDomain,
    key: Arc<PrivateKey>,
    chain: Chain,
}

/// A chain that is good, and the keys of whoever signed each certificate.
struct Issued {
    chain: Chain,
    signers: Vec<Arc<PrivateKey>>,
}

struct World {
    anchors: AnchorSet,
    issued: Vec<Issued>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let root = Authority::new("a.org");
    let below = root.below();
    let anchors = Anchors::new([root.certificate()]);
    let direct = Issued { chain: root.svid().0, signers: vec![root.key.clone()] };
    let signers = vec![below.key.clone(), root.key.clone()];
    let issued = vec![direct, Issued { chain: below.svid().0, signers }];
    World { anchors: AnchorSet::of(root.trust_domain, anchors), issued }
});

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let trust_domain = TrustDomain::parse(name).unwrap();
        let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
        let subject = Subject { organization: vec!["SPIFFE".into()], ..Subject::default() };
        let validity = Validity::new(from_unix_seconds(NOW), 24 * HOUR);
        let request = CaRequest { trust_domain: &trust_domain, subject: &subject, validity };
        let chain = self_signed_ca(&request, &*key).unwrap();
        Self { trust_domain, key, chain }
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.chain.certificates()[0]
    }

    fn issuer(&self) -> Arc<Issuer> {
        Arc::new(Issuer::new(&self.chain, self.key.clone()).unwrap())
    }

    /// An authority that this one signed.
    fn below(&self) -> Self {
        let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
        let subject = Subject { common_name: Some("below".into()), ..Subject::default() };
        let request = IntermediateRequest {
            trust_domain: &self.trust_domain,
            subject: &Name::from(&subject),
            public_key: key.public_key(),
            validity: Validity::new(from_unix_seconds(NOW), 12 * HOUR),
        };
        let unsigned = self.issuer().prepare_ca(&request).unwrap();
        let chain = unsigned.sign_chain().unwrap();
        Self { trust_domain: self.trust_domain.clone(), key, chain }
    }

    /// The chain of somebody below this authority, and its key.
    pub(crate) fn svid(&self) -> (Chain, PrivateKey) {
        let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
        let request = SvidRequest {
            spiffe_id: &SpiffeId::new(&self.trust_domain, "/ns/default/sa/web").unwrap(),
            public_key: key.public_key(),
            dns_names: &["web.example.org".into()],
            subject: None,
            validity: Validity::new(from_unix_seconds(NOW), HOUR),
        };
        let svid = self.issuer().prepare_svid(&request).unwrap().sign().unwrap();
        (svid.chain().clone(), key)
    }
}

fn verified(chain: &[CertificateDer<'_>], role: Role) -> Result<VerifiedPeer, PeerError> {
    verify_peer(chain, role, &WORLD.anchors, from_unix_seconds(NOW))
}

/// Three ways to a chain: bytes as they are; a good one, changed; a good one of which a certificate
/// was changed before it was signed.
fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let form = input.byte() % 4;
    if form == 0 {
        return check_bytes(input.rest());
    }
    let role = input.choose(&[Role::Client, Role::Server]);
    let issued = &WORLD.issued[usize::from(input.byte()) % WORLD.issued.len()];
    let index = usize::from(input.byte()) % issued.signers.len();
    let mut chain = issued.chain.certificates().to_vec();
    let certificate = match form {
        1 => overwritten(&chain[index], input),
        2 => changed(&chain[index], input),
        _ => signed(&chain[index], &issued.signers[index], input),
    };
    check_certificate(&certificate);
    chain[index] = certificate.into();
    let Ok(peer) = verified(&chain, role) else { return };
    if form == 3 {
        check_leaf(&chain[0], &peer, role);
        chain[1..].iter().for_each(|issuer| check_issuer(issuer));
    } else {
        assert_eq!(chain, issued.chain.certificates(), "nobody signed this");
    }
}

/// With other bytes in some places.
pub(crate) fn overwritten(bytes: &[u8], mut input: Input<'_>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    while !input.is_empty() {
        let at = input.number() % (bytes.len() + 1);
        let (length, by) = (usize::from(input.byte()), input.chunk());
        let end = (at + length).min(bytes.len());
        drop(bytes.splice(at..end, by.iter().copied()));
    }
    bytes
}

/// With other elements in some places.
pub(crate) fn changed(certificate: &[u8], mut input: Input<'_>) -> Vec<u8> {
    let mut root = Node::read(certificate).unwrap();
    for _ in 0..8 {
        if input.is_empty() {
            break;
        }
        root.change(&mut input);
    }
    root.write()
}

/// Changed, and then signed by whoever signed it before.
fn signed(certificate: &[u8], signer: &PrivateKey, input: Input<'_>) -> Vec<u8> {
    let (_, read) = X509Certificate::from_der(certificate).unwrap();
    let body = changed(read.tbs_certificate.as_ref(), input);
    let signature = signer.sign(Scheme::X509, &body).unwrap();
    let bits = Node::value(BIT_STRING, &[&[0], &*signature].concat()).write();
    // ecdsa-with-SHA256
    let algorithm = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    Node::value(SEQUENCE, &[&body, &algorithm[..], &bits].concat()).write()
}

fn check_bytes(bytes: &[u8]) {
    check_certificate(bytes);
    for chain in [Chain::from_concatenated(bytes), Chain::from_pem(bytes)].into_iter().flatten() {
        assert_eq!(Chain::from_concatenated(&chain.concatenated()).as_ref(), Ok(&chain));
        assert_eq!(Chain::from_pem(chain.to_pem().as_bytes()).as_ref(), Ok(&chain));
        for role in [Role::Client, Role::Server] {
            assert!(verified(chain.certificates(), role).is_err(), "nobody signed this");
        }
        let Ok(svid) = X509Svid::new(chain) else { continue };
        let leaf = Certificate::parse(svid.chain().leaf()).unwrap();
        assert_eq!(leaf.uris(), [svid.spiffe_id().as_str().as_bytes()]);
        assert_eq!((svid.not_before(), svid.not_after()), (leaf.not_before(), leaf.not_after()));
    }
}

/// Another reader, which is less strict, finds the same.
fn check_certificate(der: &[u8]) {
    let Ok(ours) = Certificate::parse(der) else { return };
    let (rest, theirs) = match X509Certificate::from_der(der) {
        Ok(read) => read,
        // Ours reads the key when it is asked for it.
        Err(x509_parser::nom::Err::Error(X509Error::InvalidSPKI)) => {
            return assert!(ours.public_key().is_err());
        }
        Err(error) => panic!("another reader finds no certificate here: {error}"),
    };
    assert!(rest.is_empty());
    assert_eq!(theirs.version(), X509Version::V3);
    let serial: Vec<u8> = theirs.serial.to_bytes_be();
    assert_eq!(ours.serial().as_be_bytes(), serial);
    let seconds = |time: SystemTime| match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap(),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap(),
    };
    assert_eq!(seconds(ours.not_before()), theirs.validity().not_before.timestamp());
    assert_eq!(seconds(ours.not_after()), theirs.validity().not_after.timestamp());
    assert_eq!(ours.subject(), theirs.subject().as_raw());
    assert_eq!(ours.issuer(), theirs.issuer().as_raw());
    assert_eq!(ours.spki_der(), theirs.public_key().raw);
    assert_eq!(ours.is_ca(), theirs.is_ca());
    let usage = theirs.key_usage().unwrap().map(|usage| usage.value);
    let sign = usage.map(|usage| (usage.digital_signature(), usage.key_cert_sign()));
    let ours_sign =
        ours.key_usage().map(|usage| (usage.digital_signature(), usage.key_cert_sign()));
    assert_eq!(ours_sign, sign);
    let names = theirs.subject_alternative_name().unwrap();
    let names = names.map(|names| &*names.value.general_names).unwrap_or_default();
    let uris = uris(names);
    // Their reader gives up on a URI that is no ASCII; ours leaves that to who reads the URI.
    if ours.uris().iter().all(|uri| uri.is_ascii()) {
        let ours = ours.uris().iter().map(|uri| std::str::from_utf8(uri).unwrap());
        assert!(uris.iter().copied().eq(ours), "{names:?}");
    }
}

fn uris<'a>(names: &[GeneralName<'a>]) -> Vec<&'a str> {
    let uri = |name: &GeneralName<'a>| {
        if let GeneralName::URI(uri) = name { Some(*uri) } else { None }
    };
    names.iter().filter_map(uri).collect()
}

/// X509-SVID 2 to 5 of a leaf that verified.
fn check_leaf(der: &[u8], peer: &VerifiedPeer, role: Role) {
    let (_, leaf) = X509Certificate::from_der(der).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    let uris = uris(&names.value.general_names);
    assert_eq!(uris, [peer.spiffe_id().as_str()]);
    assert!(uris[0].starts_with("spiffe://a.org/"), "{uris:?}");
    assert!(!leaf.is_ca());
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign(), "{usage}");
    if let Some(purposes) = leaf.extended_key_usage().unwrap() {
        assert!(match role {
            Role::Client => purposes.value.client_auth,
            Role::Server => purposes.value.server_auth,
        });
    }
    check_common(&leaf);
}

/// RFC 5280 of an authority between a leaf and a root.
fn check_issuer(der: &[u8]) {
    let (_, issuer) = X509Certificate::from_der(der).unwrap();
    assert!(issuer.is_ca());
    assert!(issuer.key_usage().unwrap().unwrap().value.key_cert_sign());
    check_common(&issuer);
}

fn check_common(certificate: &X509Certificate<'_>) {
    let validity = certificate.validity();
    assert!(validity.not_before.timestamp() <= NOW && NOW <= validity.not_after.timestamp());
    for extension in certificate.extensions().iter().filter(|extension| extension.critical) {
        let known = matches!(
            extension.parsed_extension(),
            ParsedExtension::BasicConstraints(_)
                | ParsedExtension::KeyUsage(_)
                | ParsedExtension::ExtendedKeyUsage(_)
                | ParsedExtension::SubjectAlternativeName(_)
                | ParsedExtension::NameConstraints(_)
                | ParsedExtension::SubjectKeyIdentifier(_)
                | ParsedExtension::AuthorityKeyIdentifier(_)
        );
        assert!(known, "{extension:?}");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let (root, other) = (Authority::new("a.org"), Authority::new("b.org").below());
    let (direct, longer) = (root.svid().0, other.svid().0);
    let seed =
        |form: u8, chain: u8, index: u8| Seed::default().byte(form).byte(0).byte(chain).byte(index);
    let mut seeds = vec![
        Seed::default().byte(0).rest(&direct.concatenated()),
        Seed::default().byte(0).rest(direct.to_pem().as_bytes()),
        Seed::default().byte(0).rest(&longer.concatenated()),
        Seed::default().byte(0).rest(root.certificate()),
        seed(1, 0, 0).number(100).byte(1).chunk(b"a").rest(&[]),
        seed(1, 1, 1).number(300).byte(0).chunk(b"bc").rest(&[]),
    ];
    // Each element of the leaf is left out, there twice, or another: with keyUsage these are of an
    // authority.
    let changes: [(u8, &[u8]); 5] = [(0, &[]), (1, &[]), (5, &[6, 2]), (5, &[5, 4]), (5, &[0, 1])];
    for element in 0..MAX_ELEMENTS {
        for (what, by) in changes {
            seeds.push(seed(3, 0, 0).number(element).byte(what).chunk(by).rest(&[]));
        }
    }
    for form in [2, 3] {
        for (chain, index) in [(0, 0), (1, 0), (1, 1)] {
            seeds.push(seed(form, chain, index).rest(&[]));
            for what in 0..8 {
                let tail = seed(form, chain, index).number(40).byte(what).chunk(b"\x82\x01a");
                seeds.push(tail.rest(&[]));
            }
        }
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the other checks rely on: that there are chains which do verify, even signed again.
    #[test]
    fn a_good_chain_verifies() {
        for (issued, length) in WORLD.issued.iter().zip([1, 2]) {
            let mut chain = issued.chain.certificates().to_vec();
            assert_eq!(chain.len(), length);
            assert!(verified(&chain, Role::Client).is_ok());
            for (certificate, signer) in chain.iter_mut().zip(&issued.signers) {
                *certificate = signed(certificate, signer, Input::new(&[])).into();
            }
            assert!(verified(&chain, Role::Server).is_ok());
        }
    }
}

//! The profiles of what is made.

use std::collections::HashSet;

use super::*;
use crate::clock::from_unix_seconds;
use crate::keys::{KeyAlgorithm, PrivateKey};

const NOW: i64 = 1_800_000_000;
const HOUR: Duration = Duration::from_secs(3600);

fn now() -> SystemTime {
    from_unix_seconds(NOW)
}

fn key(algorithm: KeyAlgorithm) -> Arc<PrivateKey> {
    Arc::new(PrivateKey::generate(algorithm).unwrap())
}

fn root(algorithm: KeyAlgorithm, ttl: Duration) -> (Chain, Arc<PrivateKey>) {
    let key = key(algorithm);
    let request = CaRequest {
        trust_domain: &"example.org".parse().unwrap(),
        subject: &Subject {
            country: vec!["US".into()],
            organization: vec!["SPIFFE".into()],
            ..Subject::default()
        },
        validity: Validity::new(now(), ttl),
    };
    (self_signed_ca(&request, &*key).unwrap(), key)
}

fn issuer(algorithm: KeyAlgorithm) -> Arc<Issuer> {
    let (chain, key) = root(algorithm, 24 * HOUR);
    Arc::new(Issuer::new(&chain, key).unwrap())
}

fn mint(issuer: &Arc<Issuer>, dns_names: &[&str], subject: Option<&Name>) -> X509Svid {
    let key = key(KeyAlgorithm::EcP256);
    let request = SvidRequest {
        spiffe_id: &"spiffe://example.org/web".parse().unwrap(),
        public_key: key.public_key(),
        dns_names: &dns_names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        subject,
        validity: Validity::new(now(), HOUR),
    };
    issuer.prepare_svid(&request).unwrap().sign().unwrap()
}

/// SID-14, SID-15, X509-06, X509-07, X509-10, X509-14, X509-15, X509-18, X509-26: the profile of an
/// authority.
#[test]
fn an_authority_is_a_spiffe_authority() {
    for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::Rsa2048] {
        let (chain, key) = root(algorithm, HOUR);
        let certificate = Certificate::parse(chain.leaf()).unwrap();
        assert_eq!(certificate.uris(), [b"spiffe://example.org"]);
        assert!(certificate.is_ca());
        assert_eq!(certificate.basic_constraints().unwrap().path_length, None);
        let usage = certificate.key_usage().unwrap();
        assert!(usage.is_critical() && usage.key_cert_sign() && usage.crl_sign());
        assert!(!usage.digital_signature());
        assert_eq!(certificate.extended_key_usage(), None);
        assert!(certificate.is_self_signed());
        assert_eq!(certificate.subject_key_id(), Some(&key.public_key().key_identifier()[..]));
        // SPIRE tells authorities apart by a serialNumber attribute in their subject.
        let serial = certificate.serial().to_string();
        let subject = certificate.subject();
        assert!(subject.windows(serial.len()).any(|window| window == serial.as_bytes()));
    }
}

/// X509-01, X509-10, X509-11, X509-14, X509-16, X509-17, X509-26: the profile of an SVID.
#[test]
fn an_svid_has_the_profile_that_clients_expect() {
    let issuer = issuer(KeyAlgorithm::EcP256);
    let svid = mint(&issuer, &[], None);
    let leaf = Certificate::parse(svid.chain().leaf()).unwrap();
    assert_eq!(svid.chain().certificates().len(), 1, "a root does not follow its leaf");
    assert_eq!(leaf.uris(), [b"spiffe://example.org/web"]);
    assert!(leaf.dns_names().is_empty());
    assert_eq!(leaf.basic_constraints(), Some(crate::x509::BasicConstraints::default()));
    let usage = leaf.key_usage().unwrap();
    assert!(usage.is_critical() && usage.digital_signature());
    assert!(!usage.key_cert_sign() && !usage.crl_sign());
    let purposes = [[0x2b, 6, 1, 5, 5, 7, 3, 1], [0x2b, 6, 1, 5, 5, 7, 3, 2]]; // server, client
    assert_eq!(leaf.extended_key_usage().unwrap(), purposes);
    assert!(leaf.subject_key_id().is_some());
    assert_eq!(svid.authority_key_id(), Some(&*issuer.authority_id()));
    assert_eq!(leaf.subject(), encode::default_subject().as_der());
    assert_eq!(leaf.issuer(), issuer.name.as_der());
    assert!(leaf.is_signed_by(issuer.key.public_key()));
}

#[test]
fn the_first_dns_name_becomes_the_common_name() {
    let issuer = issuer(KeyAlgorithm::EcP256);
    let subject = |svid: &X509Svid| {
        Name::from_der(Certificate::parse(svid.chain().leaf()).unwrap().subject()).unwrap()
    };
    let svid = mint(&issuer, &["a.example.org", "*.b.example.org"], None);
    let leaf = Certificate::parse(svid.chain().leaf()).unwrap();
    assert_eq!(leaf.dns_names(), [&b"a.example.org"[..], b"*.b.example.org"]);
    let spire = Subject {
        country: vec!["US".into()],
        organization: vec!["SPIRE".into()],
        common_name: Some("a.example.org".into()),
        ..Subject::default()
    };
    assert_eq!(subject(&svid), Name::from(&spire));
    let asked = Name::from(&Subject { common_name: Some("mine".into()), ..Subject::default() });
    assert_eq!(subject(&mint(&issuer, &[], Some(&asked))), asked);
    let named = Subject { common_name: Some("a.b".into()), ..Subject::default() };
    assert_eq!(subject(&mint(&issuer, &["a.b"], Some(&asked))), Name::from(&named));
}

/// X509-05: an empty subject makes the subjectAltName critical.
#[test]
fn an_svid_without_a_subject_marks_its_names_critical() {
    let issuer = issuer(KeyAlgorithm::EcP256);
    let critical = |svid: &X509Svid| {
        let needle = [0x06, 0x03, 0x55, 0x1d, 0x11, 0x01, 0x01, 0xff];
        svid.chain().leaf().windows(8).any(|window| window == needle)
    };
    assert!(!critical(&mint(&issuer, &[], None)));
    let nobody = Name::from(&Subject::default());
    assert!(nobody.is_empty());
    assert!(critical(&mint(&issuer, &[], Some(&nobody))));
}

/// X509-27, and what an issuer that is late does to a leaf.
#[test]
fn an_svid_never_outlives_its_issuer() {
    let (chain, root_key) = root(KeyAlgorithm::EcP256, HOUR);
    let issuer = Arc::new(Issuer::new(&chain, root_key).unwrap());
    let key = key(KeyAlgorithm::EcP256);
    let prepare = |now, ttl| {
        issuer.prepare_svid(&SvidRequest {
            spiffe_id: &"spiffe://example.org/web".parse().unwrap(),
            public_key: key.public_key(),
            dns_names: &[],
            subject: None,
            validity: Validity::new(now, ttl),
        })
    };
    let svid = prepare(now(), 2 * HOUR).unwrap().sign().unwrap();
    assert_eq!(svid.not_after(), now() + HOUR);
    assert_eq!(svid.not_before(), now() - BACKDATE);
    let svid = prepare(now(), HOUR / 2).unwrap().sign().unwrap();
    assert_eq!(svid.not_after(), now() + HOUR / 2);
    assert_eq!(prepare(now() + 2 * HOUR, HOUR).unwrap_err(), MakeError::Expired);
    assert_eq!(prepare(now(), Duration::ZERO).unwrap_err(), MakeError::Expired);
}

#[test]
fn a_short_life_is_backdated_by_less_so_that_half_of_it_lies_ahead() {
    for seconds in [1_u32, 10, 60, 300, 3600, 1_000_000] {
        let ttl = Duration::from_secs(seconds.into());
        let validity = Validity::new(now(), ttl);
        let lifetime = validity.not_after().duration_since(validity.not_before()).unwrap();
        let half = validity.not_before() + lifetime / 2;
        assert!(half >= now() + ttl * 2 / 5, "{seconds}");
        assert!(validity.not_before() >= now() - BACKDATE, "{seconds}");
    }
}

#[test]
fn what_cannot_be_an_svid_is_not_prepared() {
    let issuer = issuer(KeyAlgorithm::EcP256);
    let key = key(KeyAlgorithm::EcP256);
    let check = |id: &str, dns_names: Vec<String>, expected| {
        let prepared = issuer.prepare_svid(&SvidRequest {
            spiffe_id: &id.parse().unwrap(),
            public_key: key.public_key(),
            dns_names: &dns_names,
            subject: None,
            validity: Validity::new(now(), HOUR),
        });
        assert_eq!(prepared.map(|_| ()), expected, "{id} {:?}", dns_names.first());
    };
    check("spiffe://example.org/a", vec!["a".into(); MAX_DNS_NAMES], Ok(()));
    check("spiffe://example.org", vec![], Err(MakeError::NoPath)); // X509-04
    check("spiffe://example.org/a", vec![String::new()], Err(MakeError::DnsName));
    check("spiffe://example.org/a", vec!["a\0b".into()], Err(MakeError::DnsName));
    check("spiffe://example.org/a", vec!["é.org".into()], Err(MakeError::DnsName));
    check("spiffe://example.org/a", vec!["a".repeat(254)], Err(MakeError::DnsName));
    check("spiffe://example.org/a", vec!["a".into(); 129], Err(MakeError::TooManyDnsNames));
}

/// X509-08, WAPI-22: the chain that is served is the leaf, then everything below the root.
#[test]
fn an_authority_below_another_signs_with_its_chain() {
    let root = issuer(KeyAlgorithm::EcP384);
    let middle_key = key(KeyAlgorithm::EcP256);
    let subject = Subject { common_name: Some("middle".into()), ..Subject::default() };
    let request = IntermediateRequest {
        trust_domain: &"example.org".parse().unwrap(),
        subject: &Name::from(&subject),
        public_key: middle_key.public_key(),
        validity: Validity::new(now(), 100 * HOUR),
    };
    let middle = root.prepare_ca(&request).unwrap();
    let middle_chain = middle.sign_chain().unwrap();
    let middle = Arc::new(Issuer::new(&middle_chain, middle_key).unwrap());
    assert_eq!(middle.not_after(), root.not_after());
    let svid = mint(&middle, &[], None);
    assert_eq!(svid.chain().certificates()[1..], *middle_chain.certificates());
}

#[test]
fn an_issuer_is_an_authority_with_its_own_key() {
    let (chain, key) = root(KeyAlgorithm::EcP256, HOUR);
    let (other, _) = root(KeyAlgorithm::EcP256, HOUR);
    let refused = |chain: &Chain, key: Arc<PrivateKey>| Issuer::new(chain, key).map(|_| ());
    assert_eq!(refused(&chain, key.clone()), Ok(()));
    assert_eq!(refused(&other, key.clone()), Err(IssuerError::Key));
    let issuer = Arc::new(Issuer::new(&chain, key.clone()).unwrap());
    let leaf = mint(&issuer, &[], None);
    assert_eq!(refused(leaf.chain(), key), Err(IssuerError::NotAnAuthority));
}

/// X509-26: positive, at most 20 bytes, 159 random bits.
#[test]
fn serial_numbers_are_random_and_positive() {
    let mut seen = HashSet::new();
    let mut set_bits = [0_u8; 20];
    for _ in 0..10_000 {
        let serial = random_serial().unwrap();
        assert!(serial.as_be_bytes().len() <= 20);
        assert!(seen.insert(serial));
        if let [first, ..] = serial.as_be_bytes()
            && serial.as_be_bytes().len() == 20
        {
            assert!(*first < 0x80);
            for (all, byte) in set_bits.iter_mut().zip(serial.as_be_bytes()) {
                *all |= byte;
            }
        }
    }
    assert_eq!(set_bits[0], 0x7f);
    assert!(set_bits[1..].iter().all(|&byte| byte == 0xff));
}

//! A CA that comes and goes in files.

use std::fs;
use std::time::Duration;

use steeple::clock::{TokioClock, from_unix_seconds};
use steeple::keys::Signer as _;
use steeple::x509::csr::{self, Wish};
use steeple::x509::{Name, Subject, pem};

use super::*;
use crate::ca::testing::NOW;
use crate::ca::testing::tiers::{HOUR, Tier, at, key, td};
use crate::ca::upstream::Expected;

struct Bench {
    directory: tempfile::TempDir,
    clock: Arc<TokioClock>,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(TokioClock::new(from_unix_seconds(NOW)));
        Self { directory: tempfile::tempdir().unwrap(), clock }
    }

    fn config(&self, bundle: bool) -> Config {
        let path = |name: &str| self.directory.path().join(name);
        Config {
            cert_file: path("ca.pem"),
            key_file: path("ca.key"),
            bundle_file: bundle.then(|| path("roots.pem")),
        }
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.directory.path().join(name), text).unwrap();
    }

    fn put_ca(&self, ca: &Tier) {
        self.put("ca.pem", ca.chain.to_pem());
        self.put("ca.key", pem("PRIVATE KEY", ca.key.pkcs8().unwrap().expose()));
    }

    fn open(&self, bundle: bool) -> Result<Disk, DiskError> {
        Disk::open(self.config(bundle), td("td"), self.clock.clone())
    }
}

fn roots(tiers: &[&Tier]) -> String {
    tiers.iter().map(|tier| pem("CERTIFICATE", &tier.der())).collect()
}

/// The length of a chain that is signed, and the name of the root that it ends in.
async fn minted(disk: &Disk) -> (usize, String) {
    let key = key();
    let subject = Subject { organization: vec!["SPIFFE".into()], ..Subject::default() };
    let subject = Name::from(&subject);
    let id = td("td").id();
    let wish = Wish { subject: &subject, spiffe_id: Some(&id), dns_names: &[] };
    let request = CaRequest { csr: csr::make(&*key, &wish).unwrap(), ttl: 2 * HOUR };
    let ca = disk.mint_ca(request).await.unwrap();
    let expected = Expected { trust_domain: &td("td"), public_key: key.public_key(), now: at(0) };
    let ca = ca.check(&expected).unwrap();
    assert_eq!(ca.not_after(), at(7_200));
    let made = Certificate::parse(ca.chain().leaf()).unwrap();
    assert_eq!(made.subject(), subject.as_der());
    (ca.chain().certificates().len(), ca.root_id().to_owned())
}

#[tokio::test]
async fn a_root_signs_by_itself() {
    let (bench, root) = (Bench::new(), Tier::root());
    bench.put_ca(&root);
    let disk = bench.open(false).unwrap();
    assert_eq!(minted(&disk).await, (1, root.id()));
    assert_eq!(*disk.vouched().borrow(), None);
}

#[tokio::test]
async fn an_intermediate_signs_and_is_served_up_to_below_the_root() {
    let (bench, root) = (Bench::new(), Tier::root());
    let middle = root.below("td", 5 * HOUR);
    let deep = middle.below("td", 4 * HOUR);
    bench.put("roots.pem", roots(&[&Tier::root(), &root]));
    bench.put_ca(&deep);
    assert_eq!(minted(&bench.open(true).unwrap()).await, (3, root.id()));
    // Whoever puts the root there as well gets the same.
    bench.put("ca.pem", deep.chain.to_pem() + &roots(&[&root]));
    assert_eq!(minted(&bench.open(true).unwrap()).await, (3, root.id()));
}

#[tokio::test]
async fn files_that_do_not_fit_are_named() {
    let (bench, root, other) = (Bench::new(), Tier::root(), Tier::root());
    let middle = root.below("td", HOUR);
    let check = |bundle: bool, expected: &[&str]| {
        let error = steeple::telemetry::with_causes(&bench.open(bundle).unwrap_err());
        for part in expected {
            assert!(error.contains(part), "{part}: {error}");
        }
    };
    check(false, &["`upstream_authority.cert_file_path`", "ca.pem", "No such file"]);
    bench.put("ca.pem", "x");
    check(false, &["`upstream_authority.key_file_path`", "ca.key"]);
    bench.put("ca.key", "x");
    check(false, &["ca.pem", "certificate of a CA in PEM"]);
    bench.put_ca(&root);
    bench.put("ca.key", "x");
    check(false, &["ca.key", "key of the CA in PEM"]);
    bench.put_ca(&root);
    bench.put("ca.pem", roots(&[&other]));
    check(false, &["ca.pem", "ca.key", "one CA", "do not belong together"]);
    bench.put_ca(&root.leaf());
    bench.put("roots.pem", roots(&[&root]));
    check(true, &["ca.pem", "may not sign certificates"]);
    bench.put_ca(&middle);
    check(false, &["ca.pem", "bundle_file_path"]);
    bench.put("roots.pem", "x");
    check(true, &["roots.pem", "certificates of roots"]);
    bench.put("roots.pem", roots(&[&other]));
    check(true, &["ca.pem", "roots.pem", "does not lead to a root"]);
    // The extension that has the key identifier becomes one that nobody knows.
    let mut nameless = other.der().to_vec();
    let at_id = nameless.windows(3).position(|oid| oid == [0x55, 0x1d, 0x0e]).unwrap();
    nameless[at_id + 2] = 0x63;
    bench.put("roots.pem", roots(&[&root]) + &pem("CERTIFICATE", &nameless));
    check(true, &["roots.pem", "has to be a CA", "no subject key identifier"]);
    bench.put("roots.pem", roots(&[&root]));
    bench.clock.set(at(3_601));
    check(true, &["not valid now"]);
}

/// Scenario force-rotation-upstream-authority: whoever replaces two files does it one by one.
#[tokio::test]
async fn a_ca_that_is_replaced_signs_once_all_of_it_is_there() {
    let (bench, old, new) = (Bench::new(), Tier::root(), Tier::root());
    bench.put_ca(&old);
    let disk = bench.open(false).unwrap();
    bench.put("ca.pem", roots(&[&new]));
    assert_eq!(minted(&disk).await, (1, old.id()));
    bench.put_ca(&new);
    assert_eq!(minted(&disk).await, (1, new.id()));
    fs::remove_file(bench.directory.path().join("ca.key")).unwrap();
    assert_eq!(minted(&disk).await, (1, new.id()));
}

#[tokio::test]
async fn a_key_that_signs_tokens_stays_here() {
    let (bench, root) = (Bench::new(), Tier::root());
    bench.put_ca(&root);
    let public_key = key().public_key().spki_der().to_vec();
    let key = JwtAuthority { key_id: "a".into(), public_key, expires_at: None, tainted: false };
    let published = bench.open(false).unwrap().publish_jwt_key(key).await.unwrap();
    assert_eq!(published, Published::NotTaken);
    let refused = bench.open(false).unwrap();
    let request = CaRequest { csr: vec![1], ttl: Duration::from_secs(60) };
    assert!(matches!(refused.mint_ca(request).await, Err(UpstreamError::Refused(_))));
}

//! When the server renews its own SVID.

use steeple::clock::{from_unix_seconds, unix_seconds};
use steeple::tasks::Tasks;
use steeple::x509::{Serial, X509Svid};
use tracing::Span;

use super::*;
use crate::ca::control::Change;
use crate::ca::slots::Kind;
use crate::ca::testing::{Bench, NOW};

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);

struct Running {
    bench: Bench,
    material: watch::Receiver<Arc<Material>>,
    tasks: Tasks,
}

/// Runs authorities of that life and an SVID of that one.
async fn run(lifetime: Duration, ttl: Duration) -> Running {
    run_on(Bench::new(), lifetime, ttl).await
}

async fn run_on(bench: Bench, lifetime: Duration, ttl: Duration) -> Running {
    let rotation = bench.start(lifetime).await.unwrap();
    let ca = bench.ca(&rotation);
    let own = OwnSvid::start(ca, ttl, bench.clock.clone()).await.unwrap();
    let (material, tasks) = (own.material(), Tasks::new());
    tasks.spawn(Span::none(), |stop| rotation.run(stop));
    tasks.spawn(Span::none(), |stop| own.run(stop));
    Running { bench, material, tasks }
}

impl Running {
    fn svid(&self) -> X509Svid {
        X509Svid::new(self.material.borrow().chain().clone()).unwrap()
    }

    fn serial(&self) -> Serial {
        self.svid().serial()
    }
}

async fn sleep(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn it_names_the_server_and_is_renewed_at_half_of_its_life() {
    let running = run(DAY, HOUR).await;
    let first = running.svid();
    assert_eq!(first.spiffe_id().as_str(), "spiffe://example.org/spire/server");
    assert_eq!(unix_seconds(first.not_after()), NOW + 3_600);
    sleep(1_799).await;
    assert_eq!(running.serial(), first.serial());
    sleep(2).await;
    assert_ne!(running.serial(), first.serial());
    running.tasks.shutdown(HOUR).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_changes_with_the_authority_and_never_expires() {
    let running = run(Duration::from_secs(60), HOUR).await;
    for second in 0..300 {
        let svid = running.svid();
        assert!(NOW + second < unix_seconds(svid.not_after()), "{second}");
        let bundle = crate::ca::Ledger::own_bundle(&running.bench.ledger);
        let issuers = bundle.x509_authorities.iter().map(|authority| {
            let certificate = steeple::x509::Certificate::parse(&authority.certificate);
            certificate.unwrap().subject_key_id_hex()
        });
        assert!(issuers.flatten().any(|id| Some(id.as_str()) == svid.authority_key_id()));
        sleep(1).await;
    }
    running.tasks.shutdown(HOUR).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_is_replaced_when_the_clock_was_set() {
    for wrong in [NOW - 86_400, NOW + 7_200] {
        let running = run(DAY, HOUR).await;
        let first = running.serial();
        running.bench.clock.set(from_unix_seconds(wrong));
        sleep(20).await;
        let svid = running.svid();
        assert_ne!(svid.serial(), first);
        assert!(unix_seconds(svid.not_before()) <= wrong + 20);
        assert!(wrong + 20 < unix_seconds(svid.not_after()));
        running.tasks.shutdown(HOUR).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn it_moves_to_a_new_authority_once_that_is_known_or_the_old_one_is_tainted() {
    for taint in [false, true] {
        let bench = Bench::new();
        let rotation = bench.start(DAY).await.unwrap();
        let (control, tasks) = (rotation.control(), Tasks::new());
        let own = OwnSvid::start(bench.ca(&rotation), 4 * HOUR, bench.clock.clone()).await.unwrap();
        let material = own.material();
        tasks.spawn(Span::none(), |stop| rotation.run(stop));
        tasks.spawn(Span::none(), |stop| own.run(stop));
        let by = || Caller::Local { uid: 0, gid: 0, pid: None };
        let issuer = || {
            let svid = X509Svid::new(material.borrow().chain().clone()).unwrap();
            svid.authority_key_id().unwrap().to_owned()
        };
        let old = issuer();
        let new = control.prepare(by(), Kind::X509Ca).await.unwrap().id.to_string();
        control.change(by(), Change::Activate, (Kind::X509Ca, &new)).await.unwrap();
        sleep(3_590).await;
        assert_eq!(issuer(), old);
        if taint {
            control.change(by(), Change::Taint, (Kind::X509Ca, &old)).await.unwrap();
            sleep(1).await;
        } else {
            sleep(20).await;
        }
        assert_eq!(issuer(), new);
        tasks.shutdown(HOUR).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_renewed_stays_and_is_tried_again() {
    let mut bench = Bench::new();
    // The disk of the audit log is full after the start, for 40 tries.
    bench.audit = Arc::new(crate::audit::tests::full_after(10, 40));
    let running = run_on(bench, DAY, HOUR).await;
    let first = running.serial();
    sleep(1_800 + 39 * 5).await;
    assert_eq!(running.serial(), first);
    sleep(10).await;
    assert_ne!(running.serial(), first);
    running.tasks.shutdown(HOUR).await.unwrap();
}

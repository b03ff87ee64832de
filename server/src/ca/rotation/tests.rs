//! Authorities over time, restarts, failures and clocks that are set.

use std::collections::BTreeSet;

use steeple::bundle::{Bundle, JwtAuthority, X509Authority};
use steeple::clock::from_unix_seconds;
use steeple::id::SpiffeId;
use steeple::jwt::keys::JwtKeys;
use steeple::jwt::verify::{Expected, verify};
use steeple::keys::{MemoryKeyStore, PrivateKey, Signer as _};
use steeple::tasks::Tasks;
use steeple::x509::make::{CaRequest, Validity, self_signed_ca};
use steeple::x509::verify::{AnchorSet, Role, verify_peer};
use steeple::x509::{Certificate, X509Svid};
use tracing::Span;

use super::*;
use crate::audit::event::Caller;
use crate::ca::request::{JwtRequest, TokenId, X509Request};
use crate::ca::testing::{Bench, MemoryLedger, NOW, trust_domain};
use crate::ca::{Ca, Order, slots};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs the rotation until the returned tasks are shut down.
pub(super) fn run(rotation: Rotation<MemoryLedger>) -> Tasks {
    let tasks = Tasks::new();
    tasks.spawn(Span::none(), |stop| rotation.run(stop));
    tasks
}

/// What the log tells of authorities: when, seconds after the start, what, and of which kind and
/// slot.
pub(super) fn history(bench: &Bench) -> Vec<String> {
    let events = bench.events().into_iter().filter_map(|event| {
        let what = event["event"].as_str()?.strip_prefix("authority_")?.to_owned();
        let time = humantime::parse_rfc3339(event["time"].as_str()?).ok()?;
        let (kind, slot) = (event["kind"].as_str()?, event["slot"].as_str().unwrap_or("-"));
        Some(format!("{} {what} {kind} {slot}", unix_seconds(time) - NOW))
    });
    events.filter(|event| !event.contains("intent")).collect()
}

fn counts(bundle: &Bundle) -> (usize, usize) {
    (bundle.x509_authorities.len(), bundle.jwt_authorities.len())
}

fn ids(authorities: &Authorities) -> (String, String) {
    (authorities.x509().id().to_string(), authorities.jwt().unwrap().id().to_string())
}

pub(super) async fn sleep(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_authorities_are_made_at_the_start() {
    let bench = Bench::new();
    let rotation = bench.start(DAY).await.unwrap();
    assert_eq!(counts(&bench.ledger.own_bundle()), (1, 1));
    let names = bench.keys.list().await.unwrap();
    let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["JWT-Signer-A", "x509-CA-A"]);
    assert_eq!(
        history(&bench),
        [
            "0 prepared x509_ca A",
            "0 activated x509_ca A",
            "0 prepared jwt_key A",
            "0 activated jwt_key A",
        ]
    );
    let (ca, key) = ids(&rotation.authorities().borrow());
    assert_eq!(ca.len(), 40);
    assert!(key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{key}");
    // The profile of a CA is the library's; what is ours is the name.
    let bundle = bench.ledger.own_bundle();
    let certificate = Certificate::parse(&bundle.x509_authorities[0].certificate).unwrap();
    assert!(certificate.is_ca() && certificate.is_self_signed());
    assert_eq!(certificate.uris(), [b"spiffe://example.org"]);
    assert_eq!(certificate.subject_key_id_hex(), Some(ca));
    assert!(certificate.subject().windows(4).any(|bytes| bytes == b"Test"));
}

#[tokio::test(start_paused = true)]
async fn a_life_of_a_minute_goes_on_for_ever() {
    let bench = Bench::new();
    let tasks = run(bench.start(MINUTE).await.unwrap());
    sleep(115).await;
    let x509: Vec<_> = history(&bench).into_iter().filter(|e| e.contains("x509")).collect();
    assert_eq!(
        x509,
        [
            "0 prepared x509_ca A",
            "0 activated x509_ca A",
            "30 prepared x509_ca B",
            "50 activated x509_ca B",
            "60 prepared x509_ca A",
            "80 activated x509_ca A",
            "90 prepared x509_ca B",
            "110 activated x509_ca B",
            // The first signed nothing, and was useless for a minute.
            "110 pruned x509_ca -",
        ]
        .map(str::to_owned)
    );
    sleep(3600).await;
    let (x509, jwt) = counts(&bench.ledger.own_bundle());
    assert!((2..=4).contains(&x509) && (2..=4).contains(&jwt), "{x509} {jwt}");
    // A key that no longer signs is no longer there.
    assert!(bench.keys.list().await.unwrap().len() <= 4);
    tasks.shutdown(MINUTE).await.unwrap();
}

/// Whoever has the old authorities when the new ones are published signs with them all the same.
#[tokio::test(start_paused = true)]
async fn an_old_key_goes_only_after_another_one_is_published() {
    let bench = Bench::new();
    let rotation = bench.start(HOUR).await.unwrap();
    let mut authorities = rotation.authorities();
    let first = ids(&authorities.borrow());
    let tasks = run(rotation);
    authorities.wait_for(|next| ids(next) != first).await.unwrap();
    assert_eq!(bench.keys.list().await.unwrap().len(), 4);
    sleep(2 * slots::TICK.as_secs()).await;
    assert_eq!(bench.keys.list().await.unwrap().len(), 2);
    tasks.shutdown(MINUTE).await.unwrap();

    // Nor does a restart between the two leave it behind.
    let id = "x509-CA-A".parse().unwrap();
    bench.keys.generate(&id, KeyAlgorithm::EcP256).await.unwrap();
    let tasks = run(bench.start(HOUR).await.unwrap());
    sleep(2 * slots::TICK.as_secs()).await;
    assert!(bench.keys.load(&id).await.unwrap().is_none());
    tasks.shutdown(MINUTE).await.unwrap();
}

/// What somebody was issued, and until when it has to be accepted.
pub(super) struct Held {
    svid: X509Svid,
    token: String,
    until: i64,
}

pub(super) async fn issue(ca: &Ca, spiffe_id: &SpiffeId, ttl: Duration) -> Held {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let public_key = key.public_key();
    let request = X509Request::Workload { spiffe_id, public_key, ttl, dns_names: &[] };
    let order = Order { request, entry_id: None };
    let svid = ca.issue_one_x509(&Caller::Server, &order).await.unwrap().svid;
    let (token_id, issuer, audience) = (TokenId::Omitted, None, &["a".to_owned()]);
    let request = JwtRequest { spiffe_id, audience, ttl, token_id, issuer };
    let order = Order { request, entry_id: None };
    let issued = ca.issue_jwt(&Caller::Server, &order).await.unwrap();
    let until = unix_seconds(svid.not_after()).min(issued.expires_at);
    Held { svid, token: issued.token, until }
}

/// Checks as somebody whose bundle is that one.
pub(super) fn check_accepted(held: &Held, bundle: &Arc<Bundle>, now: i64) {
    let own = &trust_domain();
    let now = from_unix_seconds(now);
    let anchors = AnchorSet::from_bundles(&[(own.clone(), bundle.clone())].into());
    verify_peer(held.svid.chain().certificates(), Role::Client, &anchors, now).unwrap();
    let keys = JwtKeys::new(&bundle.jwt_authorities);
    verify(&held.token, &Expected { audience: "a", own }, |_| Some(&keys), now).unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_signed_is_accepted_until_it_expires_by_those_who_sync_every_5_seconds() {
    let bench = Bench::new();
    let rotation = bench.start(MINUTE).await.unwrap();
    let ca = bench.ca(&rotation);
    let tasks = run(rotation);
    let web = "spiffe://example.org/web".parse().unwrap();
    let mut held: Vec<Held> = Vec::new();
    let mut synced = bench.ledger.own_bundle();
    for second in 0..300 {
        let now = NOW + second;
        if second % 5 == 0 {
            synced = bench.ledger.own_bundle();
        }
        held.push(issue(&ca, &web, Duration::from_secs(40)).await);
        held.retain(|held| now < held.until);
        for held in &held {
            check_accepted(held, &synced, now);
            check_accepted(held, &bench.ledger.own_bundle(), now);
        }
        assert!(!held.is_empty());
        sleep(1).await;
    }
    tasks.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_with_what_is_remembered() {
    let bench = Bench::new();
    let before = ids(&bench.start(DAY).await.unwrap().authorities().borrow());
    sleep(3600).await;
    let after = ids(&bench.start(DAY).await.unwrap().authorities().borrow());
    assert_eq!(before, after);
    assert_eq!(counts(&bench.ledger.own_bundle()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_restart_without_keys_makes_new_authorities_beside_the_old() {
    let mut bench = Bench::new();
    let before = ids(&bench.start(MINUTE).await.unwrap().authorities().borrow());
    bench.keys = Arc::new(MemoryKeyStore::default());
    let rotation = bench.start(MINUTE).await.unwrap();
    let after = ids(&rotation.authorities().borrow());
    assert!(before.0 != after.0 && before.1 != after.1);
    assert_eq!(counts(&bench.ledger.own_bundle()), (2, 2));
    assert_eq!(history(&bench)[4..6], ["0 prepared x509_ca B", "0 activated x509_ca B"]);

    // What the lost ones signed is not known, so they stay until they expire and a minute longer.
    let tasks = run(rotation);
    let is_there = || {
        let bundle = bench.ledger.own_bundle();
        bundle.jwt_authorities.iter().any(|key| key.key_id == before.1)
    };
    sleep(119).await;
    assert!(is_there());
    sleep(12).await;
    assert!(!is_there());
    tasks.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_preparing_and_activating_wastes_nothing() {
    let bench = Bench::new();
    let before = ids(&bench.start(MINUTE).await.unwrap().authorities().borrow());
    sleep(30).await;
    // Prepares at once, since half of the life is over, and ends.
    drop(bench.start(MINUTE).await.unwrap());
    assert_eq!(counts(&bench.ledger.own_bundle()), (2, 2));
    sleep(20).await;
    let after = ids(&bench.start(MINUTE).await.unwrap().authorities().borrow());
    assert!(before.0 != after.0 && before.1 != after.1);
    assert_eq!(counts(&bench.ledger.own_bundle()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again_and_its_end_is_told() {
    let bench = Bench::new();
    let rotation = bench.start(MINUTE).await.unwrap();
    let (mut health, authorities) = (rotation.health(), rotation.authorities());
    let before = ids(&authorities.borrow());
    let tasks = run(rotation);
    bench.ledger.fail(true);
    sleep(31).await;
    let Health::Failing { since, why } = health.borrow_and_update().clone() else {
        panic!("not failing");
    };
    assert_eq!(unix_seconds(since), NOW + 30);
    assert!(why.ends_with("the disk is full"), "{why}");
    assert_eq!(counts(&bench.ledger.own_bundle()), (1, 1));

    // The one that is active signs on.
    sleep(20).await;
    assert_eq!(ids(&authorities.borrow()), before);
    assert!(matches!(*health.borrow_and_update(), Health::Failing { since: s, .. } if s == since));
    bench.ledger.fail(false);
    sleep(30).await;
    assert_eq!(*health.borrow(), Health::Rotating);
    assert!(ids(&authorities.borrow()).0 != before.0);
    tasks.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_without_an_authority() {
    let bench = Bench::new();
    bench.ledger.fail(true);
    assert!(matches!(bench.start(DAY).await, Err(RotationError::Ledger(_))));

    let mut bench = Bench::new();
    bench.audit = Arc::new(crate::audit::tests::full_after(0, 9));
    assert!(matches!(bench.start(DAY).await, Err(RotationError::Audit(_))));
    assert_eq!(bench.keys.list().await.unwrap(), []);

    let bench = Bench::new();
    let newer = br#"{"version":2}"#.to_vec();
    Ledger::save(&bench.ledger, newer, Vec::new()).await.unwrap();
    let refused = bench.start(DAY).await;
    assert!(matches!(refused, Err(RotationError::Journal(JournalError::Version(2)))));
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_is_no_longer_vouched_for_is_replaced() {
    let taint = |bundle: &mut Bundle| {
        bundle.x509_authorities[0].tainted = true;
        bundle.jwt_authorities[0].tainted = true;
    };
    let remove = |bundle: &mut Bundle| {
        bundle.x509_authorities.clear();
        bundle.jwt_authorities.clear();
    };
    for change in [taint as fn(&mut Bundle), remove] {
        let bench = Bench::new();
        let rotation = bench.start(DAY).await.unwrap();
        let authorities = rotation.authorities();
        let before = ids(&authorities.borrow());
        let tasks = run(rotation);
        bench.ledger.change(change);
        sleep(11).await;
        let after = ids(&authorities.borrow());
        assert!(before.0 != after.0 && before.1 != after.1);
        tasks.shutdown(MINUTE).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_wrong_for_a_while_costs_nobody_their_trust() {
    let bench = Bench::new();
    let rotation = bench.start(DAY).await.unwrap();
    let ca = bench.ca(&rotation);
    let authorities = rotation.authorities();
    let tasks = run(rotation);
    let web = "spiffe://example.org/web".parse().unwrap();
    let held = issue(&ca, &web, Duration::from_secs(3600)).await;
    for wrong in [NOW + 365 * 86_400, NOW - 365 * 86_400] {
        bench.clock.set(from_unix_seconds(wrong));
        sleep(600).await;
        bench.clock.set(from_unix_seconds(NOW + 60));
        sleep(60).await;
        check_accepted(&held, &bench.ledger.own_bundle(), NOW + 120);
        // What signs is of use again as well.
        let fresh = issue(&ca, &web, Duration::from_secs(3600)).await;
        check_accepted(&fresh, &bench.ledger.own_bundle(), NOW + 120);
        let ends = authorities.borrow().jwt().unwrap().not_after();
        assert!(unix_seconds(ends) < NOW + 366 * 86_400 + 600);
    }
    // A key out of the future does not last until then.
    sleep(7200).await;
    let ends = authorities.borrow().jwt().unwrap().not_after();
    assert!(unix_seconds(ends) < NOW + 3 * 86_400, "{ends:?}");
    tasks.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_others_left_in_the_bundle_goes_a_day_after_its_end() {
    let bench = Bench::new();
    let other = |hours: u32, is_known: bool| {
        let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
        let request = CaRequest {
            trust_domain: &trust_domain(),
            subject: &Subject::default(),
            validity: Validity::new(from_unix_seconds(NOW), hours * HOUR),
        };
        let certificate = self_signed_ca(&request, &key).unwrap().certificates()[0].clone();
        let jwt = JwtAuthority {
            key_id: format!("other-{hours}"),
            public_key: key.public_key().spki_der().to_vec(),
            expires_at: is_known.then_some(NOW + 3600 * i64::from(hours)),
            tainted: false,
        };
        (X509Authority { certificate, tainted: false }, jwt)
    };
    bench.ledger.change(|bundle| {
        // When the JWT key of the second ends is not known, so it is nobody's to remove.
        for (hours, is_known) in [(1, true), (2, false), (100, true)] {
            let (x509, jwt) = other(hours, is_known);
            bundle.x509_authorities.push(x509);
            bundle.jwt_authorities.push(jwt);
        }
    });
    let tasks = run(bench.start(60 * DAY).await.unwrap());
    let others = || -> BTreeSet<String> {
        let bundle = bench.ledger.own_bundle();
        let others = bundle.jwt_authorities.iter().filter(|key| key.key_id.contains("other"));
        others.map(|key| key.key_id.clone()).collect()
    };
    let counts = || counts(&bench.ledger.own_bundle());
    // A day after its end, and when it has been useless for an hour by any clock.
    sleep(26 * 3600).await;
    assert_eq!(counts(), (4, 4));
    sleep(20).await;
    assert_eq!(counts(), (3, 3));
    sleep(3600).await;
    assert_eq!(counts(), (2, 3));
    assert_eq!(others(), ["other-100", "other-2"].map(str::to_owned).into());
    tasks.shutdown(MINUTE).await.unwrap();
}

//! Authorities of a server that has another one above it.

use steeple::bundle::Bundle;
use steeple::id::SpiffeId;
use steeple::keys::Signer as _;
use steeple::tasks::Tasks;
use steeple::x509::Certificate;
use steeple::x509::verify::{AnchorSet, Role, verify_peer};
use tracing::Span;

use super::*;
use crate::ca::Order;
use crate::ca::control::{AuthorityControl, Change, ControlError};
use crate::ca::journal::Journal;
use crate::ca::request::X509Request;
use crate::ca::rotation::{Health, Rotation};
use crate::ca::testing::tiers::{HOUR, Tier, key};
use crate::ca::testing::upstream::{FakeUpstream, vouched_for};
use crate::ca::testing::{Bench, MemoryLedger};

mod revoked_keys;

const BY: Caller = Caller::Local { uid: 7, gid: 8, pid: None };

/// A server below `upstream`, which signs with the root or below it.
fn bench(signer: Tier, root: &Tier) -> (Bench, Arc<FakeUpstream>) {
    let mut bench = Bench::new();
    let upstream = FakeUpstream::new(bench.clock.clone(), signer, root);
    bench.upstream = Some(upstream.clone());
    (bench, upstream)
}

fn run(rotation: Rotation<MemoryLedger>) -> (AuthorityControl, Tasks) {
    let (control, tasks) = (rotation.control(), Tasks::new());
    tasks.spawn(Span::none(), |stop| rotation.run(stop));
    (control, tasks)
}

fn journal(bench: &Bench) -> Journal {
    Journal::decode(&bench.ledger.stored().unwrap()).unwrap()
}

/// The roots in the bundle, each with whether it is tainted.
fn roots(bundle: &Bundle) -> Vec<(String, bool)> {
    let root = |der: &[u8]| Certificate::parse(der).unwrap().subject_key_id_hex().unwrap();
    let roots = bundle.x509_authorities.iter();
    roots.map(|authority| (root(&authority.certificate), authority.tainted)).collect()
}

fn jwt_key(key_id: &str) -> JwtAuthority {
    let public_key = key().public_key().spki_der().to_vec();
    JwtAuthority { key_id: key_id.into(), public_key, expires_at: None, tainted: false }
}

async fn sleep(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_ca_from_upstream_signs_and_its_chain_is_served_up_to_below_the_root() {
    let root = Tier::root();
    let direct = Tier { chain: root.chain.clone(), key: root.key.clone() };
    for (signer, length) in [(direct, 2), (root.below("td", 9 * HOUR), 3)] {
        let (bench, _) = bench(signer, &root);
        let rotation = bench.start(HOUR).await.unwrap();
        assert_eq!(roots(&bench.ledger.own_bundle()), [(root.id(), false)]);
        let key = key();
        let spiffe_id: SpiffeId = "spiffe://example.org/web".parse().unwrap();
        let order = Order {
            request: X509Request::Workload {
                spiffe_id: &spiffe_id,
                public_key: key.public_key(),
                ttl: Duration::from_secs(60),
                dns_names: &[],
            },
            entry_id: None,
        };
        let issued = bench.ca(&rotation).issue_one_x509(&BY, &order).await.unwrap();
        let chain = issued.svid.chain().certificates();
        assert_eq!(chain.len(), length);
        let bundle = bench.ledger.own_bundle();
        let anchors = AnchorSet::from_bundles(&[(bundle.trust_domain.clone(), bundle)].into());
        let now = steeple::clock::Clock::now(&*bench.clock);
        verify_peer(chain, Role::Client, &anchors, now).unwrap();
        let state = rotation.control().state(Kind::X509Ca).unwrap();
        assert_eq!(state.active.upstream_authority_id, Some(root.id().into()));
    }
}

/// `ca_ttl` is a wish: the schedule is that of the life that upstream gave.
#[tokio::test(start_paused = true)]
async fn a_ca_is_replaced_before_the_life_that_upstream_gave_it_ends() {
    let root = Tier::root();
    let (bench, upstream) = bench(root.below("td", 9 * HOUR), &root);
    upstream.state().longest = Duration::from_secs(600);
    let (control, _tasks) = run(bench.start(HOUR).await.unwrap());
    let first = control.state(Kind::X509Ca).unwrap().active;
    assert_eq!(first.expires_at, Some(crate::ca::testing::NOW + 600));
    sleep(310).await;
    assert_eq!(upstream.state().minted, 2);
    sleep(200).await;
    assert_ne!(control.state(Kind::X509Ca).unwrap().active.id, first.id);
}

#[tokio::test(start_paused = true)]
async fn without_upstream_a_server_starts_only_with_a_ca_that_signs() {
    let root = Tier::root();
    let (bench, upstream) = bench(root.below("td", 9 * HOUR), &root);
    upstream.state().away = true;
    let error = bench.start(HOUR).await.unwrap_err();
    assert!(matches!(error, RotationError::Upstream(_)), "{error:?}");
    upstream.state().away = false;
    let active = bench.start(HOUR).await.unwrap().authorities().borrow().x509().id().clone();
    // The next CA is due, and upstream is away: what there is signs on, and that is tried again.
    upstream.state().away = true;
    sleep(40 * 60).await;
    let rotation = bench.start(HOUR).await.unwrap();
    let (health, authorities) = (rotation.health(), rotation.authorities());
    assert!(matches!(&*health.borrow(), Health::Failing { .. }));
    let (_control, _tasks) = run(rotation);
    assert_eq!(*authorities.borrow().x509().id(), active);
    upstream.state().away = false;
    sleep(15 * 60).await;
    assert_ne!(*authorities.borrow().x509().id(), active);
    assert_eq!(*health.borrow(), Health::Rotating);
}

/// `spire.md` 6.2: the branch signs with another CA before it passes the taint on.
#[tokio::test(start_paused = true)]
async fn a_root_that_is_tainted_upstream_is_moved_off_and_goes_when_it_is_revoked() {
    let (old, new) = (Tier::root(), Tier::root());
    let (bench, upstream) = bench(old.below("td", 9 * HOUR), &old);
    let (control, _tasks) = run(bench.start(HOUR).await.unwrap());
    let first = control.state(Kind::X509Ca).unwrap().active.id;
    upstream.say(&[(&old, false), (&new, false)], &[]);
    sleep(1).await;
    assert_eq!(roots(&bench.ledger.own_bundle()), [(old.id(), false), (new.id(), false)]);
    assert_eq!(control.state(Kind::X509Ca).unwrap().active.id, first);

    // While upstream cannot give another CA, the old one is not tainted here.
    upstream.state().away = true;
    upstream.say(&[(&old, true), (&new, false)], &[]);
    sleep(30).await;
    assert_eq!(roots(&bench.ledger.own_bundle()), [(old.id(), false), (new.id(), false)]);
    // Nor while it still signs with what it has tainted.
    upstream.state().away = false;
    sleep(20 * 60).await;
    assert_eq!(roots(&bench.ledger.own_bundle()), [(old.id(), false), (new.id(), false)]);
    // It is asked about once a minute, and what it gives is not remembered.
    let asked = upstream.state().minted;
    assert!((15..50).contains(&asked), "{asked}");
    assert_eq!(journal(&bench).records().len(), 2);
    upstream.state().signer = new.below("td", 9 * HOUR);
    sleep(75).await;
    let state = control.state(Kind::X509Ca).unwrap();
    assert_eq!(state.active.upstream_authority_id, Some(new.id().into()));
    assert_ne!(state.active.id, first);
    assert_eq!(roots(&bench.ledger.own_bundle()), [(old.id(), true), (new.id(), false)]);

    upstream.say(&[(&new, false)], &[]);
    sleep(1).await;
    assert_eq!(roots(&bench.ledger.own_bundle()), [(new.id(), false)]);
    assert_eq!(control.state(Kind::X509Ca).unwrap().old, None);
    let events = bench.events();
    let told = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!((told("authority_tainted"), told("authority_revoked")), (1, 1));
}

/// Nobody has heard of a taint: while this server was away, the root was tainted and revoked.
#[tokio::test(start_paused = true)]
async fn a_root_that_was_revoked_meanwhile_is_left_at_once_or_the_admin_is_told() {
    let (old, new) = (Tier::root(), Tier::root());
    let (bench, upstream) = bench(old.below("td", 9 * HOUR), &old);
    drop(bench.start(HOUR).await.unwrap());
    upstream.say(&[(&new, false)], &[]);
    // It is known what is wrong while above nothing else signs.
    let rotation = bench.start(HOUR).await.unwrap();
    let health = rotation.control().health();
    let Health::Failing { why, .. } = health else { panic!("{health:?}") };
    let says = [&*old.id(), "has to sign below another root", "does not lead to a root"];
    assert!(says.iter().all(|text| why.contains(text)), "{why}");
    assert_eq!(roots(&bench.ledger.own_bundle()), [(old.id(), false), (new.id(), false)]);
    let (control, _tasks) = run(rotation);
    sleep(30).await;
    assert_eq!(
        control.health(),
        Health::Failing { why, since: steeple::clock::from_unix_seconds(crate::ca::testing::NOW) }
    );
    upstream.state().signer = new.below("td", 9 * HOUR);
    sleep(75).await;
    assert_eq!(roots(&bench.ledger.own_bundle()), [(new.id(), false)]);
    let state = control.state(Kind::X509Ca).unwrap();
    assert_eq!(state.active.upstream_authority_id, Some(new.id().into()));
    assert_eq!(control.health(), Health::Rotating);

    // Where above something else signs, nobody has to be told of anything.
    upstream.state().signer = old.below("td", 9 * HOUR);
    upstream.say(&[(&old, false)], &[]);
    sleep(1).await;
    assert_eq!(control.health(), Health::Rotating);
    assert_eq!(roots(&bench.ledger.own_bundle()), [(old.id(), false)]);
    let state = control.state(Kind::X509Ca).unwrap();
    assert_eq!(state.active.upstream_authority_id, Some(old.id().into()));
}

#[tokio::test(start_paused = true)]
async fn keys_that_sign_tokens_go_up_and_come_down() {
    let root = Tier::root();
    let (bench, upstream) = bench(root.below("td", 9 * HOUR), &root);
    let ours = |bench: &Bench| {
        let bundle = bench.ledger.own_bundle();
        bundle.jwt_authorities.iter().map(|key| key.key_id.clone()).collect::<Vec<_>>()
    };
    upstream.state().keys = Some(vec![jwt_key("root")]);
    let (control, _tasks) = run(bench.start(HOUR).await.unwrap());
    let own = control.state(Kind::JwtKey).unwrap().active.id.to_string();
    assert_eq!(ours(&bench), [own.clone(), "root".into()]);
    let published = upstream.state().keys.clone().unwrap();
    assert_eq!(published.iter().map(|key| &key.key_id).collect::<Vec<_>>(), ["root", &own]);

    let sibling = jwt_key("sibling");
    upstream.say(&[(&root, false)], &[published.clone(), vec![sibling.clone()]].concat());
    sleep(11).await;
    assert_eq!(ours(&bench), [own.clone(), "root".into(), "sibling".into()]);
    // Upstream forgets the key of this server, and revokes that of the other one.
    upstream.say(&[(&root, false)], &published[..1]);
    sleep(11).await;
    assert_eq!(ours(&bench), [own.clone(), "root".into()]);
    assert_eq!(upstream.state().keys.as_ref().unwrap().last().unwrap().key_id, own);
    // What an administrator revokes here does not come back.
    bench.ledger.change(|bundle| bundle.jwt_authorities.retain(|key| key.key_id != "root"));
    upstream.say(&[(&root, false)], &[published, vec![jwt_key("more")]].concat());
    sleep(1).await;
    assert_eq!(ours(&bench), [own, "more".into()]);
}

/// Who has prepared a key lets it sign once it has come round, and it comes round by what is above.
#[tokio::test(start_paused = true)]
async fn a_key_that_was_prepared_is_known_above_or_said_not_to_be() {
    let root = Tier::root();
    let (bench, upstream) = bench(root.below("td", 9 * HOUR), &root);
    upstream.state().keys = Some(Vec::new());
    let (control, _tasks) = run(bench.start(HOUR).await.unwrap());
    let prepared = control.prepare(BY, Kind::JwtKey).await.unwrap().id;
    assert_eq!(upstream.keys().last().unwrap().key_id, prepared.to_string());
    assert_eq!(control.publication(&prepared), Some(Publication::At(Instant::now())));
    control.change(BY, Change::Activate, (Kind::JwtKey, prepared.as_str())).await.unwrap();

    upstream.state().away = true;
    let next = control.prepare(BY, Kind::JwtKey).await.unwrap().id;
    assert_eq!(control.publication(&next), Some(Publication::Missing));
    upstream.state().away = false;
    assert_eq!(control.prepare(BY, Kind::JwtKey).await.unwrap().id, next);
    assert_eq!(control.publication(&next), Some(Publication::At(Instant::now())));
    assert_eq!(upstream.keys().last().unwrap().key_id, next.to_string());
}

/// Scenario force-rotation-upstream-authority, for what does not say what it vouches for.
#[tokio::test(start_paused = true)]
async fn an_upstream_authority_is_tainted_and_revoked_by_hand_once_nothing_depends_on_it() {
    let (old, new) = (Tier::root(), Tier::root());
    let (old_id, new_id) = (old.id(), new.id());
    let (bench, upstream) = bench(Tier { chain: old.chain.clone(), key: old.key.clone() }, &old);
    let (control, _tasks) = run(bench.start(HOUR).await.unwrap());
    let change = async |change, id: &str| control.change_upstream(BY, change, id).await;
    assert!(matches!(change(Change::Taint, &old_id).await, Err(ControlError::Active)));
    assert!(matches!(change(Change::Taint, &new_id).await, Err(ControlError::Unknown)));
    upstream.state().roots = vec![vouched_for(&new, false)];
    upstream.state().signer = new;
    let prepared = control.prepare(BY, Kind::X509Ca).await.unwrap();
    assert_eq!(prepared.upstream_authority_id, Some(new_id.clone().into()));
    let id = prepared.id.to_string();
    assert!(matches!(change(Change::Taint, &new_id).await, Err(ControlError::Prepared)));
    control.change(BY, Change::Activate, (Kind::X509Ca, &id)).await.unwrap();
    assert!(matches!(change(Change::Revoke, &old_id).await, Err(ControlError::Untainted)));
    let shouted = old_id.to_ascii_uppercase();
    assert_eq!(change(Change::Taint, &shouted).await.unwrap().id, old_id.clone().into());
    assert_eq!(
        roots(&bench.ledger.own_bundle()),
        [(old_id.clone(), true), (new_id.clone(), false)]
    );
    change(Change::Revoke, &old_id).await.unwrap();
    assert_eq!(roots(&bench.ledger.own_bundle()), [(new_id.clone(), false)]);
    assert_eq!(control.state(Kind::X509Ca).unwrap().old, None);

    // Upstream has it among its roots still: the next CA does not bring it back.
    let both = [&old, &Tier::root()].map(|root| vouched_for(root, false));
    upstream.state().roots.extend(both);
    let prepared = control.prepare(BY, Kind::X509Ca).await.unwrap();
    let ids: Vec<_> = roots(&bench.ledger.own_bundle()).into_iter().map(|(id, _)| id).collect();
    assert!(ids.len() == 2 && !ids.contains(&old_id), "{ids:?}");
    control.change(BY, Change::Activate, (Kind::X509Ca, prepared.id.as_str())).await.unwrap();
    // Nor is a CA taken that depends on it, neither by this process nor by the next one.
    upstream.state().signer = Tier { chain: old.chain.clone(), key: old.key.clone() };
    let refused = control.prepare(BY, Kind::X509Ca).await.unwrap_err();
    let why = steeple::telemetry::with_causes(&refused);
    assert!(why.contains(&old_id) && why.contains("revoked here"), "{why}");
    assert_eq!(control.state(Kind::X509Ca).unwrap().prepared, None);
    let (control, _tasks) = run(bench.start(HOUR).await.unwrap());
    assert!(control.prepare(BY, Kind::X509Ca).await.is_err());
    bench.ledger.change(|bundle| bundle.x509_authorities.push(vouched_for(&old, false)));
    control.prepare(BY, Kind::X509Ca).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_revoked_here_does_not_come_back_with_a_restart() {
    let root = Tier::root();
    let (bench, upstream) = bench(root.below("td", 9 * HOUR), &root);
    upstream.state().keys = Some(vec![jwt_key("bad")]);
    upstream.say(&[(&root, false)], &[jwt_key("bad"), jwt_key("good")]);
    let (control, tasks) = run(bench.start(HOUR).await.unwrap());
    let names = || {
        let bundle = bench.ledger.own_bundle();
        let keys = bundle.jwt_authorities.iter().map(|key| key.key_id.clone());
        keys.filter(|id| ["bad", "good"].contains(&&**id)).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["bad", "good"]);
    for change in [Change::Taint, Change::Revoke] {
        control.change(BY, change, (Kind::JwtKey, "bad")).await.unwrap();
    }
    drop(tasks);
    let (_control, _tasks) = run(bench.start(HOUR).await.unwrap());
    sleep(11).await;
    assert_eq!(names(), ["good"]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_with_a_ca_and_is_none_itself_is_left_out() {
    let root = Tier::root();
    let (bench, upstream) = bench(root.below("td", 9 * HOUR), &root);
    let junk = steeple::bundle::X509Authority { certificate: vec![1].into(), tainted: false };
    upstream.state().roots.extend([vouched_for(&root.leaf(), false), junk]);
    bench.start(HOUR).await.unwrap();
    assert_eq!(roots(&bench.ledger.own_bundle()), [(root.id(), false)]);
}

#[tokio::test(start_paused = true)]
async fn without_an_upstream_authority_there_is_none_to_taint() {
    let (control, _tasks) = run(Bench::new().start(HOUR).await.unwrap());
    let refused = control.change_upstream(BY, Change::Taint, "00").await;
    assert!(matches!(refused, Err(ControlError::NoUpstream)));
}

/// Scenario: a root that an administrator has tainted here, while the files above still sign with it.
#[tokio::test(start_paused = true)]
async fn a_ca_below_a_tainted_root_is_not_stored_and_seldom_tried() {
    let root = Tier::root();
    let (bench, upstream) = bench(root.below("td", 9 * HOUR), &root);
    let (_control, _tasks) = run(bench.start(HOUR).await.unwrap());
    let before = journal(&bench);
    bench.ledger.change(|bundle| bundle.x509_authorities[0].tainted = true);
    sleep(20 * 60).await;
    assert_eq!(journal(&bench).records(), before.records());
    let minted = upstream.state().minted;
    assert!((15..50).contains(&minted), "{minted}");
}

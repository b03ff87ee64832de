//! Which bundles a node holds, and which authorities in them.

use super::*;

#[tokio::test(start_paused = true)]
async fn only_content_makes_a_bundle_another_one() {
    let world = World::new();
    let mut sync = world.start();
    sync.next().await;
    world.server.own.lock().unwrap().sequence = 7;
    seconds(20).await;
    assert!(sync.is_quiet());
    let newer = Authority::new(world.clock.now()).bundle().x509_authorities;
    world.server.own.lock().unwrap().x509_authorities.extend(newer);
    sync.next().await;
    assert_eq!(sync.own_bundle().bundle.x509_authorities.len(), 2);
    sync.stop().await;
}

#[tokio::test(start_paused = true)]
async fn bundles_that_entries_name_come_and_go() {
    let world = World::new();
    world.entries(&[("e1", &["a", "b"]), ("e2", &["b", "td", "c"])]);
    world.foreign("a", Ok(Some(world.foreign_bundle("a"))));
    world.foreign("b", Ok(Some(world.foreign_bundle("b"))));
    let mut sync = world.start();
    assert_eq!(sync.next().await, view(&["e1", "e2"], &["td", "a", "b"]));

    // A bundle that cannot be had stays, one that is gone goes.
    world.foreign("a", Err(away()));
    world.foreign("b", Ok(None));
    assert_eq!(sync.next().await, view(&["e1", "e2"], &["td", "a"]));

    world.entries(&[("e2", &["c"])]);
    assert_eq!(sync.next().await, view(&["e2"], &["td"]));
    sync.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_more_than_ten_bundles_are_asked_for_at_once() {
    let world = World::new();
    let names: Vec<String> = (0..35).map(|number| format!("d{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.entries(&[("e1", &names)]);
    let mut sync = world.start();
    sync.next().await;
    assert_eq!(world.server.at_once.lock().unwrap().1, 10);
    sync.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_own_bundle_that_vouches_for_nobody_is_not_believed() {
    let world = World::new();
    let mut sync = world.start();
    sync.next().await;
    world.server.own.lock().unwrap().x509_authorities.clear();
    seconds(10).await;
    assert!(sync.is_quiet());
    assert!(sync.status.borrow().trouble.clone().unwrap().contains("without any X.509 authority"));
    *world.server.own.lock().unwrap() = world.foreign_bundle("a");
    seconds(30).await;
    assert!(sync.status.borrow().trouble.clone().unwrap().contains("the bundle of a"));
    sync.stop().await;
}

#[tokio::test(start_paused = true)]
async fn authorities_that_nobody_can_verify_with_are_left_out() {
    use steeple::bundle::{JwtAuthority, X509Authority};
    let world = World::new();
    let x509 = |der: &[u8]| X509Authority { certificate: der.to_vec().into(), tainted: false };
    let leaf = world.authority.identity("spiffe://td/x", 60).svid;
    let jwt = |key_id: &str, public_key: &[u8], expires_at| JwtAuthority {
        key_id: key_id.into(),
        public_key: public_key.to_vec(),
        expires_at,
        tainted: false,
    };
    let key = world.authority.identity("spiffe://td/x", 60).key;
    let spki = steeple::keys::Signer::public_key(&*key).spki_der().to_vec();
    {
        let mut own = world.server.own.lock().unwrap();
        let good = own.x509_authorities[0].clone();
        own.x509_authorities.extend([good, x509(b"garbage"), x509(leaf.chain().leaf())]);
        own.jwt_authorities = vec![
            jwt("good", &spki, None),
            jwt("garbage", b"garbage", None),
            jwt("expired", &spki, Some(1_000)),
        ];
    }
    let mut sync = world.start();
    sync.next().await;
    let bundle = sync.own_bundle().bundle;
    assert_eq!(bundle.x509_authorities, world.authority.bundle().x509_authorities); // H158, PIT-26
    let keys: Vec<_> = bundle.jwt_authorities.iter().map(|key| key.key_id.as_str()).collect();
    assert_eq!(keys, ["good"]);
    sync.stop().await;
}

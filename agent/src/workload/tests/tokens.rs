//! Tokens for whom and for what, and what cannot be asked for.

use serde_json::Value;
use steeple::bundle::Bundle;
use steeple::entry::Entry;
use steeple::jwt::verify::Expected;
use steeple_proto::workload::{JwtBundlesRequest, JwtsvidRequest, JwtsvidResponse};
use tonic::{Code, Status};

use super::client::{Bench, Mood, code, federating, first, foreign, own, request, web, younger};
use crate::identity::tests::entry;

pub(super) async fn fetch(
    bench: &Bench,
    audience: &[&str],
    spiffe_id: &str,
) -> Result<JwtsvidResponse, Status> {
    let audience = audience.iter().map(ToString::to_string).collect();
    let wanted = JwtsvidRequest { audience, spiffe_id: spiffe_id.to_owned() };
    Ok(bench.api().fetch_jwtsvid(request(wanted)).await?.into_inner())
}

fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let decode = |part| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap();
    serde_json::from_slice(&decode(token.split('.').nth(1).unwrap())).unwrap()
}

/// JWT-09, WAPI-40, H063: exactly the audience that was asked for, each once.
#[tokio::test(start_paused = true)]
async fn a_token_is_for_the_whole_audience_and_nobody_else() {
    let bench = Bench::new(vec![web()]).await;
    for (asked, expected) in
        [(&["db"][..], &["db"][..]), (&["b", "a"], &["a", "b"]), (&["a", "b", "a"], &["a", "b"])]
    {
        let message = fetch(&bench, asked, "").await.unwrap();
        let claims = claims(&message.svids[0].svid);
        let mut audience: Vec<_> =
            claims["aud"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
        audience.sort_unstable();
        assert_eq!(audience, expected);
        assert_eq!(claims["sub"], "spiffe://td/web");
        assert!(claims["exp"].is_i64() && claims["iat"].as_i64().unwrap() <= bench.now());
    }
}

/// WAPI-41, WAPI-42, WAPI-44: a token for each identity, or for the one that is named.
#[tokio::test(start_paused = true)]
async fn each_identity_has_a_token_unless_one_is_named() {
    let bench = Bench::new(vec![younger("db"), web(), entry("other", 0, &["u:2"])]).await;
    let [web_id, db_id] = ["web", "db"].map(|name| format!("spiffe://td/{name}"));
    let ids = |message: JwtsvidResponse| {
        let keys = bench.node.bundle.jwt_keys();
        let svids = message.svids.iter().map(|svid| {
            let expected = Expected { audience: "x", own: &own() };
            let now = steeple::clock::from_unix_seconds(bench.now());
            let valid =
                steeple::jwt::verify::verify(&svid.svid, &expected, |_| Some(keys.clone()), now);
            assert_eq!(valid.unwrap().id().as_str(), svid.spiffe_id);
            svid.spiffe_id.clone()
        });
        svids.collect::<Vec<_>>()
    };
    assert_eq!(ids(fetch(&bench, &["x"], "").await.unwrap()), [web_id.clone(), db_id.clone()]);
    assert_eq!(ids(fetch(&bench, &["x"], &db_id).await.unwrap()), [db_id]);
    assert_eq!(ids(fetch(&bench, &["x"], &web_id).await.unwrap()), [web_id]);
}

/// While a token is signed, which may take a minute, an entry may go or change. The server still
/// signs, as one does that decided just before.
#[tokio::test(start_paused = true)]
async fn a_token_leaves_only_for_who_is_still_entitled() {
    let bench = Bench::new(vec![web(), younger("db")]).await;
    let [web_id, db_id] = ["spiffe://td/web", "spiffe://td/db"];
    let ids = |message: JwtsvidResponse| {
        message.svids.into_iter().map(|svid| svid.spiffe_id).collect::<Vec<_>>()
    };
    let while_signed = async |audience: &str, entries: Vec<Entry>, bundle: Bundle| {
        let before = bench.node.entries();
        let fetched = async { fetch(&bench, &[audience], "").await.map(ids) };
        let (fetched, ()) = tokio::join!(fetched, async {
            bench.a_mint_begins().await;
            bench.node.learns(entries, bundle);
        });
        bench.node.publish(before, &bench.node.bundle);
        fetched
    };
    let bundle = || (**bench.node.bundle.bundle()).clone();
    let changed = |mut entry: Entry| {
        entry.revision += 1;
        entry
    };
    let both = || vec![web(), younger("db")];
    assert_eq!(while_signed("a", both(), bundle()).await.unwrap(), [web_id, db_id]);
    assert_eq!(while_signed("b", vec![younger("db")], bundle()).await.unwrap(), [db_id]);
    let one_changed = vec![changed(web()), younger("db")];
    assert_eq!(while_signed("c", one_changed, bundle()).await.unwrap(), [db_id]);
    // Where nothing is left it is as if that had been so from the start.
    let denied = while_signed("d", Vec::new(), bundle()).await;
    assert_eq!(code(denied), Code::PermissionDenied);
    let all_changed = vec![changed(web()), changed(younger("db"))];
    assert_eq!(while_signed("e", all_changed, bundle()).await.unwrap(), [web_id, db_id]);
    for taint in [true, false] {
        let mut own = bundle();
        own.jwt_authorities[0].tainted = taint;
        own.jwt_authorities.truncate(usize::from(taint));
        let refused = while_signed(if taint { "f" } else { "g" }, both(), own).await;
        assert_eq!(code(refused), Code::Unavailable);
    }
}

/// What no entry asks for is not looked at again on a connection, until one does: before a call,
/// and while it is under way.
#[tokio::test(start_paused = true)]
async fn a_caller_is_looked_at_again_for_what_entries_ask_for() {
    let by_user = || entry("web", 1, &["unix:uid:1"]);
    let by_container = || entry("inner", 2, &["docker:label:a:b"]);
    let bench = Bench::new(vec![by_user()]).await;
    let ids = async |audience: &str| {
        let message = fetch(&bench, &[audience], "").await.unwrap();
        message.svids.into_iter().map(|svid| svid.spiffe_id).collect::<Vec<_>>()
    };
    let [outer, inner] = ["spiffe://td/web", "spiffe://td/inner"];
    bench.second.is(Mood::FindsForGood(&[]));
    bench.attestor.is(Mood::FindsForGood(&["unix:uid:1"]));
    assert_eq!(ids("a").await, [outer]);
    // A container that entries ask for is found at once, when the call begins …
    bench.attestor.is(Mood::FindsForGood(&["unix:uid:1", "docker:label:a:b"]));
    bench.publish(vec![by_user(), by_container()], Vec::new());
    assert_eq!(ids("a").await, [outer, inner]);
    // … or in the middle of it.
    bench.publish(vec![by_user()], Vec::new());
    bench.attestor.is(Mood::FindsForGood(&["docker:label:a:b"]));
    let (fetched, ()) = tokio::join!(ids("b"), async {
        bench.a_mint_begins().await;
        bench.publish(vec![by_user(), by_container()], Vec::new());
    });
    assert_eq!(fetched, [inner]);
}

/// WAPI-43, H065: what is somebody else's is denied, as if it were not there.
#[tokio::test(start_paused = true)]
async fn the_identity_of_another_is_denied() {
    let bench = Bench::new(vec![web(), entry("other", 0, &["u:2"])]).await;
    for id in [
        "spiffe://td/other",
        "spiffe://td/nobody",
        "spiffe://td/Web",
        "spiffe://td",
        "spiffe://b/web",
        "spiffe://td/spire/agent/x",
    ] {
        assert_eq!(code(fetch(&bench, &["db"], id).await), Code::PermissionDenied, "{id}");
    }
    assert_eq!(code(fetch(&bench, &["db"], "spiffe://td/web").await), Code::Ok);
}

/// WAPI-43, H064, and of the hostile spellings of an ID (H001 and what follows) one of each kind.
#[tokio::test(start_paused = true)]
async fn an_id_that_is_none_is_invalid() {
    let bench = Bench::new(vec![web()]).await;
    for id in [
        "web",
        "spiffe://",
        "spiffe:///web",
        "https://td/web",
        "SPIFFE://td/web",
        "spiffe://TD/web",
        "spiffe://td:443/web",
        "spiffe://u@td/web",
        "spiffe://td/web?",
        "spiffe://td/web#f",
        "spiffe://td/web/",
        "spiffe://td//web",
        "spiffe://td/./web",
        "spiffe://td/x/../web",
        "spiffe://td/%77eb",
        "spiffe://td/web ",
        " spiffe://td/web",
        "spiffe://td/web\n",
        "spiffe://td/web\0",
        "spiffe://td/w\u{e9}b",
        &format!("{:a<2049}", "spiffe://td/"),
    ] {
        assert_eq!(code(fetch(&bench, &["db"], id).await), Code::InvalidArgument, "{id:?}");
    }
    assert_eq!(code(fetch(&bench, &["db"], "spiffe://td/web").await), Code::Ok);
}

/// WAPI-10, WAPI-40, H060, H061, H062
#[tokio::test(start_paused = true)]
async fn an_audience_is_one_to_32_printable_texts() {
    let bench = Bench::new(vec![web()]).await;
    let many: Vec<String> = (0..60_000).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = "\"".repeat(1025);
    // All different, and as long in a token as they can be.
    let four_kib = [1024, 1023, 1022, 1021, 6].map(|length| &long[..length]);
    for (audience, expected) in [
        (&[][..], Code::InvalidArgument),
        (&[""], Code::InvalidArgument),
        (&["db", ""], Code::InvalidArgument),
        (&many[..32], Code::Ok),
        (&many[..33], Code::InvalidArgument),
        (&many[..1000], Code::InvalidArgument),
        (&many[..], Code::ResourceExhausted), // Of 64 KiB more than enough are read.
        (&[&long[..1024]], Code::Ok),
        (&[&long], Code::InvalidArgument),
        (&four_kib, Code::Ok),
        (&[&four_kib[..], &["b"]].concat(), Code::InvalidArgument),
        (&["d\nb"], Code::InvalidArgument),
        (&["d\0b"], Code::InvalidArgument),
        (&["d\u{85}b"], Code::InvalidArgument),
        (&["d\"b \u{e9}"], Code::Ok),
    ] {
        let outcome = code(fetch(&bench, audience, "").await);
        assert_eq!(outcome, expected, "{} {:?}", audience.len(), audience.first());
    }
}

/// WAPI-46, WAPI-47: the JWT keys of the own and of the named trust domains, and no others.
#[tokio::test(start_paused = true)]
async fn jwt_bundles_are_sets_of_jwt_keys_by_trust_domain() {
    let bench = Bench::new(vec![web()]).await;
    let fetch = async || {
        let fetched = bench.api().fetch_jwt_bundles(request(JwtBundlesRequest {})).await;
        let bundles = first(fetched).await.unwrap().bundles.into_iter();
        let read = |(name, jwks): (String, Vec<u8>)| {
            let jwks: Value = serde_json::from_slice(&jwks).unwrap();
            let keys = jwks["keys"].as_array().unwrap().iter();
            let of_jwt = |key: &Value| {
                assert!(key.get("x5c").is_none() && key["kty"] == "EC", "{key}");
                key["kid"].as_str().unwrap().to_owned()
            };
            (name, keys.map(of_jwt).collect::<Vec<_>>().join(" "))
        };
        bundles.map(read).collect::<Vec<_>>()
    };
    let pair = |name: &str, keys: &str| (name.to_owned(), keys.to_owned());
    assert_eq!(fetch().await, [pair("spiffe://td", "k1")]);
    let foreigners = || vec![foreign("b").bundle, foreign("c").bundle];
    bench.publish(vec![federating(web(), &["b"])], foreigners());
    assert_eq!(fetch().await, [pair("spiffe://b", "k2"), pair("spiffe://td", "k1")]);
    let mut none = (**bench.node.bundle.bundle()).clone();
    none.jwt_authorities.clear();
    bench.publish_own(none);
    assert_eq!(fetch().await, [pair("spiffe://td", "")]);
}

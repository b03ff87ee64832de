//! What is signed and what is refused, in tables.

use steeple::keys::{KeyAlgorithm, PrivateKey, Signer as _};
use steeple::x509::make::MAX_DNS_NAMES;

use super::*;
use crate::ca::testing::{Bench, NOW, trust_domain};

const LIFE: Duration = Duration::from_secs(1000);
const TTL: Duration = Duration::from_secs(100);

async fn authorities() -> std::sync::Arc<Authorities> {
    let rotation = Bench::new().start(LIFE).await.unwrap();
    rotation.authorities().borrow().clone()
}

fn key() -> PublicKey {
    PrivateKey::generate(KeyAlgorithm::EcP256).unwrap().public_key().clone()
}

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

fn at(seconds: i64) -> SystemTime {
    from_unix_seconds(NOW + seconds)
}

#[tokio::test(start_paused = true)]
async fn each_profile_has_ids_of_its_own() {
    let authorities = authorities().await;
    let public_key = &key();
    let check = |spiffe_id: &str, expected: [Result<Profile, Refusal>; 3]| {
        let spiffe_id = &id(spiffe_id);
        let (ttl, dns_names) = (TTL, &[] as &[DnsName]);
        let requests = [
            X509Request::Workload { spiffe_id, public_key, ttl, dns_names },
            X509Request::Minted { spiffe_id, public_key, ttl, dns_names, subject: None },
            X509Request::Agent { spiffe_id, public_key, ttl },
        ];
        let found = requests.map(|request| {
            let prepared = authorities.prepare_x509(&request, at(0))?;
            assert_eq!(prepared.spiffe_id(), spiffe_id);
            Ok(prepared.profile())
        });
        assert_eq!(found, expected, "{spiffe_id}");
    };
    let everybody = |refusal: Refusal| [Err(refusal.clone()), Err(refusal.clone()), Err(refusal)];
    let (web, agent) = (id("spiffe://example.org/web"), "spiffe://example.org/spire/agent/x/y");
    let not_agent = |text: &str| Err(Refusal::NotAnAgent(id(text)));
    check(web.as_str(), [Ok(Profile::Workload), Ok(Profile::Minted), not_agent(web.as_str())]);
    let reserved = || Err(Refusal::Reserved(id(agent)));
    check(agent, [reserved(), reserved(), Ok(Profile::Agent)]);
    for text in ["spiffe://example.org/spire/server", "spiffe://example.org/spire"] {
        let reserved = || Err(Refusal::Reserved(id(text)));
        check(text, [reserved(), reserved(), not_agent(text)]);
    }
    let root = id("spiffe://example.org");
    check(root.as_str(), everybody(Refusal::NoPath(root.clone())));
    for text in ["spiffe://example.com/web", "spiffe://example.org.evil/spire/agent/x"] {
        check(text, everybody(Refusal::ForeignTrustDomain(id(text), trust_domain())));
    }

    let server = X509Request::Server { public_key, ttl: TTL };
    let prepared = authorities.prepare_x509(&server, at(0)).unwrap();
    assert_eq!(prepared.spiffe_id().as_str(), "spiffe://example.org/spire/server");
    assert_eq!(prepared.profile(), Profile::Server);
}

#[tokio::test(start_paused = true)]
async fn a_life_ends_with_the_authority_and_that_is_said() {
    let authorities = authorities().await;
    let (spiffe_id, public_key) = (&id("spiffe://example.org/web"), &key());
    let audience = &["a".to_owned()];
    // What comes out: how long it lives, in seconds, and whether that was cut.
    let check = |ttl, now: i64, expected: Result<(i64, bool), Refusal>| {
        let now = at(now);
        let request = X509Request::Workload { spiffe_id, public_key, ttl, dns_names: &[] };
        let x509 = authorities.prepare_x509(&request, now).map(|prepared| {
            let left = unix_seconds(prepared.not_after()) - unix_seconds(now);
            (left, prepared.is_capped())
        });
        assert_eq!(x509, expected);
        let (token_id, issuer) = (TokenId::Omitted, None);
        let request = JwtRequest { spiffe_id, audience, ttl, token_id, issuer };
        let jwt = authorities.prepare_jwt(&request, now).map(|prepared| {
            assert_eq!(prepared.issued_at(), unix_seconds(now));
            (prepared.expires_at() - unix_seconds(now), prepared.is_capped())
        });
        assert_eq!(jwt, expected);
    };
    let seconds = Duration::from_secs;
    check(seconds(100), 0, Ok((100, false)));
    check(Duration::from_millis(1_999), 0, Ok((1, false)));
    check(seconds(1000), 0, Ok((1000, false)));
    check(seconds(1001), 0, Ok((1000, true)));
    check(MAX_TTL, 0, Ok((1000, true)));
    check(seconds(100), 950, Ok((50, true)));
    check(seconds(100), 999, Ok((1, true)));
    check(seconds(100), 1000, Err(Refusal::AuthorityExpired));
    check(seconds(100), 99_999, Err(Refusal::AuthorityExpired));
    check(Duration::ZERO, 0, Err(Refusal::NoLife));
    check(Duration::from_millis(999), 0, Err(Refusal::NoLife));
    check(MAX_TTL + seconds(1), 0, Err(Refusal::LifeTooLong));
    check(Duration::MAX, 0, Err(Refusal::LifeTooLong));
}

#[tokio::test(start_paused = true)]
async fn an_audience_is_bounded_and_written_once() {
    let authorities = authorities().await;
    let spiffe_id = &id("spiffe://example.org/web");
    let check = |audience: &[&str], expected: Result<&[&str], Refusal>| {
        let audience: Vec<_> = audience.iter().map(|&name| name.to_owned()).collect();
        let (token_id, issuer) = (TokenId::Omitted, None);
        let request = JwtRequest { spiffe_id, audience: &audience, ttl: TTL, token_id, issuer };
        let prepared = authorities.prepare_jwt(&request, at(0));
        let found = prepared.map(|prepared| prepared.audience().to_vec());
        let expected: Result<Vec<_>, _> =
            expected.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        assert_eq!(found, expected);
    };
    check(&["b", "a"], Ok(&["b", "a"]));
    check(&["b", "a", "b", "a"], Ok(&["b", "a"]));
    check(&["A", "a", "a "], Ok(&["A", "a", "a "]));
    check(
        &["spiffe://example.org/db", "https://x/?q=ü"],
        Ok(&["spiffe://example.org/db", "https://x/?q=ü"]),
    );
    check(&[], Err(Refusal::NoAudience));
    check(&[""], Err(Refusal::EmptyAudience));
    check(&["a", ""], Err(Refusal::EmptyAudience));
    for control in ["a\n", "\0", "a\u{7f}", "\u{85}"] {
        check(&[control], Err(Refusal::AudienceControl));
    }
    let long = "a".repeat(MAX_AUDIENCE_LENGTH);
    check(&[&long], Ok(&[&long]));
    check(&[&format!("{long}a")], Err(Refusal::AudienceTooLong));
    let names: Vec<_> = (0..=MAX_AUDIENCES).map(|number| number.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    check(&names[1..], Ok(&names[1..]));
    check(&names, Err(Refusal::TooManyAudiences));
    check(&vec!["a"; MAX_AUDIENCES + 1], Err(Refusal::TooManyAudiences));
}

#[tokio::test(start_paused = true)]
async fn a_token_has_a_name_if_it_is_to_and_no_two_have_one() {
    let authorities = authorities().await;
    let (spiffe_id, audience) = (&id("spiffe://example.org/web"), &["a".to_owned()]);
    let name = |token_id| {
        let request = JwtRequest { spiffe_id, audience, ttl: TTL, token_id, issuer: None };
        authorities.prepare_jwt(&request, at(0)).unwrap().token_id().map(str::to_owned)
    };
    assert_eq!(name(TokenId::Omitted), None);
    let names: BTreeSet<_> = (0..100).map(|_| name(TokenId::Unique).unwrap()).collect();
    assert_eq!(names.len(), 100);
    assert!(names.iter().all(|name| name.len() == 22));
}

#[tokio::test(start_paused = true)]
async fn a_token_names_no_agent_and_no_server() {
    let authorities = authorities().await;
    let audience = &["a".to_owned()];
    for text in ["spiffe://example.org/spire/agent/x", "spiffe://example.org/spire/server"] {
        let spiffe_id = &id(text);
        let (token_id, issuer) = (TokenId::Omitted, None);
        let request = JwtRequest { spiffe_id, audience, ttl: TTL, token_id, issuer };
        let found = authorities.prepare_jwt(&request, at(0)).map(drop);
        assert_eq!(found, Err(Refusal::Reserved(id(text))));
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_dns_names_are_refused() {
    let authorities = authorities().await;
    let names = |count: usize| -> Vec<DnsName> {
        (0..count).map(|number| DnsName::new(&format!("h{number}.example")).unwrap()).collect()
    };
    let (spiffe_id, public_key) = (&id("spiffe://example.org/web"), &key());
    let prepare = |dns_names: &[DnsName]| {
        let request = X509Request::Workload { spiffe_id, public_key, ttl: TTL, dns_names };
        authorities.prepare_x509(&request, at(0)).map(drop)
    };
    assert_eq!(prepare(&names(MAX_DNS_NAMES)), Ok(()));
    let refusal = Refusal::Certificate(MakeError::TooManyDnsNames);
    assert_eq!(prepare(&names(MAX_DNS_NAMES + 1)), Err(refusal));
}

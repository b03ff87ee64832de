//! `ValidateJWTSVID`: whose tokens, and for whom. Every rule on a token by itself is a case of
//! `steeple::jwt`; these show that the rules are asked.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::Arc;
use steeple::jwt::make::JwtSigner;
use steeple::keys::{Scheme, Signer as _};
use steeple_proto::workload::{ValidateJwtsvidRequest, ValidateJwtsvidResponse};
use tonic::{Code, Status};

use super::client::{Bench, Foreign, Mood, code, federating, foreign, request, token, web};

pub(super) async fn validate(
    bench: &Bench,
    audience: &str,
    svid: &str,
) -> Result<ValidateJwtsvidResponse, Status> {
    let wanted = ValidateJwtsvidRequest { audience: audience.into(), svid: svid.into() };
    Ok(bench.api().validate_jwtsvid(request(wanted)).await?.into_inner())
}

/// The token of `header` and `claims`, really signed.
fn forge(foreign: &Foreign, header: &str, claims: &str) -> String {
    let encode = |text: &[u8]| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
    let signature = foreign.key.sign(Scheme::Jws, signed.as_bytes()).unwrap();
    format!("{signed}.{}", encode(&signature))
}

/// WAPI-49, WAPI-50, WAPI-51: who it is, and the claims with `aud` as a list.
#[tokio::test(start_paused = true)]
async fn a_valid_token_says_who_it_is() {
    let bench = Bench::new(vec![web()]).await;
    let valid = validate(&bench, "db", &bench.token()).await.unwrap();
    assert_eq!(valid.spiffe_id, "spiffe://td/someone");
    let claims = valid.claims.unwrap().fields;
    let shown = |name: &str| format!("{:?}", claims[name].kind.as_ref().unwrap());
    assert_eq!(shown("sub"), "StringValue(\"spiffe://td/someone\")");
    assert!(shown("aud").starts_with("ListValue(") && shown("aud").contains("\"db\""));
    assert_eq!(shown("exp"), "NumberValue(1800000300.0)");
}

/// WAPI-10, WAPI-49, H066: both fields have to be there.
#[tokio::test(start_paused = true)]
async fn a_token_and_an_audience_have_to_be_given() {
    let bench = Bench::new(vec![web()]).await;
    let token = bench.token();
    for (audience, svid, expected) in [
        ("", token.as_str(), Code::InvalidArgument),
        ("db", "", Code::InvalidArgument),
        ("", "", Code::InvalidArgument),
        ("db", &token, Code::Ok),
    ] {
        assert_eq!(code(validate(&bench, audience, svid).await), expected);
    }
}

/// SID-16, SID-17, JWT-08, WAPI-49, WAPI-52: what is not valid is an invalid argument.
#[tokio::test(start_paused = true)]
async fn what_is_not_a_valid_token_for_the_audience_is_invalid() {
    let bench = Bench::new(vec![web()]).await;
    let good = bench.token();
    let flipped = {
        let claims = good.split('.').nth(1).unwrap();
        let read = String::from_utf8(URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        let other = URL_SAFE_NO_PAD.encode(read.replace("td/someone", "td/somebody"));
        good.replace(claims, &other)
    };
    let stranger = Arc::clone(&foreign("b").key);
    let own_id = JwtSigner::new("k1", stranger).unwrap();
    let of_another = token(&own_id, "spiffe://td/someone", bench.now());
    let expired = token(&bench.node.server.jwt, "spiffe://td/someone", bench.now() - 400);
    for (audience, svid) in [
        ("dc", good.as_str()),
        ("DB", &good),
        ("db", &flipped),
        ("db", &of_another),
        ("db", &expired),
        ("db", good.trim_end_matches(|c| c != '.')),
        // Documents of other kinds, signed or not.
        ("db", "v4.public.eyJzdWIiOiJzcGlmZmU6Ly90ZC9zb21lb25lIn0"),
        ("db", "<saml:Assertion xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\"/>"),
        ("db", "{\"payload\":\"\",\"protected\":\"\",\"signature\":\"\"}"),
        ("db", "a.b.c.d.e"),
    ] {
        assert_eq!(code(validate(&bench, audience, svid).await), Code::InvalidArgument, "{svid}");
    }
    assert_eq!(code(validate(&bench, "db", &good).await), Code::Ok);
}

/// WAPI-53, H095, TDB-11: a foreign token is valid for who federates with its trust domain.
#[tokio::test(start_paused = true)]
async fn a_foreign_token_is_valid_for_who_federates() {
    let bench = Bench::new(vec![web()]).await;
    let (b, c) = (foreign("b"), foreign("c"));
    let of_b = token(&b.signer, "spiffe://b/x", bench.now());
    let bundles = || vec![b.bundle.clone(), c.bundle.clone()];
    for (names, expected) in
        [(&[][..], Code::InvalidArgument), (&["c"], Code::InvalidArgument), (&["b"], Code::Ok)]
    {
        bench.publish(vec![federating(web(), names)], bundles());
        assert_eq!(code(validate(&bench, "db", &of_b).await), expected, "{names:?}");
    }
    // The keys of one trust domain say nothing in the name of another.
    bench.publish(vec![federating(web(), &["b", "c"])], bundles());
    for id in ["spiffe://c/x", "spiffe://td/x"] {
        let claimed = token(&b.signer, id, bench.now());
        assert_eq!(code(validate(&bench, "db", &claimed).await), Code::InvalidArgument, "{id}");
    }
    bench.publish(vec![federating(web(), &["b"])], Vec::new());
    assert_eq!(code(validate(&bench, "db", &of_b).await), Code::InvalidArgument);
    // Who federates, if that is not known.
    bench.publish(vec![federating(web(), &["b"])], bundles());
    assert_eq!(code(validate(&bench, "db", &of_b).await), Code::Ok);
    for (mood, expected) in
        [(Mood::Fails, Code::Unavailable), (Mood::Finds(&["u:2"]), Code::InvalidArgument)]
    {
        bench.attestor.is(mood);
        assert_eq!(code(validate(&bench, "db", &of_b).await), expected, "{mood:?}");
        assert_eq!(code(validate(&bench, "db", &bench.token()).await), Code::Ok, "{mood:?}");
    }
}

/// TDB-09: a bundle that becomes empty revokes what it vouched for.
#[tokio::test(start_paused = true)]
async fn a_bundle_without_keys_revokes_the_tokens_of_its_trust_domain() {
    let bench = Bench::new(vec![web()]).await;
    let b = foreign("b");
    let svid = token(&b.signer, "spiffe://b/x", bench.now());
    let mut empty = b.bundle.clone();
    empty.jwt_authorities.clear();
    for (bundle, expected) in [(b.bundle.clone(), Code::Ok), (empty, Code::InvalidArgument)] {
        bench.publish(vec![federating(web(), &["b"])], vec![bundle]);
        assert_eq!(code(validate(&bench, "db", &svid).await), expected);
    }
}

/// JWT-06, H100, H111: a WIT-SVID is no bearer token. The rows differ in `typ` alone.
#[tokio::test(start_paused = true)]
async fn a_token_of_another_type_is_no_jwt_svid() {
    let bench = Bench::new(vec![web()]).await;
    let b = foreign("b");
    bench.publish(vec![federating(web(), &["b"])], vec![b.bundle.clone()]);
    let claims = r#"{"sub":"spiffe://b/x","aud":"db","exp":1800000300}"#;
    for (typ, expected) in [
        ("JWT", Code::Ok),
        ("JOSE", Code::Ok),
        ("wit+jwt", Code::InvalidArgument),
        ("at+jwt", Code::InvalidArgument),
        ("jwt", Code::InvalidArgument),
    ] {
        let header = format!(r#"{{"alg":"ES256","kid":"k2","typ":"{typ}"}}"#);
        let svid = forge(&b, &header, claims);
        assert_eq!(code(validate(&bench, "db", &svid).await), expected, "{typ}");
    }
}

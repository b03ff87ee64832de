//! JWT-SVIDs: what verifies was signed, as it stands, by a key of the subject's trust domain, and
//! says what another reader of JSON finds in it.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use steeple::bundle::JwtAuthority;
use steeple::clock::from_unix_seconds;
use steeple::id::{SpiffeId, TrustDomain};
use steeple::jwt::keys::JwtKeys;
use steeple::jwt::make::{Claims, JwtSigner};
use steeple::jwt::parse;
use steeple::jwt::verify::{self, Expected, JwtError, JwtSvid};
use steeple::keys::{KeyAlgorithm, PrivateKey, Scheme, Signer as _};

use crate::input::{Input, Seed};
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "jws",
    check,
    seeds,
    words: &[
        "\"alg\":\"ES256\"",
        "\"alg\":\"ES384\"",
        "\"alg\":\"RS256\"",
        "\"alg\":\"PS256\"",
        "\"alg\":\"HS256\"",
        "\"alg\":\"none\"",
        "\"typ\":\"JWT\"",
        "\"typ\":\"JOSE\"",
        "\"crit\":[\"exp\"]",
        "\"jwk\":{}",
        "\"cty\":\"JWT\"",
        "\"kid\":",
        "\"ec\"",
        "\"ec384\"",
        "\"rsa\"",
        "\"sub\":",
        "\"aud\":",
        "\"exp\":",
        "\"nbf\":",
        "\"iat\":",
        "\"spiffe://a.org/x\"",
        "\"spiffe://b.org/x\"",
        "\"spiffe://a.org\"",
        "[\"me\",\"you\"]",
        "1800000000",
        "1e99",
        "-1.5",
        "null",
        "\\u0061",
        ",",
        ".",
        "=",
    ],
    max_length: 4096,
};

const NOW: i64 = 1_800_000_000;
const AUDIENCE: &str = "me";

/// Whoever may sign here, and whoever only tries to.
struct Signatory {
    /// The trust domain whose bundle has the key.
    of: Option<&'static str>,
    key_id: &'static str,
    /// What the key's tokens may say that they are signed with.
    algorithms: &'static [&'static str],
    key: PrivateKey,
}

struct World {
    own: TrustDomain,
    signatories: Vec<Signatory>,
    bundles: Vec<(TrustDomain, JwtKeys)>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    const RSA: &[&str] = &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
    let signatory = |of, key_id, algorithm, algorithms| {
        let key = PrivateKey::generate(algorithm).unwrap();
        Signatory { of, key_id, algorithms, key }
    };
    let signatories = vec![
        signatory(Some("a.org"), "ec", KeyAlgorithm::EcP256, &["ES256"]),
        signatory(Some("a.org"), "ec384", KeyAlgorithm::EcP384, &["ES384"]),
        signatory(Some("a.org"), "rsa", KeyAlgorithm::Rsa2048, RSA),
        signatory(Some("b.org"), "ec", KeyAlgorithm::EcP256, &["ES256"]),
        signatory(None, "ec", KeyAlgorithm::EcP256, &["ES256"]),
    ];
    let keys = |name: &str| {
        let of_it = signatories.iter().filter(|signatory| signatory.of == Some(name));
        let authorities: Vec<_> = of_it.map(Signatory::authority).collect();
        (TrustDomain::parse(name).unwrap(), JwtKeys::new(&authorities))
    };
    let bundles = vec![keys("a.org"), keys("b.org"), keys("empty.org")];
    World { own: TrustDomain::parse("a.org").unwrap(), signatories, bundles }
});

impl Signatory {
    fn authority(&self) -> JwtAuthority {
        JwtAuthority {
            key_id: self.key_id.to_owned(),
            public_key: self.key.public_key().spki_der().to_vec(),
            expires_at: None,
            tainted: false,
        }
    }
}

impl World {
    fn verify(&self, token: &str) -> Result<JwtSvid, JwtError> {
        let expected = Expected { audience: AUDIENCE, own: &self.own };
        let keys =
            |name: &TrustDomain| Some(&self.bundles.iter().find(|(other, _)| other == name)?.1);
        verify::verify(token, &expected, keys, from_unix_seconds(NOW))
    }
}

/// Three ways to a token: a text as it is; header and claims signed by somebody; the same with the
/// token changed after that.
fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let form = input.byte() % 3;
    if form == 0 {
        if let Ok(token) = std::str::from_utf8(input.rest()) {
            check_spelling(token);
            assert!(WORLD.verify(token).is_err(), "nobody signed {token}");
        }
        return;
    }
    let signatory = &WORLD.signatories[usize::from(input.byte()) % WORLD.signatories.len()];
    let change = (form == 2).then(|| (input.number(), input.byte(), input.chunk()));
    let (header, claims) = (input.chunk(), input.rest());
    let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = signatory.key.sign(Scheme::Jws, signed.as_bytes()).unwrap();
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    let shown = change.map_or_else(|| token.clone(), |change| changed(&token, change));
    check_spelling(&shown);
    let Ok(svid) = WORLD.verify(&shown) else { return };
    assert_eq!(shown, token, "signed was another token");
    check_claims(&svid, signatory, header, claims);
}

/// The token with a piece replaced by another.
fn changed(token: &str, (at, length, by): (usize, u8, &[u8])) -> String {
    let at = at % (token.len() + 1);
    let end = (at + usize::from(length)).min(token.len());
    let by = String::from_utf8_lossy(by);
    [token.get(..at).unwrap_or_default(), &by, token.get(end..).unwrap_or_default()].concat()
}

/// A token that is read has one spelling: encoding its parts gives it again.
fn check_spelling(token: &str) {
    let Ok(read) = parse::parse(token) else { return };
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = *parts else { panic!("not three parts: {token}") };
    assert_eq!(read.signed, format!("{header}.{claims}").as_bytes());
    assert_eq!(URL_SAFE_NO_PAD.encode(&read.signature), signature);
    let decoded = [header, claims].map(|part| {
        let decoded = URL_SAFE_NO_PAD.decode(part).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(&decoded), part);
        serde_json::from_slice::<Value>(&decoded).unwrap()
    });
    let [Value::Object(header), Value::Object(claims)] = decoded else {
        panic!("not objects: {token}")
    };
    assert_eq!(header.get("alg").and_then(Value::as_str), Some(read.algorithm.name()));
    assert_eq!(header.get("kid").and_then(Value::as_str), read.key_id.as_deref());
    for name in ["crit", "jwk", "jku", "x5c", "x5u", "cty"] {
        assert!(!header.contains_key(name), "{name}");
    }
    assert!(claims.keys().eq(read.claims.keys()), "{:?}", read.claims);
}

/// JWT-SVID 3 to 5, of the JSON that was signed.
fn check_claims(svid: &JwtSvid, signatory: &Signatory, header: &[u8], claims: &[u8]) {
    let header: Value = serde_json::from_slice(header).unwrap();
    let claims: Value = serde_json::from_slice(claims).unwrap();
    let subject = claims["sub"].as_str().unwrap();
    assert_eq!(subject, svid.id().as_str());
    assert_eq!(Some(svid.id().trust_domain().as_str()), signatory.of, "another domain's key");
    assert_ne!(subject, "spiffe://a.org");
    let algorithm = header["alg"].as_str().unwrap();
    assert!(signatory.algorithms.contains(&algorithm), "{algorithm}");
    if let Some(key_id) = header.get("kid") {
        assert_eq!(key_id, signatory.key_id);
    }
    let audience = match &claims["aud"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(many) => many.iter().map(|one| one.as_str().unwrap()).collect(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            panic!("an audience of {other}")
        }
    };
    assert!(audience.contains(&AUDIENCE) && svid.audience() == audience, "{audience:?}");
    let seconds = |name: &str| claims.get(name).map(|date| date.as_f64().unwrap());
    let now = 1_800_000_000.0;
    assert!(seconds("exp").unwrap() > now - 31.0, "expired");
    assert!(seconds("nbf").is_none_or(|from| from < now + 61.0), "not valid yet");
    assert!(seconds("iat").is_none_or(|from| from < now + 61.0), "issued in the future");
}

fn seeds() -> Vec<Vec<u8>> {
    let header = |alg: &str, kid: &str| format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"JWT"}}"#);
    let claims = |sub: &str, aud: &str| {
        format!(r#"{{"sub":"{sub}","aud":{aud},"exp":1800000300,"iat":1800000000,"nbf":1.5}}"#)
    };
    let (one, two) = (r#""me""#, r#"["you","me"]"#);
    let good = claims("spiffe://a.org/x", one);
    let signed = |who: u8, header: &str, claims: &str| {
        Seed::default().byte(1).byte(who).chunk(header.as_bytes()).rest(claims.as_bytes())
    };
    let mut seeds = vec![
        signed(0, &header("ES256", "ec"), &good),
        signed(1, &header("ES384", "ec384"), &claims("spiffe://a.org/x/y", two)),
        signed(2, &header("RS256", "rsa"), &good),
        signed(3, &header("ES256", "ec"), &claims("spiffe://b.org/x", two)),
        signed(3, &header("ES256", "ec"), &claims("spiffe://b.org", one)),
        signed(3, &header("ES256", "ec"), &good),
        signed(4, &header("ES256", "ec"), &good),
        signed(0, r#"{"alg":"ES256"}"#, &good),
        signed(0, &header("ES256", "ec"), r#"{"sub":"spiffe://a.org/x","aud":["me"],"exp":2e9}"#),
        Seed::default().byte(2).byte(0).number(60).byte(1).chunk(b"A").chunk(b"{}").rest(b"{}"),
    ];
    let whole = header("ES256", "ec");
    let changed = Seed::default().byte(2).byte(0).number(200).byte(4).chunk(b"abcd");
    seeds.push(changed.chunk(whole.as_bytes()).rest(good.as_bytes()));
    seeds.push(Seed::default().byte(0).rest(foreign().as_bytes()));
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#);
    // `{}` as it is encoded, with stray bits and with padding; a signature with stray bits.
    for rest in ["e30.AA", "e31.AA", "e30=.AA", "e30.AB", "e30.AA=="] {
        seeds.push(Seed::default().byte(0).rest(format!("{header}.{rest}").as_bytes()));
    }
    seeds
}

/// A token as it is made, by a key that nobody knows.
fn foreign() -> String {
    let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
    let subject: SpiffeId = "spiffe://a.org/x".parse().unwrap();
    let claims = Claims {
        subject: &subject,
        audience: &[AUDIENCE.to_owned()],
        expires_at: NOW + 300,
        issued_at: NOW,
        issuer: None,
        token_id: None,
    };
    JwtSigner::new("ec", key).unwrap().make(&claims).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the other checks rely on: that there are tokens which do verify.
    #[test]
    fn a_good_token_of_each_signatory_verifies() {
        for (signatory, subject) in WORLD.signatories.iter().zip(["a", "a", "a", "b"]) {
            let header = format!(r#"{{"alg":"{}"}}"#, signatory.algorithms[0]);
            let claims = format!(r#"{{"sub":"spiffe://{subject}.org/x","aud":"me","exp":2e9}}"#);
            let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
            let signature = signatory.key.sign(Scheme::Jws, signed.as_bytes()).unwrap();
            let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
            assert_eq!(WORLD.verify(&token).err(), None);
        }
    }
}

//! No message prints the private key or the bearer token that it carries.

use std::fmt::Debug;

use steeple_proto::spire::api::agent::delegatedidentity::v1::X509svidWithKey;
use steeple_proto::spire::api::server::agent::v1::CreateJoinTokenRequest;
use steeple_proto::spire::api::types::{self, AttestationData, JoinToken};
use steeple_proto::workload::{self, ValidateJwtsvidRequest};

const SECRET: &str = "ssssss";
const PUBLIC: &str = "pppppp";

#[track_caller]
fn check(message: impl Debug, shown: &str) {
    let printed = format!("{message:?}");
    let secrets = [SECRET.to_owned(), format!("{:?}", SECRET.as_bytes())];
    assert!(secrets.iter().all(|secret| !printed.contains(secret)), "{printed}");
    assert!(printed.contains("redacted") && printed.contains(shown), "{printed}");
}

#[test]
fn a_message_prints_without_its_secret() {
    let secret = || SECRET.to_owned();
    let secret_bytes = || SECRET.as_bytes().to_vec();
    let spiffe_id = || PUBLIC.to_owned();
    let id = || Some(types::Spiffeid { trust_domain: PUBLIC.into(), path: "/a".into() });

    check(
        workload::X509svid {
            spiffe_id: spiffe_id(),
            x509_svid_key: secret_bytes(),
            ..Default::default()
        },
        PUBLIC,
    );
    check(
        workload::Jwtsvid { spiffe_id: spiffe_id(), svid: secret(), ..Default::default() },
        PUBLIC,
    );
    check(
        workload::Witsvid {
            spiffe_id: spiffe_id(),
            wit_svid: secret(),
            wit_svid_key: secret(),
            ..Default::default()
        },
        PUBLIC,
    );
    check(ValidateJwtsvidRequest { audience: PUBLIC.into(), svid: secret() }, PUBLIC);
    check(types::Jwtsvid { id: id(), token: secret(), ..Default::default() }, PUBLIC);
    check(types::Witsvid { id: id(), token: secret(), ..Default::default() }, PUBLIC);
    check(JoinToken { value: secret(), expires_at: 77 }, "77");
    check(AttestationData { r#type: "join_token".into(), payload: secret_bytes() }, "join_token");
    check(CreateJoinTokenRequest { ttl: 77, token: secret(), agent_id: id() }, PUBLIC);
    check(X509svidWithKey { x509_svid: None, x509_svid_key: secret_bytes() }, "None");
}

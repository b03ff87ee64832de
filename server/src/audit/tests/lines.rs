//! What a line of the log looks like.

use std::collections::BTreeSet;

use steeple::entry::{Entry, EntryContent};
use steeple::id::SpiffeId;

use super::super::event::{EntryFacts, Selectors, sha256};
use super::super::line::Line;
use super::*;

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

#[track_caller]
fn check(caller: &Caller, event: &Event, expected: &str) {
    let now = from_unix_seconds(NOW) + Duration::from_millis(67);
    let mut line = Vec::new();
    Line { now, run: 0xab, sequence: 7, caller, event }.write(&mut line).unwrap();
    let line = String::from_utf8(line).unwrap();
    let head = r#"{"time":"2026-01-02T03:04:05.067Z","run":"00000000000000ab","sequence":7,"#;
    assert_eq!(line, format!("{head}{expected}}}\n"));
}

#[test]
fn a_line_tells_when_who_and_what() {
    check(
        &Caller::Server,
        &started(),
        r#""caller":{"class":"server"},"event":"server_started","version":"1.2.3","trust_domain":"example.org""#,
    );
    check(
        &Caller::Local { uid: 1000, gid: 100, pid: Some(42) },
        &Event::AgentBanned { agent_id: id("spiffe://example.org/spire/agent/x") },
        r#""caller":{"class":"local","uid":1000,"gid":100,"pid":42},"event":"agent_banned","agent_id":"spiffe://example.org/spire/agent/x""#,
    );
    check(
        &Caller::Agent {
            id: id("spiffe://example.org/spire/agent/x"),
            address: "[2001:db8::1]:443".parse().unwrap(),
        },
        &Event::JwtIntent {
            correlation: Correlation::for_tests(3),
            spiffe_id: id("spiffe://example.org/web"),
            entry_id: Some("e-1".parse().unwrap()),
            audience: vec!["db".into()],
            jti: None,
            expires_at: NOW + 300,
            key_id: "k".to_owned().into(),
        },
        r#""caller":{"class":"agent","id":"spiffe://example.org/spire/agent/x","address":"[2001:db8::1]:443"},"event":"jwt_intent","correlation":"0000000000000000-3","spiffe_id":"spiffe://example.org/web","entry_id":"e-1","audience":["db"],"expires_at":1767323345,"key_id":"k""#,
    );
}

#[test]
fn what_others_wrote_cannot_end_a_line_or_add_to_it() {
    check(
        &Caller::Anonymous { address: "192.0.2.1:9".parse().unwrap() },
        &Event::NodeAttestationRefused {
            attestation_type: "x\n{\"event\":\"".into(),
            agent_id: None,
            why: "\u{0}\u{2028}".into(),
        },
        "\"caller\":{\"class\":\"anonymous\",\"address\":\"192.0.2.1:9\"},\"event\":\"node_attestation_refused\",\"attestation_type\":\"x\\n{\\\"event\\\":\\\"\",\"why\":\"\\u0000\u{2028}\"",
    );
}

#[test]
fn what_has_no_event_of_its_own_is_counted() {
    let left_out =
        |address| Event::RefusalsLeftOut { address, count: 30, from: NOW, until: NOW + 5 };
    check(
        &Caller::Server,
        &left_out(Some("192.0.2.1".to_owned())),
        r#""caller":{"class":"server"},"event":"refusals_left_out","address":"192.0.2.1","count":30,"from":1767323045,"until":1767323050"#,
    );
    check(
        &Caller::Server,
        &left_out(None),
        r#""caller":{"class":"server"},"event":"refusals_left_out","count":30,"from":1767323045,"until":1767323050"#,
    );
}

#[test]
fn a_certificate_that_names_nobody_is_told_by_its_number() {
    check(
        &Caller::Unnamed {
            address: "192.0.2.1:9".parse().unwrap(),
            serial: "7".to_owned(),
            authority_key_id: Some("ab".to_owned()),
        },
        &Event::CallRefused { method: "/a/B", why: "x".to_owned() },
        r#""caller":{"class":"unnamed","address":"192.0.2.1:9","serial":"7","authority_key_id":"ab"},"event":"call_refused","method":"/a/B","why":"x""#,
    );
}

#[test]
fn a_token_is_named_by_its_hash() {
    check(
        &Caller::Local { uid: 0, gid: 0, pid: None },
        &Event::JoinTokenCreated { token_sha256: sha256(b"abc"), agent_id: None, expires_at: NOW },
        r#""caller":{"class":"local","uid":0,"gid":0},"event":"join_token_created","token_sha256":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","expires_at":1767323045"#,
    );
}

#[test]
fn an_entry_tells_who_gets_what() {
    let selectors = ["unix:uid:1", "unix:path:/bin/x"].iter().map(|text| text.parse().unwrap());
    let entry = Entry {
        id: "e-1".parse().unwrap(),
        revision: 2,
        created_at: NOW,
        content: EntryContent {
            spiffe_id: id("spiffe://example.org/web"),
            parent_id: id("spiffe://example.org/spire/agent/x"),
            selectors: selectors.collect(),
            x509_svid_ttl: Some(Duration::from_secs(60)),
            jwt_svid_ttl: None,
            federates_with: BTreeSet::from(["other.org".parse().unwrap()]),
            admin: true,
            downstream: false,
            expires_at: None,
            dns_names: Vec::new(),
            store_svid: false,
            hint: None,
            disable_x509_svid_prefetch: false,
            jwt_svid_include_jti: false,
        },
    };
    let facts = EntryFacts::from(&entry);
    assert_eq!(facts.selectors, Selectors(entry.content.selectors.clone()));
    check(
        &Caller::Server,
        &Event::EntryCreated { entry: facts },
        r#""caller":{"class":"server"},"event":"entry_created","entry":{"id":"e-1","revision":2,"spiffe_id":"spiffe://example.org/web","parent_id":"spiffe://example.org/spire/agent/x","selectors":["unix:path:/bin/x","unix:uid:1"],"federates_with":["other.org"],"x509_svid_ttl":60,"admin":true}"#,
    );
}

//! Authorities that somebody moves on, over restarts and failures.

use std::sync::Arc;
use std::time::Duration;

use steeple::bundle::Bundle;
use steeple::tasks::Tasks;
use tokio::sync::watch;
use tracing::Span;

use super::*;
use crate::ca::authorities::Authorities;
use crate::ca::control::AuthorityControl;
use crate::ca::testing::Bench;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const BY: Caller = Caller::Local { uid: 7, gid: 8, pid: None };

struct Running {
    control: AuthorityControl,
    authorities: watch::Receiver<Arc<Authorities>>,
    tasks: Tasks,
}

async fn run(bench: &Bench) -> Running {
    let rotation = bench.start(DAY).await.unwrap();
    let (control, authorities) = (rotation.control(), rotation.authorities());
    let tasks = Tasks::new();
    tasks.spawn(Span::none(), |stop| rotation.run(stop));
    Running { control, authorities, tasks }
}

impl Running {
    fn signs(&self, kind: Kind) -> String {
        let authorities = self.authorities.borrow();
        match kind {
            Kind::X509Ca => authorities.x509().id().to_string(),
            Kind::JwtKey => authorities.jwt().unwrap().id().to_string(),
        }
    }

    async fn prepare(&self, kind: Kind) -> String {
        self.control.prepare(BY, kind).await.unwrap().id.to_string()
    }

    async fn change(&self, change: Change, kind: Kind, id: &str) -> Result<Standing, ControlError> {
        self.control.change(BY, change, (kind, id)).await
    }

    /// The names of those that are active, prepared and old.
    fn state(&self, kind: Kind) -> [Option<String>; 3] {
        let state = self.control.state(kind).unwrap();
        let name = |standing: Option<Standing>| standing.map(|standing| standing.id.to_string());
        [name(Some(state.active)), name(state.prepared), name(state.old)]
    }
}

/// The marks of the authorities of a kind in the bundle, oldest first.
fn marks(bundle: &Bundle, kind: Kind) -> Vec<bool> {
    match kind {
        Kind::X509Ca => bundle.x509_authorities.iter().map(|ca| ca.tainted).collect(),
        Kind::JwtKey => bundle.jwt_authorities.iter().map(|key| key.tainted).collect(),
    }
}

/// The audit log's events of steps that somebody asked for.
fn asked(bench: &Bench) -> Vec<String> {
    let text =
        |event: &serde_json::Value, name: &str| event[name].as_str().unwrap_or("-").to_owned();
    let events = bench.events().into_iter();
    let asked = events.filter(|event| event["caller"]["uid"].as_u64() == Some(7));
    asked.map(|event| text(&event, "event") + " " + &text(&event, "step")).collect()
}

#[tokio::test(start_paused = true)]
async fn an_authority_is_prepared_activated_tainted_and_revoked() {
    for kind in [Kind::X509Ca, Kind::JwtKey] {
        let bench = Bench::new();
        let running = run(&bench).await;
        let first = running.signs(kind);
        assert_eq!(running.state(kind), [Some(first.clone()), None, None]);

        let second = running.prepare(kind).await;
        assert_eq!(running.prepare(kind).await, second, "it is not thrown away");
        assert_eq!(marks(&bench.ledger.own_bundle(), kind), [false, false]);
        assert_eq!(running.signs(kind), first);
        assert_eq!(running.state(kind), [Some(first.clone()), Some(second.clone()), None]);

        running.change(Change::Activate, kind, &second).await.unwrap();
        assert_eq!(running.signs(kind), second);
        assert_eq!(running.state(kind), [Some(second.clone()), None, Some(first.clone())]);

        let untainted = running.change(Change::Revoke, kind, &first).await;
        assert!(matches!(untainted, Err(ControlError::Untainted)));
        running.change(Change::Taint, kind, &first).await.unwrap();
        running.change(Change::Taint, kind, &first).await.unwrap();
        assert_eq!(marks(&bench.ledger.own_bundle(), kind), [true, false]);

        running.change(Change::Revoke, kind, &first).await.unwrap();
        assert_eq!(marks(&bench.ledger.own_bundle(), kind), [false]);
        assert_eq!(running.state(kind), [Some(second), None, None]);
        assert_eq!(
            asked(&bench),
            [
                "authority_intent prepare",
                "authority_prepared -",
                "authority_intent activate",
                "authority_activated -",
                "authority_refused revoke",
                "authority_intent taint",
                "authority_tainted -",
                "authority_intent taint",
                "authority_tainted -",
                "authority_intent revoke",
                "authority_revoked -",
            ]
        );
        running.tasks.shutdown(DAY).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn each_step_outlasts_a_restart() {
    for kind in [Kind::X509Ca, Kind::JwtKey] {
        let bench = Bench::new();
        let running = run(&bench).await;
        let first = running.signs(kind);
        let second = running.prepare(kind).await;
        running.tasks.shutdown(DAY).await.unwrap();

        let running = run(&bench).await;
        assert_eq!(running.prepare(kind).await, second);
        running.change(Change::Activate, kind, &second).await.unwrap();
        running.tasks.shutdown(DAY).await.unwrap();

        let running = run(&bench).await;
        assert_eq!(running.signs(kind), second);
        running.change(Change::Taint, kind, &first).await.unwrap();
        running.tasks.shutdown(DAY).await.unwrap();

        let running = run(&bench).await;
        assert_eq!(marks(&bench.ledger.own_bundle(), kind), [true, false]);
        assert_eq!(running.state(kind)[2], Some(first.clone()));
        running.change(Change::Revoke, kind, &first).await.unwrap();
        running.tasks.shutdown(DAY).await.unwrap();

        let running = run(&bench).await;
        assert_eq!(running.state(kind), [Some(second), None, None]);
        assert_eq!(marks(&bench.ledger.own_bundle(), kind), [false]);
        running.tasks.shutdown(DAY).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_prepared_authority_that_was_tainted_is_replaced() {
    let bench = Bench::new();
    let running = run(&bench).await;
    let second = running.prepare(Kind::X509Ca).await;
    bench.ledger.change(|bundle| bundle.x509_authorities[1].tainted = true);
    let refused = running.change(Change::Activate, Kind::X509Ca, &second).await;
    assert!(matches!(refused, Err(ControlError::Unusable)), "{refused:?}");
    let third = running.prepare(Kind::X509Ca).await;
    assert_ne!(third, second);
    running.change(Change::Activate, Kind::X509Ca, &third).await.unwrap();
    assert_eq!(running.signs(Kind::X509Ca), third);
    running.tasks.shutdown(DAY).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_step_that_cannot_be_stored_changes_nothing() {
    let bench = Bench::new();
    let running = run(&bench).await;
    let first = running.signs(Kind::JwtKey);
    let second = running.prepare(Kind::JwtKey).await;
    bench.ledger.fail(true);
    let failed = running.change(Change::Activate, Kind::JwtKey, &second).await;
    assert!(matches!(failed, Err(ControlError::Failed(_))), "{failed:?}");
    assert_eq!(running.signs(Kind::JwtKey), first);
    assert_eq!(running.state(Kind::JwtKey), [Some(first), Some(second), None]);
    assert_eq!(asked(&bench).last().unwrap(), "authority_refused activate");
    running.tasks.shutdown(DAY).await.unwrap();

    let gone = running.control.prepare(BY, Kind::JwtKey).await;
    assert!(matches!(gone, Err(ControlError::Stopping)));
}

#[tokio::test(start_paused = true)]
async fn without_an_upstream_authority_none_is_tainted() {
    let bench = Bench::new();
    let running = run(&bench).await;
    let refused = running.control.change_upstream(BY, Change::Taint, "AB").await;
    assert!(matches!(refused, Err(ControlError::NoUpstream)));
    running.tasks.shutdown(DAY).await.unwrap();
}

/// Keeps the words of a log, and its fields.
#[derive(Clone, Default)]
struct Words(Arc<std::sync::Mutex<String>>);

impl tracing::Subscriber for Words {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            *self.0.lock().unwrap() += &format!("{field}={value:?} ");
        });
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_withdrawal_is_logged_in_the_words_of_spire() {
    let check = |of: Of, withdrawal: Withdrawal, expected: &str| {
        let words = Words::default();
        let standing =
            Standing { id: "ab".to_owned().into(), expires_at: None, upstream_authority_id: None };
        tracing::subscriber::with_default(words.clone(), || log(of, withdrawal, &standing));
        assert_eq!(*words.0.lock().unwrap(), expected);
    };
    let own = Of::Own(Kind::X509Ca);
    check(
        own,
        Withdrawal::Taint,
        "message=X.509 authority tainted successfully local_authority_id=ab ",
    );
    let own = Of::Own(Kind::JwtKey);
    check(
        own,
        Withdrawal::Revoke,
        "message=JWT authority revoked successfully local_authority_id=ab ",
    );
    let upstream = "message=X.509 upstream authority tainted successfully subject_key_id=ab ";
    check(Of::Upstream, Withdrawal::Taint, upstream);
    check(Of::Upstream, Withdrawal::Revoke, &upstream.replace("tainted", "revoked"));
}

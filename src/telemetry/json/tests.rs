//! What is written of what is logged.

use std::io;

use tracing::{debug, error, error_span, info, info_span, trace, warn};

use crate::telemetry::tests::Lines;
use crate::telemetry::{Format, Level, Settings, log_to};

use super::*;

/// What is logged by `act`, as machines read it.
#[track_caller]
fn logged(source_location: bool, act: impl FnOnce()) -> Vec<Map<String, Value>> {
    let lines = Lines::default();
    let writer = lines.clone();
    let settings =
        Settings { format: Format::Json, level: Level::Trace, source_location, file: None };
    let (subscriber, _) = log_to(move || writer.clone(), false, &settings);
    tracing::subscriber::with_default(subscriber, act);
    lines.take().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The one record of `act` is `expected`, save for when it was.
#[track_caller]
fn check(act: impl FnOnce(), expected: &Value) {
    let mut records = logged(false, act);
    assert_eq!(records.len(), 1, "{records:?}");
    let mut record = records.remove(0);
    let time = record.remove("time").unwrap();
    let time = time.as_str().unwrap();
    assert!(time.starts_with("20") && time.contains('T') && time.ends_with('Z'), "{time}");
    assert_eq!(&Value::Object(record), expected);
}

#[test]
fn a_record_has_the_keys_of_spires() {
    let subsystem = "telemetry";
    check(
        || warn!(spiffe_id = "spiffe://a/b", count = 1, own = true, "Started"),
        &serde_json::json!({
            "level": "warning", "msg": "Started", "subsystem_name": subsystem,
            "spiffe_id": "spiffe://a/b", "count": 1, "own": true,
        }),
    );
    check(
        || info!(count = 1),
        &serde_json::json!({
            "level": "info", "msg": "", "subsystem_name": subsystem, "count": 1,
        }),
    );
}

#[test]
fn levels_have_the_names_that_logrus_gives_them() {
    let act = || {
        error!("one");
        warn!("one");
        info!("one");
        debug!("one");
        trace!("one");
    };
    let levels: Vec<_> =
        logged(false, act).into_iter().map(|mut record| record.remove("level").unwrap()).collect();
    assert_eq!(levels, ["error", "warning", "info", "debug", "trace"]);
}

#[test]
fn fields_of_spans_are_beside_those_of_the_event_which_win() {
    let act = || {
        let _outer = error_span!("outer", a = 1, b = 1, c = 1).entered();
        let inner = error_span!("inner", b = 2, c = 2, late = tracing::field::Empty).entered();
        inner.record("late", "now");
        info!(c = 3, "there");
    };
    check(
        act,
        &serde_json::json!({
            "level": "info", "msg": "there", "subsystem_name": "telemetry",
            "a": 1, "b": 2, "c": 3, "late": "now",
        }),
    );
    // A span that is named counts, and not the one that is entered.
    let act = || {
        let named = info_span!("named", a = 1);
        let _entered = error_span!("entered", b = 1).entered();
        info!(parent: &named, "there");
    };
    check(
        act,
        &serde_json::json!({
            "level": "info", "msg": "there", "subsystem_name": "telemetry", "a": 1,
        }),
    );
}

#[test]
fn what_logrus_keeps_for_itself_is_taken_by_no_field() {
    let act = || {
        let _span = error_span!("call", msg = "not this").entered();
        info!(time = 1, level = "x", file = "f", func = "g", r#type = "t", "this");
    };
    check(
        act,
        &serde_json::json!({
            "level": "info", "msg": "this", "subsystem_name": "telemetry", "type": "t",
            "fields.time": 1, "fields.level": "x", "fields.msg": "not this",
            "fields.file": "f", "fields.func": "g",
        }),
    );
}

/// Quotes, line ends, control characters, and numbers that JSON has not.
#[test]
fn nothing_that_is_logged_ends_a_line_or_a_text() {
    let odd = "\"}\n{\"msg\":\"forged\u{0}\u{1b}[31m\\";
    let large = u128::from(u64::MAX) + 1;
    check(
        || {
            let _span = error_span!("call", odd, nan = f64::NAN).entered();
            info!(path = %odd, shown = ?odd, nan = f64::NAN, large, "{odd}");
        },
        &serde_json::json!({
            "level": "info", "msg": odd, "subsystem_name": "telemetry", "odd": odd, "path": odd,
            "shown": format!("{odd:?}"), "nan": "NaN", "large": "18446744073709551616",
        }),
    );
}

#[test]
fn an_error_is_told_with_all_that_led_to_it() {
    #[derive(Debug, thiserror::Error)]
    #[error("the bundle was not stored")]
    struct Outer(#[source] io::Error);

    let failure = Outer(io::ErrorKind::StorageFull.into());
    check(
        || error!(error = &failure as &dyn Error, "failed"),
        &serde_json::json!({
            "level": "error", "msg": "failed", "subsystem_name": "telemetry",
            "error": "the bundle was not stored: no storage space",
        }),
    );
}

#[test]
fn a_record_says_where_it_is_written_if_asked() {
    let mut records = logged(true, || info!("here"));
    let record = records.remove(0);
    let file = record["file"].as_str().unwrap();
    assert!(file.starts_with("src/telemetry/json/tests.rs:"), "{file}");
    assert_eq!(record["func"], module_path!());
}

#[test]
fn a_subsystem_is_a_module_of_ours_or_the_whole_name_of_what_is_not() {
    for (target, expected) in [
        ("steeple_any::api::guard", "api"),
        ("steeple_any::workload", "workload"),
        ("steeple::telemetry::file", "telemetry"),
        ("steeple_any", "steeple_any"),
        ("steeplechase::api", "steeplechase::api"),
        ("rustls::client::hs", "rustls::client::hs"),
        ("", ""),
    ] {
        assert_eq!(subsystem(target), expected, "{target}");
    }
}

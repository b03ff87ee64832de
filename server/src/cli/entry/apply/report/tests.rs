//! What somebody sees of a plan and of what came of it.

use super::super::plan::{Scope, wanted};
use super::*;
use crate::cli::entry::file;

fn report() -> Report {
    let scope = Scope::Owner("team".into());
    let text = r#"{"entries": [
        {"entry_id": "new", "spiffe_id": "spiffe://td/new", "parent_id": "spiffe://td/n",
         "selectors": ["unix:uid:1", "unix:gid:1"], "x509_svid_ttl": 60},
        {"entry_id": "old", "spiffe_id": "spiffe://td/old", "parent_id": "spiffe://td/n",
         "selectors": ["unix:uid:2"], "hint": "h"}
    ]}"#;
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), text).unwrap();
    let wanted = wanted(&scope, file::entries(path.path()).unwrap()).unwrap();
    let mut old = wanted[1].clone();
    old.hint.clear();
    let gone = types::Entry { id: "team.gone".into(), ..types::Entry::default() };
    Report::new(Plan::new(&scope, &wanted, vec![old, gone], true))
}

fn status(code: i32) -> Option<types::Status> {
    Some(types::Status { code, message: "no".into() })
}

#[test]
fn a_plan_shows_what_would_be_different() {
    let report = report();
    let created = "spiffe://td/new (team.new)\n    parent_id: spiffe://td/n\n    \
                   selectors: unix:gid:1, unix:uid:1\n    x509_svid_ttl: 60";
    assert_eq!(created_text(&report.creates[0].what), created);
    let updated = "spiffe://td/old (team.old)\n    hint: (none) -> h";
    assert_eq!(updated_text(&report.updates[0].what), updated);
    assert_eq!(title(&report.deletes[0].what.entry), "(none) (team.gone)");
    assert_eq!(report.summary(true), "1 to create, 1 to update, 1 to delete, 0 unchanged");
    assert_eq!(Sign::Create.paint("a\n  b", false), "+ a\n  b");
    assert_eq!(Sign::Delete.paint("a\n  b", true), "\x1b[31m- a\x1b[0m\n  b");
}

#[test]
fn a_program_sees_fields_changes_and_statuses() {
    let mut report = report();
    let printed = report.json(true);
    assert_eq!(printed["create"][0]["entry"]["spiffe_id"]["path"], "/new");
    let change = json!([{ "field": "hint", "from": "", "to": "h" }]);
    assert_eq!(printed["update"][0]["changes"], change);
    assert_eq!(printed["delete"], json!([{ "id": "team.gone" }]));
    assert_eq!((&printed["dry_run"], &printed["unchanged"]), (&json!(true), &json!(0)));
    report.deletes[0].status = status(5);
    assert_eq!(report.json(false)["delete"][0]["status"], json!({ "code": 5, "message": "no" }));
}

#[test]
fn success_means_that_all_was_done() {
    let mut all_done = report();
    all_done.creates[0].status = status(0);
    all_done.updates[0].status = status(0);
    all_done.deletes[0].status = status(0);
    assert_eq!(all_done.summary(false), "1 created, 1 updated, 1 deleted, 0 unchanged");
    all_done.updates[0].status = status(10);
    assert_eq!(all_done.summary(false), "1 created, 0 updated, 1 deleted, 0 unchanged");
    let error = all_done.outcome().unwrap_err().to_string();
    assert_eq!(error, "failed for 1 entry");
    let stopped = Report { stopped: Some(anyhow!("the server went away")), ..report() };
    assert_eq!(stopped.outcome().unwrap_err().to_string(), "the server went away");
    assert!(report().outcome().is_ok(), "nothing was asked for yet");
}

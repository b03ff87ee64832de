//! What a file wants, what is stored, and what then has to be done.

use steeple_proto::spire::api::types;

use super::*;

const PARENT: &str = "spiffe://td/node";

fn team() -> Scope {
    Scope::Owner("team".into())
}

fn node() -> Scope {
    Scope::Parent(PARENT.parse().unwrap())
}

/// A stored entry: its ID, path, selector and hint.
fn stored((id, path, selector, hint): (&str, &str, &str, &str)) -> types::Entry {
    let mut draft = draft(("", path, selector, hint));
    draft.id = Some(id.into());
    draft.parent_id = Some(PARENT.parse().unwrap());
    types::Entry { revision_number: 4, ..draft.into_entry() }
}

/// An entry of a file, in the same form; no ID if it is empty.
fn draft((id, path, selector, hint): (&str, &str, &str, &str)) -> Draft {
    Draft {
        id: Some(id.to_owned()).filter(|id| !id.is_empty()),
        spiffe_id: Some(format!("spiffe://td{path}").parse().unwrap()),
        selectors: Some(vec![selector.parse().unwrap()]),
        hint: Some(hint.into()),
        ..Draft::default()
    }
}

/// The same with a parent, which a file has to name where the set is not that parent's.
fn child(entry: (&str, &str, &str, &str)) -> Draft {
    Draft { parent_id: Some(PARENT.parse().unwrap()), ..draft(entry) }
}

/// What is done to what, in one word each.
fn summary(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    let path = |entry: &types::Entry| entry.spiffe_id.clone().unwrap().path;
    lines.extend(plan.creates.iter().map(|entry| format!("create {}", path(entry))));
    lines.extend(plan.updates.iter().map(|update| {
        let fields: Vec<_> = update.differences.iter().map(|one| one.field.name()).collect();
        format!("update {} {} @{}", update.wanted.id, fields.join(","), update.revision)
    }));
    lines.extend(plan.deletes.iter().map(|one| {
        format!("delete {}{}", one.entry.id, if one.is_in_the_way { " first" } else { "" })
    }));
    lines.extend(plan.extra.iter().map(|entry| format!("extra {}", entry.id)));
    lines.extend(plan.conflicts.iter().map(|one| format!("conflict {}", one.other.id)));
    lines.extend((plan.unchanged > 0).then(|| format!("unchanged {}", plan.unchanged)));
    lines
}

#[track_caller]
fn check(scope: &Scope, drafts: Vec<Draft>, there: &[(&str, &str, &str, &str)], expected: &[&str]) {
    let wanted = wanted(scope, drafts).unwrap();
    let there = there.iter().map(|entry| stored(*entry)).collect();
    assert_eq!(summary(&Plan::new(scope, &wanted, there, true)), expected);
}

#[test]
fn an_owner_has_what_the_file_says_and_no_more() {
    let (a, b) = (child(("a", "/a", "unix:uid:1", "")), child(("team.b", "/b", "unix:uid:2", "h")));
    check(&team(), vec![a.clone(), b.clone()], &[], &["create /a", "create /b"]);
    let same = [("team.a", "/a", "unix:uid:1", ""), ("team.b", "/b", "unix:uid:2", "h")];
    check(&team(), vec![a.clone(), b.clone()], &same, &["unchanged 2"]);
    check(&team(), vec![b.clone()], &same, &["delete team.a", "unchanged 1"]);
    let other = [("team.a", "/a", "unix:uid:1", "old"), ("team.b", "/z", "unix:uid:9", "h")];
    check(
        &team(),
        vec![a.clone(), b.clone()],
        &other,
        &["update team.a hint @4", "update team.b spiffe_id,selectors @4"],
    );
    // What others own is not touched, whatever it is called.
    check(
        &team(),
        vec![],
        &[("teamx.a", "/a", "unix:uid:1", ""), ("x", "/b", "unix:uid:2", "")],
        &[],
    );
    check(&team(), vec![], &same, &["delete team.a", "delete team.b"]);
}

#[test]
fn an_entry_without_a_name_keeps_its_own_as_long_as_it_is_the_same() {
    let nameless = |hint| child(("", "/a", "unix:uid:1", hint));
    let first = wanted(&team(), vec![nameless("")]).unwrap().remove(0);
    assert_eq!(first.id.len(), "team.".len() + 32, "{}", first.id);
    assert_eq!(wanted(&team(), vec![nameless("h")]).unwrap().remove(0).id, first.id);
    let other = wanted(&team(), vec![child(("", "/a", "unix:uid:2", ""))]).unwrap().remove(0);
    assert_ne!(other.id, first.id);
    let there = [(&*first.id, "/a", "unix:uid:1", "old")];
    check(&team(), vec![nameless("")], &there, &[&format!("update {} hint @4", first.id)]);
}

#[test]
fn what_stands_in_the_way_goes_first_and_a_foreign_one_stops_all() {
    let renamed = child(("new", "/a", "unix:uid:1", ""));
    check(
        &team(),
        vec![renamed.clone()],
        &[("team.old", "/a", "unix:uid:1", ""), ("team.more", "/c", "unix:uid:3", "")],
        &["create /a", "delete team.more", "delete team.old first"],
    );
    check(&team(), vec![renamed], &[("theirs", "/a", "unix:uid:1", "")], &["conflict theirs"]);
}

#[test]
fn a_parent_has_what_the_file_says_by_id_or_by_what_it_gives() {
    let there = [("1", "/a", "unix:uid:1", ""), ("2", "/b", "unix:uid:2", "")];
    let a = draft(("", "/a", "unix:uid:1", "h"));
    check(&node(), vec![a.clone()], &there, &["update 1 hint @4", "delete 2"]);
    let by_id = draft(("2", "/b", "unix:uid:3", ""));
    check(&node(), vec![by_id], &there, &["update 2 selectors @4", "delete 1"]);
    check(&node(), vec![draft(("", "/c", "unix:uid:1", ""))], &[], &["create /c"]);
}

#[test]
fn nothing_is_deleted_unless_it_is_asked_for() {
    let there = vec![stored(("team.a", "/a", "unix:uid:1", ""))];
    let plan = Plan::new(&team(), &[], there, false);
    assert_eq!(summary(&plan), ["extra team.a"]);
}

#[test]
fn a_change_names_the_revision_and_only_the_fields_that_differ() {
    let wanted = wanted(&team(), vec![child(("a", "/a", "unix:uid:1", "new"))]).unwrap();
    let there = vec![stored(("team.a", "/a", "unix:uid:1", "old"))];
    let plan = Plan::new(&team(), &wanted, there, false);
    let (mask, entry) = plan.updates[0].on_the_wire();
    let expected =
        types::EntryMask { hint: true, revision_number: true, ..types::EntryMask::default() };
    assert_eq!((mask, entry.revision_number, &*entry.hint), (expected, 4, "new"));
}

#[test]
fn a_set_concerns_what_it_owns_and_what_may_be_in_its_way() {
    let (scope, wanted) = (team(), wanted(&team(), vec![child(("a", "/a", "unix:uid:1", ""))]));
    let wanted = wanted.unwrap();
    let concerns = Concerns::new(&scope, &wanted);
    assert!(concerns.include(&stored(("team.x", "/x", "unix:uid:9", ""))));
    assert!(concerns.include(&stored(("theirs", "/a", "unix:uid:1", "other"))));
    assert!(!concerns.include(&stored(("theirs", "/b", "unix:uid:1", ""))));
}

#[track_caller]
fn check_refused(scope: &Scope, drafts: Vec<Draft>, expected: &str) {
    let error = wanted(scope, drafts).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_file_that_contradicts_itself_or_the_set_is_refused() {
    let a = || draft(("", "/a", "unix:uid:1", ""));
    let same =
        "entries[1] has the same SPIFFE ID, parent and selectors as entries[0]: spiffe://td/a";
    check_refused(&node(), vec![a(), a()], same);
    let by_id = |path| draft(("x", path, "unix:uid:1", ""));
    check_refused(&node(), vec![by_id("/a"), by_id("/b")], "the same entry_id as entries[0]: x");
    let elsewhere = Draft { parent_id: Some("spiffe://td/other".parse().unwrap()), ..a() };
    check_refused(&node(), vec![elsewhere], "entries[0].parent_id is spiffe://td/other; with --p");
    check_refused(&team(), vec![a()], "entries[0]: the parent ID is missing");
    let id = |id| Draft { id: Some(id), ..child(("", "/a", "unix:uid:1", "")) };
    check_refused(&team(), vec![id("a/b".into())], "entries[0].entry_id is \"team.a/b\"");
    check_refused(&team(), vec![id("x".repeat(251))], "1 to 255 characters");
    let bare = Draft { selectors: None, ..a() };
    check_refused(&node(), vec![bare], "entries[0]: selectors are missing");
}

#[test]
fn the_name_of_an_owner_ends_where_the_id_goes_on() {
    assert_eq!(owner("team-a_1"), Ok("team-a_1".to_owned()));
    for name in ["", "a.b", "a/b", "ä", &"a".repeat(65)] {
        assert!(owner(name).is_err(), "{name}");
    }
}

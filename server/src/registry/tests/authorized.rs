//! An agent is authorised for what is below it and below its aliases, and that stays true through
//! every write.

use std::collections::BTreeSet;

use super::*;
use crate::registry::entries::EntryUpdate;

const A: &str = "/spire/agent/a";
const B: &str = "/spire/agent/b";

async fn with(rows: &[(&str, &str, &str, &[&str])]) -> Registry {
    let registry = empty().await;
    registry.put_node(node(A, &["n:1", "n:2"]), None, now()).await.unwrap();
    registry.put_node(node(B, &["n:1"]), None, now()).await.unwrap();
    for (id, spiffe_id, parent_id, selectors) in rows {
        create(&registry, id, content(spiffe_id, parent_id, selectors)).await.unwrap();
    }
    registry
}

fn ids(registry: &Registry, agent: &str) -> String {
    registry.authorized(&id(agent)).entries().iter().map(|entry| entry.id.as_str()).collect()
}

#[tokio::test]
async fn an_agent_gets_what_is_below_it_and_below_its_aliases() {
    let registry = with(&[
        ("0", "/more", "/spire/server", &["n:1", "n:3"]),
        ("1", "/in-more", "/more", &["u:1"]),
        ("a", "/w", A, &["u:1"]),
        ("b", "/below-w", "/w", &["u:1"]),
        ("c", "/cluster", "/spire/server", &["n:1"]),
        ("d", "/in-cluster", "/cluster", &["u:1"]),
        ("e", "/both", "/spire/server", &["n:1", "n:2"]),
        ("f", "/in-both", "/both", &["u:1"]),
        ("g", "/below", "/in-both", &["u:1"]),
        ("h", "/nobodys", "/spire/server", &["n:3"]),
        ("i", "/in-nobodys", "/nobodys", &["u:1"]),
        ("j", "/elsewhere", "/spire/agent/c", &["u:1"]),
    ])
    .await;
    assert_eq!(ids(&registry, A), "abdfg", "without the aliases themselves");
    assert_eq!(ids(&registry, B), "d");
    assert_eq!(ids(&registry, "/spire/agent/c"), "j", "no record, so direct children alone");
    assert_eq!(ids(&registry, "/spire/agent/nobody"), "");
    assert_eq!(ids(&registry, "/spire/server"), "", "an alias is not for handing out");
}

#[tokio::test]
async fn a_circle_of_parents_ends() {
    let registry = with(&[
        ("a", "/x", A, &["u:1"]),
        ("b", "/y", "/x", &["u:1"]),
        ("c", "/x", "/y", &["u:2"]),
        ("d", "/z", "/z", &["u:1"]),
        ("e", "/z", "/y", &["u:1"]),
    ])
    .await;
    assert_eq!(ids(&registry, A), "abcde");
    assert_eq!(ids(&registry, B), "");
}

#[tokio::test]
async fn the_answer_stays_the_same_object_until_it_changes() {
    let registry = with(&[
        ("alias", "/cluster", "/spire/server", &["n:1"]),
        ("a", "/w", "/cluster", &["u:1"]),
    ])
    .await;
    let first = registry.authorized(&id(A));
    assert!(Arc::ptr_eq(&first, &registry.authorized(&id(B))), "the same aliases");
    create(&registry, "x", content("/x", "/elsewhere", &["u:1"])).await.unwrap();
    registry.put_node(node("/spire/agent/new", &[]), None, now()).await.unwrap();
    assert!(Arc::ptr_eq(&first, &registry.authorized(&id(A))), "a write elsewhere");
    create(&registry, "b", content("/b", "/cluster", &["u:1"])).await.unwrap();
    let second = registry.authorized(&id(A));
    assert_eq!((first.entries().len(), second.entries().len()), (1, 2));
    assert!(second.get(&entry_id("b")).is_some());
    assert!(second.get(&entry_id("x")).is_none());
    registry.evict_node(id(A)).await.unwrap();
    assert_eq!(ids(&registry, A), "");
    assert_eq!(ids(&registry, B), "ab");
}

#[tokio::test]
async fn through_any_history_the_answer_is_that_of_the_definition() {
    let registry = empty().await;
    let agents = [A, B, "/spire/agent/c"];
    let mut random = 0x5eed_u64;
    let mut below = |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    let mut spiffe_ids: Vec<String> = (0..12).map(|n| format!("/w{n}")).collect();
    let parents: Vec<String> = spiffe_ids
        .iter()
        .map(String::as_str)
        .chain(agents)
        .chain(["/spire/server"; 4])
        .map(Into::into)
        .collect();
    spiffe_ids.truncate(10);
    for step in 0..1_500 {
        let pick = below(12);
        let name = entry_id(&format!("e{}", below(40)));
        let spiffe_id = id(&spiffe_ids[below(10) as usize]);
        let parent_id = id(&parents[below(parents.len() as u64) as usize]);
        let selector = format!("n:{}", below(4));
        match pick {
            0..=4 => {
                let second = format!("n:{}", below(4));
                let content = content(spiffe_id.path(), parent_id.path(), &[&selector, &second]);
                drop(create(&registry, name.as_str(), content).await);
            }
            5..=7 => {
                let change = Box::new(move |content: &mut EntryContent| match pick {
                    5 => content.parent_id = parent_id.clone(),
                    6 => content.spiffe_id = spiffe_id.clone(),
                    _ => content.admin = !content.admin,
                });
                let update = EntryUpdate { id: name, expected_revision: None, change };
                registry.update_entries(vec![update]).await;
            }
            8..=9 => drop(registry.delete_entries(vec![name]).await),
            _ => {
                let agent = agents[below(3) as usize];
                let node = node(agent, &[&selector, &format!("n:{}", below(4))]);
                registry.put_node(node, None, now()).await.unwrap();
            }
        }
        for agent in agents.iter().filter(|_| below(3) == 0) {
            let agent = id(agent);
            let found: BTreeSet<_> =
                registry.authorized(&agent).entries().iter().cloned().map(Whole).collect();
            assert_eq!(found, defined(&registry, &agent), "{agent} after {step}");
        }
    }
    assert!(registry.count_entries(&EntryFilter::default()) > 5);
}

/// An entry, ordered by ID, equal if all of it is.
#[derive(Debug, Eq, PartialEq)]
struct Whole(Arc<Entry>);

impl PartialOrd for Whole {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Whole {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.id.cmp(&other.0.id)
    }
}

/// The definition, word for word: all entries again and again until no more are found.
fn defined(registry: &Registry, agent: &SpiffeId) -> BTreeSet<Whole> {
    let all =
        registry.list_entries(&EntryFilter::default(), &PageRequest::default()).unwrap().items;
    let node = registry.node(agent);
    let mut parents = BTreeSet::from([agent.clone()]);
    for alias in all.iter().filter(|entry| entry.content.is_node_alias()) {
        if node.as_ref().is_some_and(|node| alias.content.selectors.is_subset_of(&node.selectors)) {
            parents.insert(alias.content.spiffe_id.clone());
        }
    }
    loop {
        let found = all.iter().filter(|entry| parents.contains(&entry.content.parent_id));
        let reached: BTreeSet<_> =
            found.clone().map(|entry| entry.content.spiffe_id.clone()).collect();
        if reached.is_subset(&parents) {
            return found.cloned().map(Whole).collect();
        }
        parents.extend(reached);
    }
}

//! Makes sure that what is stored is of the configured trust domain, and stays so.

use anyhow::{Context as _, bail};

use crate::ca::journal::Journal;
use crate::datastore::Fact;
use crate::registry::Registry;

/// Compares the trust domain with that of what is stored in `datastore`, which remembers it from now on.
pub(super) async fn settle(registry: &Registry, datastore: &str) -> anyhow::Result<()> {
    let (configured, known) = (registry.trust_domain(), registry.facts().trust_domain);
    let found = match (&known, registry.journal()) {
        (Some(known), _) => Some(known.clone()),
        (None, Some(journal)) => Journal::decode(&journal)?.trust_domain(),
        (None, None) => None,
    };
    if let Some(found) = found.filter(|found| found != configured) {
        bail!(
            "`trust_domain` is {configured}, and {datastore} is of {found}, which every identity in it \
             has in its name; correct `trust_domain`, or give the server another `data_dir`"
        );
    }
    if known.is_none() {
        let fact = Fact::TrustDomain(configured.clone());
        registry.put_fact(fact).await.context("storing the trust domain")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use steeple::tasks::Tasks;

    use super::*;
    use crate::datastore::memory::MemoryDatastore;

    #[tokio::test]
    async fn a_store_with_nothing_in_it_knows_whose_it_is() {
        let store = Arc::new(MemoryDatastore::new());
        let settled = async |name: &str| {
            let tasks = Tasks::new();
            let registry = Registry::open(name.parse().unwrap(), store.clone(), &tasks).await;
            let settled = settle(&registry.unwrap(), "db").await;
            tasks.shutdown(Duration::from_secs(1)).await.unwrap();
            settled.map_err(|error| error.to_string())
        };
        settled("example.org").await.unwrap();
        let refused = settled("exmaple.org").await.unwrap_err();
        assert!(refused.starts_with("`trust_domain` is exmaple.org, and db is of example.org"));
        settled("example.org").await.unwrap();
    }
}

//! One synchronisation: everything is asked for, and either all of it or nothing is believed. A
//! foreign bundle that cannot be had stays what it was.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::StreamExt as _;
use futures_util::stream;
use steeple::entry::Entry;
use steeple::id::TrustDomain;
use tracing::warn;

use super::view::View;
use crate::identity::PreparedBundle;
use crate::node::trust;
use crate::server_api::{ServerApi, ServerError};

/// How many foreign bundles are asked for at once.
const AT_ONCE: usize = 10;

/// The view after `known`.
pub(super) async fn fetch(
    server: &dyn ServerApi,
    known: &View,
    now: SystemTime,
) -> Result<View, ServerError> {
    let (entries, own) = tokio::try_join!(server.sync_entries(known.entries()), server.bundle())?;
    trust::check(&own, known.own())?;
    let own = known.prepare(&own, now);
    if own.bundle().x509_authorities.is_empty() {
        return Err(ServerError::Answer("an own bundle of which every authority expired".into()));
    }
    let names = foreign(&entries, known.own());
    let mut bundles: Vec<_> = stream::iter(names)
        .map(|name| fetch_foreign(server, known, name, now))
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    bundles.push(own);
    Ok(known.next(entries, bundles))
}

async fn fetch_foreign(
    server: &dyn ServerApi,
    known: &View,
    name: TrustDomain,
    now: SystemTime,
) -> Option<Arc<PreparedBundle>> {
    match server.federated_bundle(&name).await {
        Ok(bundle) => Some(known.prepare(&bundle?, now)),
        Err(error) => {
            let error = &error as &dyn Error;
            warn!(trust_domain = name.as_str(), error, "a federated bundle was not synced");
            known.bundles().get(&name).cloned()
        }
    }
}

/// The foreign trust domains that some entry names.
fn foreign(entries: &[Arc<Entry>], own: &TrustDomain) -> BTreeSet<TrustDomain> {
    let named = entries.iter().flat_map(|entry| entry.content.federates_with.iter());
    named.filter(|name| *name != own).cloned().collect()
}

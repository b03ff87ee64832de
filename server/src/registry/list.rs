//! Lists in pages that stay whole while rows come and go: a page starts after the last ID of the
//! page before, whether or not that still exists.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use steeple::bundle::{Bundle, Bundles};
use steeple::entry::{Entry, EntryId};
use steeple::id::{SpiffeId, TrustDomain};
use thiserror::Error;

use super::nodes::NodeFilter;
use crate::datastore::Node;
use crate::entries::filter::EntryFilter;
use crate::entries::index::EntryIndex;
use crate::federation::Relationship;

/// The most items of one page. Whoever asks for more gets these and a token for the rest.
pub const MAX_PAGE: usize = 5_000;

/// Which page of a list is wanted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PageRequest {
    /// The most items; `None` for all at once.
    size: Option<usize>,
    /// Where the page before ended; empty for the first page.
    token: String,
}

/// A page of a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page<T> {
    /// The items in order.
    pub items: Vec<T>,
    /// What to ask for the next page with; empty if this is the last.
    pub next_token: String,
}

/// Why there is no such page.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PageError {
    /// The size is negative.
    #[error("page size: must be 0 (everything at once) or positive")]
    Size,
    /// The token was not given out for this kind of list.
    #[error("could not parse token '{0}': must be one that this list returned")]
    Token(String),
}

/// What can be listed, in the order of its keys.
pub trait Listed {
    /// What the token of a list of these begins with, so that it is not taken for another's.
    const PREFIX: &'static str;

    /// What comes after the prefix.
    fn key(&self) -> &str;

    /// What to ask for the page after this item with.
    fn token(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}{}", Self::PREFIX, self.key()))
    }
}

impl PageRequest {
    /// The page after the one that `token` came with, the first if it is empty; at most `size`
    /// items, or all if that is 0.
    pub fn new(size: i32, token: &str) -> Result<Self, PageError> {
        let Ok(size) = usize::try_from(size) else { return Err(PageError::Size) };
        Ok(Self { size: (size > 0).then(|| size.min(MAX_PAGE)), token: token.into() })
    }

    /// Whether this is one page of several.
    #[must_use]
    pub fn is_part(&self) -> bool {
        self.size.is_some()
    }

    fn start<T: Listed, K>(
        &self,
        parse: impl FnOnce(&str) -> Option<K>,
    ) -> Result<Option<K>, PageError> {
        if self.token.is_empty() {
            return Ok(None);
        }
        let decoded = URL_SAFE_NO_PAD.decode(&self.token).ok();
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let key = text.as_deref().and_then(|text| text.strip_prefix(T::PREFIX)).and_then(parse);
        let shown = || self.token.chars().take(64).flat_map(char::escape_debug).collect();
        key.map(Some).ok_or_else(|| PageError::Token(shown()))
    }

    fn fill<'a, T: Listed + 'a>(
        &self,
        mut items: impl Iterator<Item = &'a Arc<T>>,
    ) -> Page<Arc<T>> {
        let size = self.size.unwrap_or(usize::MAX);
        let taken: Vec<_> = items.by_ref().take(size).cloned().collect();
        let next_token = match taken.last() {
            Some(last) if items.next().is_some() => last.token(),
            Some(_) | None => String::new(),
        };
        Page { items: taken, next_token }
    }
}

impl Listed for Entry {
    const PREFIX: &'static str = "e:";

    fn key(&self) -> &str {
        self.id.as_str()
    }
}

impl Listed for Node {
    const PREFIX: &'static str = "n:";

    fn key(&self) -> &str {
        self.id.as_str()
    }
}

impl Listed for Bundle {
    const PREFIX: &'static str = "b:";

    fn key(&self) -> &str {
        self.trust_domain.as_str()
    }
}

impl Listed for Relationship {
    const PREFIX: &'static str = "r:";

    fn key(&self) -> &str {
        self.trust_domain.as_str()
    }
}

/// How many entries the filter admits.
pub(super) fn count_entries(index: &EntryIndex, filter: &EntryFilter) -> usize {
    if *filter == EntryFilter::default() {
        return index.len();
    }
    candidates(index, filter, None).filter(|entry| filter.admits(&entry.content)).count()
}

/// A page of the entries that the filter admits.
pub(super) fn entries(
    index: &EntryIndex,
    filter: &EntryFilter,
    page: &PageRequest,
) -> Result<Page<Arc<Entry>>, PageError> {
    let after = page.start::<Entry, _>(|id| EntryId::new(id).ok())?;
    let candidates = candidates(index, filter, after.as_ref());
    let admitted = candidates.filter(|entry| filter.admits(&entry.content));
    Ok(page.fill(admitted))
}

/// A page of the nodes that the filter admits.
pub(super) fn nodes(
    nodes: &BTreeMap<SpiffeId, Arc<Node>>,
    filter: &NodeFilter,
    page: &PageRequest,
) -> Result<Page<Arc<Node>>, PageError> {
    let after = page.start::<Node, _>(|id| id.parse().ok())?;
    let admitted = following(nodes, after.as_ref()).filter(|node| filter.admits(node));
    Ok(page.fill(admitted))
}

/// A page of the bundles of other trust domains.
pub(super) fn federated_bundles(
    bundles: &Bundles,
    own: &TrustDomain,
    page: &PageRequest,
) -> Result<Page<Arc<Bundle>>, PageError> {
    let after = page.start::<Bundle, _>(|name| TrustDomain::parse(name).ok())?;
    let foreign = following(bundles, after.as_ref()).filter(|bundle| bundle.trust_domain != *own);
    Ok(page.fill(foreign))
}

/// A page of the relationships.
pub(super) fn relationships(
    relationships: &BTreeMap<TrustDomain, Arc<Relationship>>,
    page: &PageRequest,
) -> Result<Page<Arc<Relationship>>, PageError> {
    let after = page.start::<Relationship, _>(|name| TrustDomain::parse(name).ok())?;
    let following = following(relationships, after.as_ref());
    Ok(page.fill(following))
}

/// A superset of the entries that the filter admits, by the index that knows most.
fn candidates<'a>(
    index: &'a EntryIndex,
    filter: &EntryFilter,
    after: Option<&EntryId>,
) -> Box<dyn Iterator<Item = &'a Arc<Entry>> + 'a> {
    let group = match (&filter.spiffe_id, &filter.parent_id) {
        (Some(spiffe_id), _) => index.with_spiffe_id(spiffe_id),
        (None, Some(parent_id)) => index.children(parent_id),
        (None, None) => return Box::new(index.after(after)),
    };
    let start = after.map_or(0, |id| group.partition_point(|entry| entry.id <= *id));
    Box::new(group.get(start..).unwrap_or_default().iter())
}

fn following<'a, K: Ord, V>(
    all: &'a BTreeMap<K, V>,
    after: Option<&K>,
) -> impl Iterator<Item = &'a V> + use<'a, K, V> {
    let start = after.map_or(Bound::Unbounded, Bound::Excluded);
    all.range::<K, _>((start, Bound::Unbounded)).map(|(_, value)| value)
}

//! Selectors: what is known of a process or node, as `type:value`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// One fact about a process or node, such as `unix:uid:1000`: a type without a colon, and a value.
///
/// Two selectors are equal if they are equal byte for byte.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Selector {
    text: Arc<str>,
    colon: u16,
}

/// Selectors in order, each once.
#[derive(Clone, Default, Eq, Hash, PartialEq)]
pub struct SelectorSet(Arc<[Selector]>);

/// Why a text is not a selector.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SelectorError {
    /// There is no colon between type and value.
    #[error("a selector is TYPE:VALUE, such as unix:uid:1000")]
    NoColon,
    /// The type is empty.
    #[error("the selector's type is empty")]
    NoType,
    /// The type has a colon.
    #[error("the selector's type has a colon")]
    ColonInType,
    /// The value is empty.
    #[error("the selector's value is empty")]
    NoValue,
    /// The type is longer than 255 bytes or the value than 64 KiB.
    #[error("the selector is too long: at most 255 bytes of type and 65536 of value")]
    Length,
}

impl Selector {
    /// A selector of this type and value.
    pub fn new(kind: &str, value: &str) -> Result<Self, SelectorError> {
        if kind.is_empty() {
            return Err(SelectorError::NoType);
        }
        if kind.contains(':') {
            return Err(SelectorError::ColonInType);
        }
        if value.is_empty() {
            return Err(SelectorError::NoValue);
        }
        match u16::try_from(kind.len()) {
            Ok(colon @ ..=255) if value.len() <= 65_536 => {
                Ok(Self { text: format!("{kind}:{value}").into(), colon })
            }
            Ok(_) | Err(_) => Err(SelectorError::Length),
        }
    }

    /// The type: all before the first colon.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text.get(..usize::from(self.colon)).unwrap_or_default()
    }

    /// The value: all after the first colon.
    #[must_use]
    pub fn value(&self) -> &str {
        self.text.get(usize::from(self.colon) + 1..).unwrap_or_default()
    }

    /// `type:value`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let (kind, value) = text.split_once(':').ok_or(SelectorError::NoColon)?;
        Self::new(kind, value)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SelectorSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl SelectorSet {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The selectors in order.
    pub fn iter(&self) -> impl Iterator<Item = &Selector> {
        self.0.iter()
    }

    /// Whether `selector` is one of them.
    #[must_use]
    pub fn contains(&self, selector: &Selector) -> bool {
        self.0.binary_search(selector).is_ok()
    }

    /// Whether every one of these is in `other` as well. The empty set is a subset of every set.
    #[must_use]
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.iter().all(|selector| other.contains(selector))
    }
}

impl FromIterator<Selector> for SelectorSet {
    fn from_iter<I: IntoIterator<Item = Selector>>(selectors: I) -> Self {
        let mut sorted: Vec<_> = selectors.into_iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        Self(sorted.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(&str, &str), SelectorError>) {
        let found = text.parse::<Selector>();
        let parts = found.as_ref().map(|s| (s.kind(), s.value())).map_err(|error| *error);
        assert_eq!(parts, expected);
        if let Ok(selector) = &found {
            assert_eq!(selector.to_string(), text);
        }
    }

    #[test]
    fn a_selector_is_split_at_its_first_colon() {
        check("unix:uid:1000", Ok(("unix", "uid:1000")));
        check("a:b", Ok(("a", "b")));
        check("a", Err(SelectorError::NoColon));
        check(":b", Err(SelectorError::NoType));
        check("a:", Err(SelectorError::NoValue));
        check(&format!("{}:b", "a".repeat(256)), Err(SelectorError::Length));
        check(&format!("a:{}", "b".repeat(65_537)), Err(SelectorError::Length));
        assert_eq!(Selector::new("a:b", "c"), Err(SelectorError::ColonInType));
    }

    #[test]
    fn a_set_knows_order_and_number_of_no_selector() {
        let set = |texts: &[&str]| -> SelectorSet {
            texts.iter().map(|text| text.parse::<Selector>().unwrap()).collect()
        };
        assert_eq!(set(&["a:2", "a:1", "a:2"]), set(&["a:1", "a:2"]));
        assert!(set(&["a:1"]).is_subset_of(&set(&["a:1", "b:1"])));
        assert!(!set(&["a:1", "c:1"]).is_subset_of(&set(&["a:1", "b:1"])));
        assert!(set(&[]).is_subset_of(&set(&[])));
    }
}

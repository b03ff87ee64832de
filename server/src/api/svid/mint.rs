//! What an administrator may have signed without an entry.

use std::time::Duration;

use steeple::convert::ConvertError;
use steeple::entry::DnsName;
use steeple::id::SpiffeId;
use steeple::x509::csr::Csr;

use crate::api::error::ApiError;
use crate::api::issued::csr;

/// What a CSR says that an administrator may decide.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) csr: Csr,
    pub(super) spiffe_id: SpiffeId,
    pub(super) dns_names: Vec<DnsName>,
}

impl Wish {
    pub(super) fn read(der: &[u8]) -> Result<Self, ApiError> {
        let csr = csr(der)?;
        let [uri] = csr.uris() else {
            let expected = "exactly one URI name, the SPIFFE ID";
            return Err(ApiError::Invalid { field: "csr", expected });
        };
        let spiffe_id = SpiffeId::from_bytes(uri).map_err(|cause| {
            let found = String::from_utf8_lossy(uri).into_owned();
            ConvertError::Id { field: "csr: URI name", found, cause }
        })?;
        let dns_names = csr.dns_names().iter().map(|name| dns_name(name));
        let dns_names = dns_names.collect::<Result<Vec<_>, _>>()?;
        if let Some(expected) = overlap(&dns_names) {
            return Err(ApiError::Invalid { field: "csr: DNS names", expected });
        }
        Ok(Self { spiffe_id, dns_names, csr })
    }
}

/// How long something is to live: what was asked for, or the server's default for 0.
pub(super) fn ttl(seconds: i32, default: Duration) -> Result<Duration, ApiError> {
    match u64::try_from(seconds) {
        Ok(0) => Ok(default),
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => {
            let expected = "must be 0 (the server's default) or a positive number of seconds";
            Err(ApiError::Found { field: "ttl", found: seconds.to_string(), expected })
        }
    }
}

fn dns_name(name: &[u8]) -> Result<DnsName, ApiError> {
    let text = String::from_utf8_lossy(name);
    DnsName::new(&text).map_err(|error| ApiError::Convert(error.into()))
}

/// Whether one of the names is covered by another with a wildcard, so that it says nothing.
fn overlap(names: &[DnsName]) -> Option<&'static str> {
    let covered = |name: &&DnsName| {
        let Some((_, rest)) = name.as_str().split_once('.') else { return false };
        names.iter().any(|other| {
            let wildcard = other.as_str().strip_prefix("*.");
            *name != other && wildcard.is_some_and(|wildcard| wildcard.eq_ignore_ascii_case(rest))
        })
    };
    names.iter().any(|name| covered(&name)).then_some("a wildcard covers another of them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(names: &[&str], overlaps: bool) {
        let names: Vec<_> = names.iter().map(|name| DnsName::new(name).unwrap()).collect();
        assert_eq!(overlap(&names).is_some(), overlaps, "{names:?}");
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        check(&[], false);
        check(&["a.b", "c.b"], false);
        check(&["*.b", "a.b"], true);
        check(&["a.b", "*.B"], true);
        check(&["*.b", "b"], false);
        check(&["*.b", "x.a.b"], false);
        check(&["*.b"], false);
    }

    #[test]
    fn a_life_of_nothing_is_the_default() {
        let default = Duration::from_secs(7);
        assert_eq!(ttl(0, default).unwrap(), default);
        assert_eq!(ttl(9, default).unwrap(), Duration::from_secs(9));
        assert!(ttl(-1, default).is_err());
    }
}

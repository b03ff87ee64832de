//! Relationships with other trust domains: where their bundles are found, and who hands them out.
//!
//! Nothing here goes and fetches one.

use std::fmt;
use std::sync::Arc;

use http::Uri;
use steeple::id::{SpiffeId, TrustDomain};
use thiserror::Error;

/// The longest URL in bytes.
const MAX_URL: usize = 2_048;

/// A relationship with another trust domain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Relationship {
    /// The other trust domain.
    pub trust_domain: TrustDomain,
    /// Where its bundle is.
    pub endpoint_url: EndpointUrl,
    /// How whoever answers there proves who it is.
    pub profile: Profile,
}

/// How a bundle endpoint proves who it is (SPIFFE Federation 5.2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Profile {
    /// By a certificate of the Web PKI for the host in the URL.
    HttpsWeb,
    /// By an X.509-SVID.
    HttpsSpiffe {
        /// Whose.
        endpoint_id: SpiffeId,
    },
}

/// The URL of a bundle endpoint: `https`, with a host and without a user name.
#[derive(Clone, Eq, PartialEq)]
pub struct EndpointUrl(Arc<str>);

/// Why a URL is not one of a bundle endpoint.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error(
    "must be an https URL with a host, such as https://example.org/bundle.json, without a user \
     name or fragment, of at most 2048 bytes"
)]
pub struct UrlError;

impl EndpointUrl {
    /// Reads a URL (SPIFFE Federation 5.2.1 and 5.2.2).
    pub fn new(text: &str) -> Result<Self, UrlError> {
        let plain = text.len() <= MAX_URL && text.bytes().all(|byte| byte.is_ascii_graphic());
        let uri: Uri = text.parse().or(Err(UrlError))?;
        let https = uri.scheme_str() == Some("https");
        let host = uri.host().is_some_and(|host| !host.is_empty());
        let user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        let port = uri.authority().is_none_or(|authority| {
            authority.as_str().ends_with(authority.host()) || authority.port_u16().is_some()
        });
        if plain && https && host && !user && port && !text.contains('#') {
            Ok(Self(text.into()))
        } else {
            Err(UrlError)
        }
    }

    /// The URL as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_https_url_with_a_host_and_nobody_in_it() {
        for url in [
            "https://example.org",
            "https://example.org/",
            "https://example.org:8443/a/b.json?x=y",
            "https://192.0.2.1/bundle",
            "https://[2001:db8::1]:8443/bundle",
            "HTTPS://example.org/bundle",
        ] {
            assert_eq!(EndpointUrl::new(url).as_ref().map(EndpointUrl::as_str), Ok(url));
        }
        let long = format!("https://example.org/{}", "a".repeat(MAX_URL));
        for url in [
            "",
            "example.org",
            "/bundle",
            "http://example.org/bundle",
            "spiffe://example.org",
            "https://",
            "https:///bundle",
            "https://:8443/bundle",
            "https://user@example.org/bundle",
            "https://user:password@example.org/bundle",
            "https://example.org:99999/bundle",
            "https://example.org:/bundle",
            "https://example.org:x/bundle",
            "https://example.org/#fragment",
            "https://example.org/a b",
            "https://example.org/\n",
            "https://example.org/é",
            " https://example.org",
            &long,
        ] {
            assert_eq!(EndpointUrl::new(url), Err(UrlError), "{url:?}");
        }
    }
}

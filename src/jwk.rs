//! Trust bundles as documents: JWK sets (SPIFFE Trust Domain and Bundle 4) and PEM.
//!
//! [`mod@write`] makes what bundle endpoints publish and workloads get, [`parse`] and [`map`] read what
//! other trust domains publish, [`pem`] is for files. None of them fetches or stores anything.

use std::time::Duration;

use crate::json::Limits;

mod authority;
pub mod map;
pub mod parse;
pub mod pem;
pub mod write;

#[cfg(test)]
pub(crate) mod testing;

/// The largest document in bytes that is read.
pub const MAX_DOCUMENT_LENGTH: usize = 4 << 20;

/// How often to look for a newer bundle when the bundle does not say (Trust Domain and Bundle
/// 4.1.3).
pub const DEFAULT_REFRESH: Duration = Duration::from_secs(300);

/// The longest refresh hint that is believed. A longer one is cut to this, so that a revocation
/// is seen within a day.
pub const MAX_REFRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// What one document may hold: some ten thousand keys.
const LIMITS: Limits = Limits { bytes: MAX_DOCUMENT_LENGTH, depth: 16, values: 100_000 };

/// The values of `use` (Trust Domain and Bundle 4.2.2, WIT-SVID).
const X509_SVID: &str = "x509-svid";
const JWT_SVID: &str = "jwt-svid";
const WIT_SVID: &str = "wit-svid";

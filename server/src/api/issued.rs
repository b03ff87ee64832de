//! What is asked to be signed and what was, as it travels.

use std::sync::Arc;

use steeple::convert::id_to_proto;
use steeple::entry::Entry;
use steeple::x509::csr::Csr;
use steeple_proto::spire::api::types;

use super::error::ApiError;
use crate::ca::{IssuedJwt, IssuedX509};

/// The request in `der`, if its maker has the key that it names.
pub(super) fn csr(der: &[u8]) -> Result<Csr, ApiError> {
    if der.is_empty() {
        return Err(ApiError::Invalid { field: "csr", expected: "missing CSR" });
    }
    Ok(Csr::parse_verified(der)?)
}

/// A certificate as it travels, with the hint of the entry that it is for.
pub(super) fn x509_to_proto(issued: &IssuedX509, entry: Option<&Arc<Entry>>) -> types::X509svid {
    let svid = &issued.svid;
    types::X509svid {
        cert_chain: svid.chain().certificates().iter().map(|der| der.to_vec()).collect(),
        id: Some(id_to_proto(svid.spiffe_id())),
        expires_at: steeple::clock::unix_seconds(svid.not_after()),
        hint: entry.map(|entry| hint(entry)).unwrap_or_default(),
    }
}

/// A token as it travels, without whom it names and the hint.
pub(super) fn jwt_to_proto(issued: IssuedJwt) -> types::Jwtsvid {
    types::Jwtsvid {
        token: issued.token,
        id: None,
        expires_at: issued.expires_at,
        issued_at: issued.issued_at,
        hint: String::new(),
    }
}

/// The hint of an entry; empty if it has none.
pub(super) fn hint(entry: &Entry) -> String {
    entry.content.hint.as_ref().map(|hint| hint.as_str().to_owned()).unwrap_or_default()
}

//! Whether the authorities of a bundle can ever vouch for anything.

use steeple::bundle::Bundle;
use steeple::keys::PublicKey;
use steeple::x509::Certificate;

use crate::api::error::ApiError;

/// Refuses a bundle with an authority that nobody could use: it would look like trust and be none.
pub(super) fn check(bundle: &Bundle) -> Result<(), ApiError> {
    let is_ca = |der: &[u8]| Certificate::parse(der).is_ok_and(|certificate| certificate.is_ca());
    if !bundle.x509_authorities.iter().all(|authority| is_ca(&authority.certificate)) {
        let expected = "each has to be the certificate of a CA in DER";
        return Err(ApiError::Invalid { field: "x509_authorities", expected });
    }
    let is_key = |der: &[u8]| PublicKey::from_spki(der).is_ok();
    if !bundle.jwt_authorities.iter().all(|key| is_key(&key.public_key)) {
        let expected = "each has to be an RSA or EC public key in DER (PKIX)";
        return Err(ApiError::Invalid { field: "jwt_authorities", expected });
    }
    Ok(())
}

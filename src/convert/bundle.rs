//! Trust bundles on the wire between server, agent and administrator.

use std::collections::BTreeSet;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use super::{ConvertError, trust_domain_from_proto};
use crate::bundle::{Bundle, JwtAuthority, X509Authority};
use steeple_proto::spire::api::types;

/// Reads a bundle. Whether its certificates are fit to be authorities is for who uses them.
///
/// # Errors
/// A field is missing or malformed, or two JWT authorities share a key ID.
pub fn bundle_from_proto(bundle: &types::Bundle) -> Result<Bundle, ConvertError> {
    let x509_authority = |authority: &types::X509Certificate| {
        if authority.asn1.is_empty() {
            return Err(ConvertError::EmptyAuthority("x509_authorities"));
        }
        Ok(X509Authority {
            certificate: CertificateDer::from(authority.asn1.clone()),
            tainted: authority.tainted,
        })
    };
    let jwt_authorities = bundle
        .jwt_authorities
        .iter()
        .map(jwt_authority_from_proto)
        .collect::<Result<Vec<_>, _>>()?;
    let key_ids: BTreeSet<_> = jwt_authorities.iter().map(|key| &key.key_id).collect();
    if key_ids.len() != jwt_authorities.len() {
        return Err(ConvertError::KeyId);
    }
    let refresh_hint = u64::try_from(bundle.refresh_hint).or(Err(ConvertError::RefreshHint))?;
    Ok(Bundle {
        trust_domain: trust_domain_from_proto(&bundle.trust_domain, "trust_domain")?,
        x509_authorities: bundle
            .x509_authorities
            .iter()
            .map(x509_authority)
            .collect::<Result<_, _>>()?,
        jwt_authorities,
        refresh_hint: (refresh_hint > 0).then(|| Duration::from_secs(refresh_hint)),
        sequence: bundle.sequence_number,
    })
}

/// Reads a key that signs JWT-SVIDs.
///
/// # Errors
/// It has no ID or no key.
pub fn jwt_authority_from_proto(key: &types::JwtKey) -> Result<JwtAuthority, ConvertError> {
    if key.key_id.is_empty() {
        return Err(ConvertError::KeyId);
    }
    if key.public_key.is_empty() {
        return Err(ConvertError::EmptyAuthority("jwt_authorities"));
    }
    Ok(JwtAuthority {
        key_id: key.key_id.clone(),
        public_key: key.public_key.clone(),
        expires_at: (key.expires_at > 0).then_some(key.expires_at),
        tainted: key.tainted,
    })
}

/// Writes a bundle. `None` for `mask` leaves nothing out; the trust domain is always there.
#[must_use]
pub fn bundle_to_proto(bundle: &Bundle, mask: Option<&types::BundleMask>) -> types::Bundle {
    let x509_authority = |authority: &X509Authority| types::X509Certificate {
        asn1: authority.certificate.to_vec(),
        tainted: authority.tainted,
    };
    let jwt_authority = |authority: &JwtAuthority| types::JwtKey {
        public_key: authority.public_key.clone(),
        key_id: authority.key_id.clone(),
        expires_at: authority.expires_at.unwrap_or(0),
        tainted: authority.tainted,
    };
    let on = |field: fn(&types::BundleMask) -> bool| mask.is_none_or(field);
    let hint = bundle.refresh_hint.filter(|_| on(|mask| mask.refresh_hint)).unwrap_or_default();
    types::Bundle {
        trust_domain: bundle.trust_domain.to_string(),
        x509_authorities: if on(|mask| mask.x509_authorities) {
            bundle.x509_authorities.iter().map(x509_authority).collect()
        } else {
            Vec::new()
        },
        jwt_authorities: if on(|mask| mask.jwt_authorities) {
            bundle.jwt_authorities.iter().map(jwt_authority).collect()
        } else {
            Vec::new()
        },
        refresh_hint: i64::try_from(hint.as_secs()).unwrap_or(i64::MAX),
        sequence_number: if on(|mask| mask.sequence_number) { bundle.sequence } else { 0 },
        wit_authorities: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> types::Bundle {
        let key = |key_id: &str| types::JwtKey {
            public_key: vec![1],
            key_id: key_id.into(),
            expires_at: 5,
            tainted: true,
        };
        types::Bundle {
            trust_domain: "td".into(),
            x509_authorities: vec![types::X509Certificate { asn1: vec![1], tainted: true }],
            jwt_authorities: vec![key("a"), key("b")],
            refresh_hint: 60,
            sequence_number: 7,
            wit_authorities: Vec::new(),
        }
    }

    #[test]
    fn every_field_travels_both_ways() {
        let bundle = bundle_from_proto(&wire()).unwrap();
        assert_eq!(bundle_to_proto(&bundle, None), wire());
        let bare = bundle_to_proto(&bundle, Some(&types::BundleMask::default()));
        assert_eq!(bare, types::Bundle { trust_domain: "td".into(), ..types::Bundle::default() });
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut types::Bundle), expected: &ConvertError) {
        let mut bundle = wire();
        change(&mut bundle);
        assert_eq!(bundle_from_proto(&bundle).as_ref(), Err(expected));
    }

    #[test]
    fn a_refusal_names_the_field() {
        check(|b| b.jwt_authorities[1].key_id = "a".into(), &ConvertError::KeyId); // H160
        check(|b| b.jwt_authorities[0].key_id.clear(), &ConvertError::KeyId); // H160
        check(
            |b| b.x509_authorities[0].asn1.clear(),
            &ConvertError::EmptyAuthority("x509_authorities"),
        );
        check(
            |b| b.jwt_authorities[0].public_key.clear(),
            &ConvertError::EmptyAuthority("jwt_authorities"),
        );
        check(|b| b.refresh_hint = -1, &ConvertError::RefreshHint); // H164
    }
}

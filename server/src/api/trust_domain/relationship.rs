//! Relationships as they travel.

use steeple::bundle::Bundle;
use steeple::convert::{ConvertError, bundle_from_proto, bundle_to_proto};
use steeple_proto::spire::api::types;
use steeple_proto::spire::api::types::federation_relationship::BundleEndpointProfile;

use super::Mask;
use crate::api::error::ApiError;
use crate::api::{Deps, authorities};
use crate::federation::{EndpointUrl, Profile, Relationship};
use crate::registry::relationships::{Action, RelationshipWrite};

/// Reads a relationship that is new, all of which has to be there save the bundle.
pub(super) fn creation(
    deps: &Deps,
    sent: &types::FederationRelationship,
) -> Result<RelationshipWrite, ApiError> {
    let relationship = Relationship {
        trust_domain: deps.foreign(&sent.trust_domain)?,
        endpoint_url: url(sent)?,
        profile: profile(sent)?,
    };
    Ok(RelationshipWrite { action: Action::Create(relationship), bundle: bundle(sent)? })
}

/// Reads the change that is asked for in the fields that `mask` has on, which are all without one.
/// The others may hold anything.
pub(super) fn update(
    deps: &Deps,
    sent: &types::FederationRelationship,
    mask: Option<&Mask>,
) -> Result<RelationshipWrite, ApiError> {
    let on = |field: fn(&Mask) -> bool| mask.is_none_or(field);
    let trust_domain = deps.foreign(&sent.trust_domain)?;
    let url = on(|mask| mask.bundle_endpoint_url).then(|| url(sent)).transpose()?;
    let profile = on(|mask| mask.bundle_endpoint_profile).then(|| profile(sent)).transpose()?;
    let bundle = if on(|mask| mask.trust_domain_bundle) { bundle(sent)? } else { None };
    let change = move |relationship: &mut Relationship| {
        if let Some(url) = &url {
            relationship.endpoint_url.clone_from(url);
        }
        if let Some(profile) = &profile {
            relationship.profile.clone_from(profile);
        }
    };
    let action = Action::Update { trust_domain, change: Box::new(change) };
    Ok(RelationshipWrite { action, bundle })
}

/// Writes a relationship, with the bundle that there is. `None` for `mask` leaves nothing out; the
/// trust domain is always there.
pub(super) fn to_proto(
    relationship: &Relationship,
    bundle: Option<&Bundle>,
    mask: Option<&Mask>,
) -> types::FederationRelationship {
    let on = |field: fn(&Mask) -> bool| mask.is_none_or(field);
    let profile = match &relationship.profile {
        Profile::HttpsWeb => BundleEndpointProfile::HttpsWeb(types::HttpsWebProfile {}),
        Profile::HttpsSpiffe { endpoint_id } => {
            let endpoint_spiffe_id = endpoint_id.to_string();
            BundleEndpointProfile::HttpsSpiffe(types::HttpsspiffeProfile { endpoint_spiffe_id })
        }
    };
    let url = relationship.endpoint_url.as_str();
    types::FederationRelationship {
        trust_domain: relationship.trust_domain.to_string(),
        bundle_endpoint_url: if on(|mask| mask.bundle_endpoint_url) { url } else { "" }.to_owned(),
        bundle_endpoint_profile: on(|mask| mask.bundle_endpoint_profile).then_some(profile),
        trust_domain_bundle: bundle
            .filter(|_| on(|mask| mask.trust_domain_bundle))
            .map(|bundle| bundle_to_proto(bundle, None)),
    }
}

fn url(sent: &types::FederationRelationship) -> Result<EndpointUrl, ApiError> {
    EndpointUrl::new(&sent.bundle_endpoint_url).map_err(ApiError::EndpointUrl)
}

fn profile(sent: &types::FederationRelationship) -> Result<Profile, ApiError> {
    match &sent.bundle_endpoint_profile {
        Some(BundleEndpointProfile::HttpsWeb(types::HttpsWebProfile {})) => Ok(Profile::HttpsWeb),
        Some(BundleEndpointProfile::HttpsSpiffe(profile)) => {
            let field = "endpoint_spiffe_id";
            let found = profile.endpoint_spiffe_id.clone();
            let id = found.parse();
            let endpoint_id = id.map_err(|cause| ConvertError::Id { field, found, cause })?;
            Ok(Profile::HttpsSpiffe { endpoint_id })
        }
        None => Err(ApiError::Invalid {
            field: "bundle_endpoint_profile",
            expected: "one of https_web and https_spiffe is needed",
        }),
    }
}

fn bundle(sent: &types::FederationRelationship) -> Result<Option<Bundle>, ApiError> {
    let Some(sent) = &sent.trust_domain_bundle else { return Ok(None) };
    let bundle = bundle_from_proto(sent)?;
    authorities::check(&bundle)?;
    Ok(Some(bundle))
}

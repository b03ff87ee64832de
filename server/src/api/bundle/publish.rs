//! Makes the JWT keys of servers below this one known.

use std::sync::Arc;

use steeple::bundle::{Bundle, JwtAuthority};
use steeple::clock::unix_seconds;
use steeple::convert::jwt_authority_from_proto;
use steeple::keys::PublicKey;
use steeple_proto::spire::api::server::bundle::v1 as pb;
use tonic::Request;
use tracing::info;

use crate::api::error::ApiError;
use crate::api::{Deps, admitted};
use crate::audit::event::{BundleFacts, Event};
use crate::ca::upstream::Published;
use crate::registry::bundles::OwnBundleChange;

/// Adds the key to the own bundle, which is returned, and passes it on to the server above, if there
/// is one. The key is kept here even if that fails: then the caller publishes it again.
pub(super) async fn jwt_authority(
    deps: &Deps,
    request: &Request<pb::PublishJwtAuthorityRequest>,
) -> Result<Arc<Bundle>, ApiError> {
    let admitted = admitted(request)?;
    deps.recordable()?;
    let expected = "a JWT authority is needed";
    let key = request.get_ref().jwt_authority.as_ref();
    let key = key.ok_or(ApiError::Invalid { field: "jwt_authority", expected })?;
    let now = deps.clock.now();
    let key = JwtAuthority { tainted: false, ..jwt_authority_from_proto(key)? };
    check(&key, &deps.registry.own_bundle(), unix_seconds(now))?;
    let known = deps.registry.own_bundle().sequence;
    let change = OwnBundleChange::Append { x509: Vec::new(), jwt: vec![key.clone()] };
    let mut bundle = deps.registry.change_own_bundle(change, now).await?;
    if bundle.sequence != known {
        info!(key_id = key.key_id, "JWT authority of a downstream server published");
        let event = Event::BundleSet { bundle: BundleFacts::from(&*bundle) };
        deps.record_done(&admitted.for_audit(), [event]).await;
    }
    if let Some(upstream) = &deps.upstream
        && let Published::Keys(jwt) = upstream.publish_jwt_key(key).await?
    {
        let change = OwnBundleChange::Append { x509: Vec::new(), jwt };
        bundle = deps.registry.change_own_bundle(change, now).await?;
    }
    Ok(bundle)
}

/// Refuses a key that could not verify anything, or that would take the name of another one.
fn check(key: &JwtAuthority, bundle: &Bundle, now: i64) -> Result<(), ApiError> {
    let field = "jwt_authority";
    if PublicKey::from_spki(&key.public_key).is_err() {
        let expected = "has to be an RSA or EC public key in DER (PKIX)";
        return Err(ApiError::Invalid { field, expected });
    }
    if key.expires_at.is_some_and(|expires_at| expires_at <= now) {
        return Err(ApiError::Invalid { field, expected: "must not have expired" });
    }
    let mut known = bundle.jwt_authorities.iter();
    if known.any(|known| known.key_id == key.key_id && known.public_key != key.public_key) {
        return Err(ApiError::Invalid { field, expected: "another key has that ID" });
    }
    Ok(())
}

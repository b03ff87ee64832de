//! Makes the JWT keys of servers below this one known.

use std::sync::Arc;
use std::time::Duration;

use steeple::bundle::{Bundle, JwtAuthority};
use steeple::clock::unix_seconds;
use steeple::convert::jwt_authority_from_proto;
use steeple::keys::PublicKey;
use steeple_proto::spire::api::server::bundle::v1 as pb;
use tokio::time::timeout;
use tonic::Request;

use crate::api::error::ApiError;
use crate::api::limits::Limited;
use crate::api::local_authority::refusal::{Asked, AuthorityRefusal, Object};
use crate::api::{Deps, admitted};
use crate::ca::control::ControlError;
use crate::ca::slots::Kind;
use crate::ca::upstream::{Published, UpstreamError};

/// The longest name of a key, in bytes.
const MAX_KEY_ID: usize = 255;

/// How long the server above may hold up a key. Less than those below wait, so that they hear why.
const PATIENCE: Duration = Duration::from_secs(3);

/// Has the key added to the own bundle, which is returned, and passes it on to the server above, if
/// there is one. The key is kept here even if that fails or takes long: then the caller publishes it
/// again. But what was revoked above is not vouched for here. What else the server above vouches for
/// is not taken from its answer: the bundle follows it anyway.
pub(super) async fn jwt_authority(
    deps: &Deps,
    request: &Request<pb::PublishJwtAuthorityRequest>,
) -> Result<Arc<Bundle>, ApiError> {
    let admitted = admitted(request)?;
    deps.recordable()?;
    let peer = admitted.downstream().ok_or(ApiError::Internal)?;
    // It may be gone since the caller was let in.
    let now = unix_seconds(deps.clock.now());
    if !deps.registry.is_downstream(&peer.id, now) {
        return Err(ApiError::Denied { method: admitted.method, reason: None });
    }
    deps.charge(request, Limited::JwtSigning, 1)?;
    let expected = "a JWT authority is needed";
    let key = request.get_ref().jwt_authority.as_ref();
    let key = key.ok_or(ApiError::Invalid { field: "jwt_authority", expected })?;
    let key = JwtAuthority { tainted: false, ..jwt_authority_from_proto(key)? };
    check(&key, now)?;
    let of = Object::Own(Kind::JwtKey);
    let refused =
        |error| AuthorityRefusal { asked: Asked::Publish, of, named: String::new(), error };
    let publishable = deps.authorities.check_publishable(&deps.registry.own_bundle(), &key);
    publishable.map_err(refused)?;
    let passed_on = match &deps.upstream {
        Some(upstream) => {
            let passed_on = timeout(PATIENCE, upstream.publish_jwt_key(key.clone())).await;
            passed_on.unwrap_or_else(|_elapsed| {
                Err(UpstreamError::Unavailable("it did not answer in time".into()))
            })
        }
        None => Ok(Published::NotTaken),
    };
    if let Ok(Published::Revoked) = passed_on {
        let left = deps.authorities.leave(admitted.for_audit(), key).await;
        return Err(refused(left.err().unwrap_or(ControlError::Revoked)).into());
    }
    let published = deps.authorities.publish(admitted.for_audit(), key).await;
    published.map_err(refused)?;
    passed_on?;
    Ok(deps.registry.own_bundle())
}

/// Refuses a key that could not verify anything, would never be forgotten, or has no name that can
/// be shown.
fn check(key: &JwtAuthority, now: i64) -> Result<(), ApiError> {
    let refused = |expected| Err(ApiError::Invalid { field: "jwt_authority", expected });
    let is_shown = key.key_id.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if key.key_id.len() > MAX_KEY_ID || !is_shown {
        return refused("the key ID has to be at most 255 printable ASCII characters");
    }
    if PublicKey::from_spki(&key.public_key).is_err() {
        return refused("has to be an RSA or EC public key in DER (PKIX)");
    }
    match key.expires_at {
        None => refused("expires_at is needed"),
        Some(expires_at) if expires_at <= now => refused("must not have expired"),
        Some(_) => Ok(()),
    }
}

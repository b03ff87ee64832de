//! The calls about authorities, the same for both kinds.

use std::fmt;

use steeple_proto::spire::api::server::localauthority::v1 as pb;

use crate::cli::client::Client;

/// Which authorities.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    X509,
    Jwt,
}

/// A step of an authority that is named.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Named {
    Activate,
    Taint,
    Revoke,
}

/// An answer about one authority.
type One = anyhow::Result<Option<pb::AuthorityState>>;

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::X509 => "X.509",
            Self::Jwt => "JWT",
        })
    }
}

/// The authorities that are active, prepared and old.
pub(super) async fn state(
    client: &Client,
    kind: Kind,
) -> anyhow::Result<[Option<pb::AuthorityState>; 3]> {
    let mut calls = client.authorities();
    Ok(match kind {
        Kind::X509 => {
            let request = pb::GetX509AuthorityStateRequest {};
            let state = client.answer(calls.get_x509_authority_state(request)).await?;
            [state.active, state.prepared, state.old]
        }
        Kind::Jwt => {
            let request = pb::GetJwtAuthorityStateRequest {};
            let state = client.answer(calls.get_jwt_authority_state(request)).await?;
            [state.active, state.prepared, state.old]
        }
    })
}

pub(super) async fn prepare(client: &Client, kind: Kind) -> One {
    let mut calls = client.authorities();
    Ok(match kind {
        Kind::X509 => {
            let request = pb::PrepareX509AuthorityRequest {};
            client.answer(calls.prepare_x509_authority(request)).await?.prepared_authority
        }
        Kind::Jwt => {
            let request = pb::PrepareJwtAuthorityRequest {};
            client.answer(calls.prepare_jwt_authority(request)).await?.prepared_authority
        }
    })
}

pub(super) async fn change(
    client: &Client,
    step: Named,
    (kind, authority_id): (Kind, String),
) -> One {
    let mut calls = client.authorities();
    Ok(match (kind, step) {
        (Kind::X509, Named::Activate) => {
            let request = pb::ActivateX509AuthorityRequest { authority_id };
            client.answer(calls.activate_x509_authority(request)).await?.activated_authority
        }
        (Kind::X509, Named::Taint) => {
            let request = pb::TaintX509AuthorityRequest { authority_id };
            client.answer(calls.taint_x509_authority(request)).await?.tainted_authority
        }
        (Kind::X509, Named::Revoke) => {
            let request = pb::RevokeX509AuthorityRequest { authority_id };
            client.answer(calls.revoke_x509_authority(request)).await?.revoked_authority
        }
        (Kind::Jwt, Named::Activate) => {
            let request = pb::ActivateJwtAuthorityRequest { authority_id };
            client.answer(calls.activate_jwt_authority(request)).await?.activated_authority
        }
        (Kind::Jwt, Named::Taint) => {
            let request = pb::TaintJwtAuthorityRequest { authority_id };
            client.answer(calls.taint_jwt_authority(request)).await?.tainted_authority
        }
        (Kind::Jwt, Named::Revoke) => {
            let request = pb::RevokeJwtAuthorityRequest { authority_id };
            client.answer(calls.revoke_jwt_authority(request)).await?.revoked_authority
        }
    })
}

//! Whose fault it is that a step was not taken, and whether the next try may go better.

use steeple::keys::KeyStoreError;

use super::RotationError;
use crate::ca::upstream::UpstreamError;

impl RotationError {
    /// Whether it lies with what is beside this server: what stands above it, or what keeps its keys.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        match self {
            Self::Keys(_)
            | Self::Upstream(_)
            | Self::UnusableCa(_)
            | Self::UpstreamTainted
            | Self::UpstreamRevoked(_)
            | Self::Waiting(_) => true,
            Self::StillBelow { source, .. } => source.is_outside(),
            Self::Ledger(_)
            | Self::Journal(_)
            | Self::Audit(_)
            | Self::Certificate(_)
            | Self::Chain(_)
            | Self::Issuer(_)
            | Self::NoKeyId(_)
            | Self::Random
            | Self::NotVouched(_)
            | Self::NotMade(_)
            | Self::NotActive(_) => false,
        }
    }

    /// Whether the same may go well later, without anybody's doing.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Upstream(UpstreamError::Unavailable(_))
            | Self::Keys(
                KeyStoreError::Io(_) | KeyStoreError::File { .. } | KeyStoreError::Pkcs11(_),
            )
            | Self::Ledger(_)
            | Self::Audit(_)
            | Self::Waiting(_) => true,
            Self::StillBelow { source, .. } => source.may_pass(),
            Self::Upstream(UpstreamError::Refused(_) | UpstreamError::Answer(_))
            | Self::Keys(
                KeyStoreError::Unusable { .. }
                | KeyStoreError::Exposed { .. }
                | KeyStoreError::Generate(_),
            )
            | Self::UnusableCa(_)
            | Self::UpstreamTainted
            | Self::UpstreamRevoked(_)
            | Self::Journal(_)
            | Self::Certificate(_)
            | Self::Chain(_)
            | Self::Issuer(_)
            | Self::NoKeyId(_)
            | Self::Random
            | Self::NotVouched(_)
            | Self::NotMade(_)
            | Self::NotActive(_) => false,
        }
    }
}

//! When the configured trust bundle is believed once more: SPIRE's `rebootstrap_mode` and
//! `rebootstrap_delay`.

use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;
use steeple::config::{ConfigError, HumanDuration};

use super::{NodeAttestorConfig, invalid};
use crate::node::plan::Rebootstrap;
use crate::node::trust::TrustSource;

/// How long a server is not believed before that, unless it is said.
const DELAY: Duration = Duration::from_secs(600);

/// Whether it ever is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RebootstrapMode {
    /// Never.
    #[default]
    Never,
    /// When there is something to attest with.
    Auto,
    /// The same, and there has to be something that works again.
    Always,
}

/// The settings, for a node that attests by this and believes a server for this reason.
pub(super) fn check(
    mode: Option<RebootstrapMode>,
    delay: Option<HumanDuration>,
    (attestor, trust): (&NodeAttestorConfig, &TrustSource),
) -> Result<Rebootstrap, ConfigError> {
    let mode = mode.unwrap_or_default();
    let delay = delay.map_or(DELAY, |delay| delay.0);
    if delay < Duration::from_secs(1) || delay > Duration::from_secs(30 * 24 * 3_600) {
        let found = humantime::format_duration(delay);
        return Err(invalid("rebootstrap_delay", found, "between 1s and 30days"));
    }
    let works_again = match attestor {
        NodeAttestorConfig::JoinToken(_) => false,
        NodeAttestorConfig::X509Pop(_) => true,
    };
    match (mode, trust) {
        (RebootstrapMode::Never, _) => Ok(Rebootstrap::Never),
        (RebootstrapMode::Auto | RebootstrapMode::Always, TrustSource::Insecure) => {
            let must_be = "never with insecure_bootstrap, or whoever stands in the way for long enough would be \
                           believed";
            Err(invalid("rebootstrap_mode", name(mode), must_be))
        }
        (RebootstrapMode::Always, _) if !works_again => {
            let must_be = "auto or never with a join token, which works once; always needs \
                           node_attestor.x509pop";
            Err(invalid("rebootstrap_mode", name(mode), must_be))
        }
        (
            RebootstrapMode::Auto | RebootstrapMode::Always,
            TrustSource::File(_) | TrustSource::Url(_) | TrustSource::Fingerprint(_),
        ) => Ok(Rebootstrap::After(delay)),
    }
}

fn name(mode: RebootstrapMode) -> &'static str {
    match mode {
        RebootstrapMode::Never => "never",
        RebootstrapMode::Auto => "auto",
        RebootstrapMode::Always => "always",
    }
}

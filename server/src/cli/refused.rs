//! Commands of SPIRE's tools that this one has something else for, or nothing. Flags are in
//! [`steeple::refused`].

use anyhow::bail;
use clap::Args;

/// `wit`, which SPIRE has behind a feature flag.
#[derive(Args, Debug)]
pub(super) struct Wit {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _arguments: Vec<String>,
}

impl Wit {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        bail!(
            "WIT-SVIDs are not minted: SPIRE has them as an experiment behind a feature flag, and this \
             server does not have them; `x509 mint` and `jwt mint` make the other two kinds"
        )
    }
}

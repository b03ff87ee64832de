//! Flags of SPIRE's agent that this one has nothing for: each is refused with the reason.

use clap::Args;
use steeple::refused::{Pipe, unless};

/// Flags of SPIRE's `run` and `validate`.
#[derive(Args, Debug)]
pub(super) struct OfRun {
    #[command(flatten)]
    _pipe: Pipe,
    #[arg(long = "rebootstrapMode", hide = true, value_parser = no_rebootstrap)]
    _rebootstrap_mode: Option<String>,
    #[arg(long = "rebootstrapDelay", hide = true, value_parser = no_rebootstrap)]
    _rebootstrap_delay: Option<String>,
    /// Nothing is lost: SDS is not served.
    #[arg(long = "disableSDSAPI", hide = true, num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    _disable_sds_api: Option<String>,
}

fn no_rebootstrap(text: &str) -> Result<String, &'static str> {
    unless(
        text,
        "never",
        "an agent that does not believe its server any more is not started over by itself; give it a new \
         --trust-bundle",
    )
}

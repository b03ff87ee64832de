//! Flags of SPIRE's agent that this one has nothing for.

use clap::Args;
use steeple::refused::Pipe;

/// Flags of SPIRE's `run` and `validate`.
#[derive(Args, Debug)]
pub(super) struct OfRun {
    #[command(flatten)]
    _pipe: Pipe,
    /// Nothing is lost: SDS is not served.
    #[arg(long = "disableSDSAPI", hide = true, num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    _disable_sds_api: Option<String>,
}

//! What stands above the server, from what the configuration says of it.

use std::sync::Arc;

use anyhow::Context as _;
use steeple::clock::{Clock, SystemClock};
use steeple::tasks::Tasks;

use crate::ca::upstream::UpstreamAuthority;
use crate::config::{Config, UpstreamConfig};
use crate::upstream::disk::Disk;
use crate::upstream::spire::Spire;

/// What stands above a server with this configuration, if something does.
pub(super) fn build(
    config: &Config,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
) -> anyhow::Result<Option<Arc<dyn UpstreamAuthority>>> {
    let (trust_domain, clock) = (config.trust_domain.clone(), Arc::clone(clock));
    Ok(match &config.upstream_authority {
        None => None,
        Some(UpstreamConfig::Disk(disk)) => {
            Some(Arc::new(Disk::open(disk.clone(), trust_domain, clock)?))
        }
        Some(UpstreamConfig::Spire(spire)) => {
            let spire = Spire::start(spire, trust_domain, clock, tasks);
            Some(Arc::new(spire.context("setting up `upstream_authority`")?))
        }
    })
}

/// Reads the files that have to be there before a start.
pub(super) fn check_files(config: &Config) -> anyhow::Result<()> {
    match &config.upstream_authority {
        Some(UpstreamConfig::Disk(disk)) => {
            Disk::open(disk.clone(), config.trust_domain.clone(), Arc::new(SystemClock))?;
            Ok(())
        }
        Some(UpstreamConfig::Spire(_)) | None => Ok(()),
    }
}

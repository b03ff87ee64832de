//! The server's own SVID: what it shows to whoever connects. Its key is in memory alone.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use steeple::clock::Clock;
use steeple::keys::{KeyAlgorithm, PrivateKey, PrivateKeyError};
use steeple::tls::{Material, MaterialError};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::authorities::{Authorities, AuthorityId};
use super::request::X509Request;
use super::{Ca, IssueError, Order};
use crate::audit::event::Caller;

/// How often it is looked at, and how long after a failure it is tried again.
const TICK: Duration = Duration::from_secs(5);

/// The server's SVID, and what renews it.
#[derive(Debug)]
pub struct OwnSvid {
    ca: Ca,
    authorities: watch::Receiver<Arc<Authorities>>,
    clock: Arc<dyn Clock>,
    ttl: Duration,
    life: Life,
    material: watch::Sender<Arc<Material>>,
}

/// Why the server has no new SVID.
#[derive(Clone, Debug, Error)]
pub enum OwnSvidError {
    /// No key could be made.
    #[error("no key could be made")]
    Key(#[from] PrivateKeyError),
    /// It was not issued.
    #[error("the server's own SVID was not issued")]
    Issue(#[from] IssueError),
    /// It cannot be presented.
    #[error("the server's own SVID cannot be presented")]
    Material(#[from] MaterialError),
}

/// What decides when an SVID is renewed.
#[derive(Clone, Debug)]
struct Life {
    issued_by: AuthorityId,
    not_before: SystemTime,
    renew_at: SystemTime,
}

/// Why it is renewed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Due {
    /// What signed it is tainted, or no longer vouched for.
    Distrusted,
    /// It is time.
    Time,
}

impl OwnSvid {
    /// Issues the first one, to live for `ttl` or as long as its authority.
    pub async fn start(ca: Ca, ttl: Duration, clock: Arc<dyn Clock>) -> Result<Self, OwnSvidError> {
        let (material, life) = issue(&ca, ttl, &*clock).await?;
        let authorities = ca.authorities.clone();
        let material = watch::Sender::new(Arc::new(material));
        Ok(Self { ca, authorities, clock, ttl, life, material })
    }

    /// What is presented.
    #[must_use]
    pub fn material(&self) -> watch::Receiver<Arc<Material>> {
        self.material.subscribe()
    }

    /// Renews it at half of its life, when another authority signs that everybody knows, and at once
    /// when the one that signed it is tainted, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wait() => {}
            }
            let why = match due(&self.life, &self.ca.authorities(), self.clock.now()) {
                Some(why) => why,
                None => continue,
            };
            if why == Due::Distrusted && !failing {
                info!(local_authority_id = %self.life.issued_by,
                    "Server SVID signed using a tainted authority, forcing rotation of the Server SVID");
            }
            match issue(&self.ca, self.ttl, &*self.clock).await {
                Ok((material, life)) => {
                    info!(local_authority_id = %life.issued_by, "server SVID renewed");
                    self.material.send_replace(Arc::new(material));
                    self.life = life;
                    failing = false;
                    continue;
                }
                Err(error) if !failing => {
                    error!(error = &error as &dyn StdError, "server SVID not renewed");
                    failing = true;
                }
                Err(_) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Waits until the SVID may have to be renewed.
    async fn wait(&mut self) {
        let left = self.life.renew_at.duration_since(self.clock.now()).unwrap_or_default();
        tokio::select! {
            () = tokio::time::sleep(left.min(TICK)) => {}
            Ok(()) = self.authorities.changed() => {}
        }
    }
}

/// Whether the SVID has to be renewed now, and why.
///
/// It moves to another CA once that has been public for long: an agent that does not know the CA
/// cannot connect any more, and so never learns of it. One that is tainted is left at once.
fn due(life: &Life, authorities: &Authorities, now: SystemTime) -> Option<Due> {
    let active = authorities.x509();
    let is_active = *active.id() == life.issued_by;
    // What is active and tainted is about to be replaced, and until then signs no better one.
    if !is_active && !authorities.relied_on().contains(&life.issued_by) {
        return Some(Due::Distrusted);
    }
    let can_move = !is_active && active.public_at() <= now;
    (can_move || life.renew_at <= now || now < life.not_before).then_some(Due::Time)
}

async fn issue(
    ca: &Ca,
    ttl: Duration,
    clock: &dyn Clock,
) -> Result<(Material, Life), OwnSvidError> {
    let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcP256)?);
    let public_key = steeple::keys::Signer::public_key(&*key);
    let request = X509Request::Server { public_key, ttl };
    let now = clock.now();
    let svid = ca.issue_one_x509(&Caller::Server, &Order { request, entry_id: None }).await?.svid;
    let life = svid.not_after().duration_since(now).unwrap_or_default();
    let life = Life {
        issued_by: svid.authority_key_id().unwrap_or_default().to_owned().into(),
        not_before: svid.not_before(),
        renew_at: now + life / 2,
    };
    Ok((Material::new(svid.chain(), key)?, life))
}

#[cfg(test)]
mod tests;

//! What becomes of the authorities of a kind that the server is no longer to make.

use tracing::info;

use super::RotationError;
use super::keeper::Keeper;
use crate::audit::event::{Caller, Event};
use crate::ca::Ledger;
use crate::ca::journal::Record;
use crate::ca::slots::{Kind, Status};

impl<L: Ledger> Keeper<L> {
    /// Lets no authority of that kind sign any more. They are vouched for until all that they signed
    /// has expired.
    pub(super) async fn retire(&mut self, kind: Kind) -> Result<(), RotationError> {
        let of_kind = self.journal().records().iter().filter(|record| record.kind == kind);
        let retired = of_kind.filter(|record| record.status != Status::Old).cloned();
        let retired: Vec<_> = retired.collect();
        if retired.is_empty() {
            return Ok(());
        }
        self.save(self.journal().with_retired(kind), Vec::new()).await?;
        for Record { authority_id, not_after, .. } in retired {
            info!(%kind, %authority_id, "authority retired, as this server makes none of its kind");
            let event = Event::AuthorityRetired { kind, authority_id, not_after };
            self.tell(&Caller::Server, event).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

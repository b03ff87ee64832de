//! What this node holds: who may have which identity, and the credentials of who has one.
//!
//! [`Snapshot`] is what the server says of this node, one immutable value at a time. A [`Holder`]
//! has the keys and SVIDs of one attested process or container: minted when it first asks, renewed
//! while it lives, wiped when it ends. Nothing here reads a socket, attests or synchronises.

mod bundles;
mod credential;
mod cut;
mod deps;
mod holder;
mod holders;
mod holdings;
mod lane;
mod mint;
mod minter;
mod owner;
mod pace;
mod plan;
mod snapshot;

pub use self::bundles::{Authorities, PreparedBundle};
pub use self::credential::{CredentialError, X509Credential};
pub use self::deps::Deps;
pub use self::holder::{Holder, IdentityError};
pub use self::holders::{Capacity, Holders, InUse};
pub use self::holdings::{Audiences, Held, Holdings, JwtToken, MintFailure};
pub use self::snapshot::Snapshot;

#[cfg(test)]
pub(crate) mod tests;

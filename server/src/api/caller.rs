//! Who is at the other end of a connection. Found out once, when it is accepted.

use std::net::SocketAddr;
use std::sync::Arc;

use steeple::id::SpiffeId;
use steeple::tls::Unnamed;

use super::limits::Source;
use crate::audit::event;
use crate::authz::Class;

/// The other end of a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Caller {
    /// A process on this machine, through the admin socket.
    Local(Process),
    /// Somebody on the network who showed no certificate.
    Anonymous(SocketAddr),
    /// Somebody on the network whose certificate was verified.
    Peer(Peer),
    /// Somebody on the network whose certificate is nobody's SVID.
    Unnamed {
        /// Where its holder is.
        address: SocketAddr,
        /// The certificate.
        certificate: Unnamed,
    },
}

/// A process, as the kernel knew it when it connected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Process {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its ID, unless it is of a place where ours mean nothing.
    pub pid: Option<i32>,
}

/// Somebody with a verified certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Whom it names.
    pub id: SpiffeId,
    /// Its serial number in decimal.
    pub serial: String,
    /// When it expires, in seconds since 1970.
    pub not_after: i64,
    /// Where its holder is.
    pub address: SocketAddr,
}

/// A caller that was let in for the call at hand. Handlers find it in the extensions of a request,
/// where only the guard puts it.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Who calls.
    pub caller: Arc<Caller>,
    /// As what.
    pub class: Class,
    /// For what.
    pub method: &'static str,
}

impl Caller {
    /// Where it is on the network, if it came from there.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Local(_) => None,
            Self::Anonymous(address)
            | Self::Peer(Peer { address, .. })
            | Self::Unnamed { address, .. } => Some(*address),
        }
    }

    /// Where calls come from, as far as limits go.
    #[must_use]
    pub fn source(&self) -> Source {
        self.address().map_or(Source::Local, |address| Source::Address(address.ip()))
    }
}

impl Admitted {
    /// The agent that calls, if it was let in as one.
    #[must_use]
    pub fn agent(&self) -> Option<&Peer> {
        match (&*self.caller, self.class) {
            (Caller::Peer(peer), Class::Agent) => Some(peer),
            (Caller::Peer(_), Class::Local | Class::Admin | Class::Downstream | Class::Any)
            | (Caller::Local(_) | Caller::Anonymous(_) | Caller::Unnamed { .. }, _) => None,
        }
    }

    /// The downstream server that calls, if it was let in as one.
    #[must_use]
    pub fn downstream(&self) -> Option<&Peer> {
        match (&*self.caller, self.class) {
            (Caller::Peer(peer), Class::Downstream) => Some(peer),
            (Caller::Peer(_), Class::Local | Class::Admin | Class::Agent | Class::Any)
            | (Caller::Local(_) | Caller::Anonymous(_) | Caller::Unnamed { .. }, _) => None,
        }
    }

    /// The caller as the audit log has it.
    #[must_use]
    pub fn for_audit(&self) -> event::Caller {
        audit_caller(&self.caller, Some(self.class))
    }
}

/// A caller as the audit log has it; `class` is `None` for one that was refused.
#[must_use]
pub fn audit_caller(caller: &Caller, class: Option<Class>) -> event::Caller {
    match caller {
        Caller::Local(Process { uid, gid, pid }) => {
            event::Caller::Local { uid: *uid, gid: *gid, pid: *pid }
        }
        Caller::Anonymous(address) => event::Caller::Anonymous { address: *address },
        Caller::Unnamed { address, certificate } => event::Caller::Unnamed {
            address: *address,
            serial: certificate.serial.clone(),
            authority_key_id: certificate.authority_key_id.clone(),
        },
        Caller::Peer(Peer { id, address, .. }) => {
            let (id, address) = (id.clone(), *address);
            match class {
                Some(Class::Admin) => event::Caller::Admin { id, address },
                Some(Class::Agent) => event::Caller::Agent { id, address },
                Some(Class::Downstream) => event::Caller::Downstream { id, address },
                Some(Class::Local | Class::Any) | None => event::Caller::Other { id, address },
            }
        }
    }
}

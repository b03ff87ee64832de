//! Decides who may call what, from one table; performs no I/O.
//!
//! A caller is identified elsewhere; here it is one of a few classes. Who is in no class that a row
//! names is refused, and a new [`Operation`] does not compile until somebody decides who may call
//! it.

pub mod agent_status;
pub mod operation;

use agent_status::AgentRefusal;
use operation::Operation;
use steeple::x509::verify::PeerError;

/// What of a caller matters to a decision.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Caller {
    /// A process on this machine that the file system lets at the admin socket.
    Local,
    /// Somebody on the network who showed no certificate.
    Anonymous,
    /// Somebody on the network whose certificate was verified.
    Peer(Peer),
    /// Somebody on the network whose certificate is nobody's SVID, and why.
    Unnamed(PeerError),
}

/// What a verified peer is. One peer may be several of these.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Whether its identity is one of an agent, and if so, whether the agent is in good standing.
    pub agent: Standing,
    /// Whether it may administer: by the configuration, or by an entry.
    pub admin: bool,
    /// Whether it is a server below this one.
    pub downstream: bool,
}

/// How a peer stands as an agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Its identity is not one of an agent.
    NotAnAgent,
    /// An agent that was attested and may call.
    Active,
    /// An agent that may not call.
    Refused(AgentRefusal),
}

/// As what a caller was let in; `authorized_as` in records.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Class {
    /// A process on this machine.
    Local,
    /// An administrator.
    Admin,
    /// An agent in good standing.
    Agent,
    /// A downstream server.
    Downstream,
    /// Anybody.
    Any,
}

/// The outcome for one call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// The call may go on.
    Allowed(Class),
    /// It may not. The reason is set for an agent that is not in good standing, and tells it what
    /// to do about that.
    Denied(Option<AgentRefusal>),
    /// It may not, nor may any other of somebody who claims to be who cannot be: this is wrong with
    /// the certificate.
    Unauthenticated(PeerError),
}

/// Which classes a row of the table admits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Admits {
    /// Everybody, also without a certificate.
    Any,
    /// Processes on this machine.
    Local,
    /// Processes on this machine, and administrators.
    Admins,
    /// As `Admins`, and agents.
    AdminsAndAgents,
    /// Agents.
    Agents,
    /// Downstream servers.
    Downstream,
}

/// Whether `caller` may call `operation`.
#[must_use]
pub fn permits(caller: Caller, operation: Operation) -> Decision {
    if let Caller::Unnamed(why) = caller {
        return Decision::Unauthenticated(why);
    }
    match admits(operation) {
        Admits::Any => Decision::Allowed(Class::Any),
        Admits::Local => first([local(caller)]),
        Admits::Admins => first([local(caller), admin(caller)]),
        Admits::AdminsAndAgents => first([local(caller), admin(caller), agent(caller)]),
        Admits::Agents => first([agent(caller)]),
        Admits::Downstream => first([downstream(caller)]),
    }
}

/// The table.
fn admits(operation: Operation) -> Admits {
    match operation {
        Operation::AttestAgent | Operation::GetBundle => Admits::Any,

        Operation::RenewAgent
        | Operation::PostStatus
        | Operation::GetAuthorizedEntries
        | Operation::SyncAuthorizedEntries
        | Operation::BatchNewX509Svid
        | Operation::NewJwtSvid
        | Operation::BatchNewWitSvid
        | Operation::ReportAuthorityUse => Admits::Agents,

        Operation::GetFederatedBundle => Admits::AdminsAndAgents,

        Operation::PublishJwtAuthority
        | Operation::PublishWitAuthority
        | Operation::NewDownstreamX509Ca => Admits::Downstream,

        Operation::CountAgents
        | Operation::ListAgents
        | Operation::GetAgent
        | Operation::DeleteAgent
        | Operation::BanAgent
        | Operation::CreateJoinToken
        | Operation::CountBundles
        | Operation::AppendBundle
        | Operation::ListFederatedBundles
        | Operation::BatchCreateFederatedBundle
        | Operation::BatchUpdateFederatedBundle
        | Operation::BatchSetFederatedBundle
        | Operation::BatchDeleteFederatedBundle
        | Operation::CountEntries
        | Operation::ListEntries
        | Operation::GetEntry
        | Operation::BatchCreateEntry
        | Operation::BatchUpdateEntry
        | Operation::BatchDeleteEntry
        | Operation::MintX509Svid
        | Operation::MintJwtSvid
        | Operation::MintWitSvid
        | Operation::TrustDomain
        | Operation::LocalAuthority => Admits::Admins,

        Operation::Logger | Operation::Debug | Operation::Health => Admits::Local,
    }
}

/// The first class that lets the caller in; or the reason that one of them has for not doing so.
fn first<const N: usize>(opinions: [Decision; N]) -> Decision {
    let mut refusal = None;
    for opinion in opinions {
        match opinion {
            Decision::Allowed(class) => return Decision::Allowed(class),
            Decision::Denied(reason) => refusal = refusal.or(reason),
            Decision::Unauthenticated(_) => return opinion,
        }
    }
    Decision::Denied(refusal)
}

fn local(caller: Caller) -> Decision {
    match caller {
        Caller::Local => Decision::Allowed(Class::Local),
        Caller::Anonymous | Caller::Peer(_) | Caller::Unnamed(_) => Decision::Denied(None),
    }
}

fn admin(caller: Caller) -> Decision {
    match caller {
        Caller::Local | Caller::Anonymous | Caller::Unnamed(_) => Decision::Denied(None),
        Caller::Peer(peer) => if_in_good_standing(peer, peer.admin, Class::Admin),
    }
}

fn downstream(caller: Caller) -> Decision {
    match caller {
        Caller::Local | Caller::Anonymous | Caller::Unnamed(_) => Decision::Denied(None),
        Caller::Peer(peer) => if_in_good_standing(peer, peer.downstream, Class::Downstream),
    }
}

fn agent(caller: Caller) -> Decision {
    match caller {
        Caller::Local | Caller::Anonymous | Caller::Unnamed(_) => Decision::Denied(None),
        Caller::Peer(peer) => {
            if_in_good_standing(peer, peer.agent == Standing::Active, Class::Agent)
        }
    }
}

/// An agent that is banned or gone is not an administrator either, should somebody have made it
/// one.
fn if_in_good_standing(peer: Peer, belongs: bool, class: Class) -> Decision {
    match peer.agent {
        Standing::Refused(reason) => Decision::Denied(Some(reason)),
        Standing::NotAnAgent | Standing::Active if belongs => Decision::Allowed(class),
        Standing::NotAnAgent | Standing::Active => Decision::Denied(None),
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! Every method against every class of caller.

use std::collections::BTreeSet;

use prost::Message as _;
use steeple_proto::FILE_DESCRIPTOR_SET;

use super::operation::METHODS;
use super::*;

const ANONYMOUS: Caller = Caller::Anonymous;
const WORKLOAD: Peer = Peer { agent: Standing::NotAnAgent, admin: false, downstream: false };
const AGENT: Peer = Peer { agent: Standing::Active, ..WORKLOAD };
const ADMIN: Peer = Peer { admin: true, ..WORKLOAD };
const DOWNSTREAM: Peer = Peer { downstream: true, ..WORKLOAD };

/// The callers that the columns of the table stand for, in order.
const COLUMNS: [Caller; 6] = [
    Caller::Local,
    Caller::Peer(ADMIN),
    Caller::Peer(AGENT),
    Caller::Peer(DOWNSTREAM),
    Caller::Peer(WORKLOAD),
    ANONYMOUS,
];

/// Who may call which methods: an `x` for each of `COLUMNS` that may.
pub(crate) const EXPECTED: &[(&str, &str, &[&str])] = &[
    ("xxxxxx", "spire.api.server.agent.v1.Agent", &["AttestAgent"]),
    ("..x...", "spire.api.server.agent.v1.Agent", &["RenewAgent", "PostStatus"]),
    (
        "xx....",
        "spire.api.server.agent.v1.Agent",
        &["CountAgents", "ListAgents", "GetAgent", "DeleteAgent", "BanAgent", "CreateJoinToken"],
    ),
    ("xxxxxx", "spire.api.server.bundle.v1.Bundle", &["GetBundle"]),
    ("xxx...", "spire.api.server.bundle.v1.Bundle", &["GetFederatedBundle"]),
    (
        "xx....",
        "spire.api.server.bundle.v1.Bundle",
        &[
            "AppendBundle",
            "CountBundles",
            "ListFederatedBundles",
            "BatchCreateFederatedBundle",
            "BatchUpdateFederatedBundle",
            "BatchSetFederatedBundle",
            "BatchDeleteFederatedBundle",
        ],
    ),
    (
        "...x..",
        "spire.api.server.bundle.v1.Bundle",
        &["PublishJWTAuthority", "PublishWITAuthority"],
    ),
    (
        "xx....",
        "spire.api.server.entry.v1.Entry",
        &[
            "CountEntries",
            "ListEntries",
            "GetEntry",
            "BatchCreateEntry",
            "BatchUpdateEntry",
            "BatchDeleteEntry",
        ],
    ),
    (
        "..x...",
        "spire.api.server.entry.v1.Entry",
        &["GetAuthorizedEntries", "SyncAuthorizedEntries"],
    ),
    ("xx....", "spire.api.server.svid.v1.SVID", &["MintX509SVID", "MintJWTSVID", "MintWITSVID"]),
    (
        "..x...",
        "spire.api.server.svid.v1.SVID",
        &["BatchNewX509SVID", "NewJWTSVID", "BatchNewWITSVID"],
    ),
    ("...x..", "spire.api.server.svid.v1.SVID", &["NewDownstreamX509CA"]),
    (
        "xx....",
        "spire.api.server.trustdomain.v1.TrustDomain",
        &[
            "ListFederationRelationships",
            "GetFederationRelationship",
            "BatchCreateFederationRelationship",
            "BatchUpdateFederationRelationship",
            "BatchDeleteFederationRelationship",
            "RefreshBundle",
        ],
    ),
    (
        "xx....",
        "spire.api.server.localauthority.v1.LocalAuthority",
        &[
            "GetJWTAuthorityState",
            "PrepareJWTAuthority",
            "ActivateJWTAuthority",
            "TaintJWTAuthority",
            "RevokeJWTAuthority",
            "GetX509AuthorityState",
            "PrepareX509Authority",
            "ActivateX509Authority",
            "TaintX509Authority",
            "TaintX509UpstreamAuthority",
            "RevokeX509Authority",
            "RevokeX509UpstreamAuthority",
            "GetWITAuthorityState",
            "PrepareWITAuthority",
            "ActivateWITAuthority",
            "TaintWITAuthority",
            "RevokeWITAuthority",
        ],
    ),
    ("..x...", "steeple.authority.v1.AuthorityUse", &["ReportUse"]),
    ("xx....", "steeple.authority.v1.AuthorityUse", &["GetUse"]),
    ("x.....", "spire.api.server.logger.v1.Logger", &["GetLogger", "SetLogLevel", "ResetLogLevel"]),
    ("x.....", "spire.api.server.debug.v1.Debug", &["GetInfo"]),
    ("x.....", "grpc.health.v1.Health", &["Check", "Watch", "List"]),
];

#[test]
fn each_method_admits_the_classes_of_its_row_and_no_other() {
    for (row, service, methods) in EXPECTED {
        for method in *methods {
            let path = format!("/{service}/{method}");
            let (operation, name) = Operation::of_path(&path).expect(&path);
            assert_eq!(name, path);
            let found: String = COLUMNS
                .iter()
                .map(|caller| match permits(*caller, operation) {
                    Decision::Allowed(_) => 'x',
                    Decision::Denied(_) | Decision::Unauthenticated(_) => '.',
                })
                .collect();
            assert_eq!(found, *row, "{path}");
            let nobody = permits(Caller::Unnamed(PeerError::NotOneUri), operation);
            assert_eq!(nobody, Decision::Unauthenticated(PeerError::NotOneUri), "{path}");
        }
    }
}

#[test]
fn the_table_covers_every_method_on_the_wire_and_nothing_else() {
    let known: BTreeSet<String> = METHODS
        .iter()
        .flat_map(|(service, methods)| methods.iter().map(move |(m, _)| format!("/{service}/{m}")))
        .collect();
    let tested: BTreeSet<String> = EXPECTED
        .iter()
        .flat_map(|(_, service, methods)| methods.iter().map(move |m| format!("/{service}/{m}")))
        .collect();
    assert_eq!(known, tested);

    let descriptors = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let on_the_wire: BTreeSet<String> = descriptors
        .file
        .iter()
        .filter(|file| {
            let package = file.package();
            package.starts_with("spire.api.server.") || package.starts_with("steeple.")
        })
        .flat_map(|file| file.service.iter().map(move |service| (file.package(), service)))
        .flat_map(|(package, service)| {
            let path = move |name| format!("/{package}.{}/{name}", service.name());
            service.method.iter().map(move |method| path(method.name()))
        })
        .collect();
    let ours: BTreeSet<String> =
        known.into_iter().filter(|path| !path.starts_with("/grpc.")).collect();
    assert_eq!(ours, on_the_wire);
}

#[test]
fn an_unknown_path_is_no_operation() {
    for path in ["", "/", "/spire.api.server.entry.v1.Entry/", "/x/GetEntry", "GetEntry"] {
        assert_eq!(Operation::of_path(path), None, "{path}");
    }
}

#[test]
fn an_agent_that_is_refused_learns_why_whatever_it_calls() {
    let refused = |reason| Caller::Peer(Peer { agent: Standing::Refused(reason), ..WORKLOAD });
    for reason in [
        AgentRefusal::Expired,
        AgentRefusal::NotAttested,
        AgentRefusal::NotActive,
        AgentRefusal::Banned,
    ] {
        let found = |operation| permits(refused(reason), operation);
        assert_eq!(found(Operation::RenewAgent), Decision::Denied(Some(reason))); // H147
        assert_eq!(found(Operation::GetFederatedBundle), Decision::Denied(Some(reason)));
        assert_eq!(found(Operation::ListEntries), Decision::Denied(Some(reason)));
        assert_eq!(found(Operation::AttestAgent), Decision::Allowed(Class::Any));
    }
}

#[test]
fn a_peer_of_several_classes_has_the_rights_of_each() {
    let all = Caller::Peer(Peer { agent: Standing::Active, admin: true, downstream: true });
    assert_eq!(permits(all, Operation::ListEntries), Decision::Allowed(Class::Admin));
    assert_eq!(permits(all, Operation::RenewAgent), Decision::Allowed(Class::Agent));
    assert_eq!(permits(all, Operation::NewDownstreamX509Ca), Decision::Allowed(Class::Downstream));
    let banned = Peer { agent: Standing::Refused(AgentRefusal::Banned), ..ADMIN };
    let refused = Decision::Denied(Some(AgentRefusal::Banned));
    assert_eq!(permits(Caller::Peer(banned), Operation::ListEntries), refused);
    assert_eq!(permits(Caller::Peer(banned), Operation::GetFederatedBundle), refused);
}

//! What can be called, by the name it has on the wire.

use std::collections::HashMap;
use std::sync::LazyLock;

/// One thing that a caller may or may not do.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Operation {
    /// Become an agent.
    AttestAgent,
    /// Get the next certificate as an agent.
    RenewAgent,
    /// Tell the server which version of the agent runs.
    PostStatus,
    /// Count agents.
    CountAgents,
    /// List agents.
    ListAgents,
    /// Show an agent.
    GetAgent,
    /// Evict an agent, which may attest again.
    DeleteAgent,
    /// Ban an agent, which may not.
    BanAgent,
    /// Make a token that a node can join with once.
    CreateJoinToken,
    /// Count bundles.
    CountBundles,
    /// Read the trust domain's own bundle.
    GetBundle,
    /// Add authorities to the trust domain's own bundle.
    AppendBundle,
    /// Add a downstream server's JWT key to the bundle.
    PublishJwtAuthority,
    /// Add a downstream server's WIT key to the bundle.
    PublishWitAuthority,
    /// List the bundles of foreign trust domains.
    ListFederatedBundles,
    /// Read the bundle of a foreign trust domain.
    GetFederatedBundle,
    /// Add bundles of foreign trust domains.
    BatchCreateFederatedBundle,
    /// Change bundles of foreign trust domains.
    BatchUpdateFederatedBundle,
    /// Add or change bundles of foreign trust domains.
    BatchSetFederatedBundle,
    /// Forget bundles of foreign trust domains.
    BatchDeleteFederatedBundle,
    /// Count entries.
    CountEntries,
    /// List entries.
    ListEntries,
    /// Show an entry.
    GetEntry,
    /// Add entries.
    BatchCreateEntry,
    /// Change entries.
    BatchUpdateEntry,
    /// Delete entries.
    BatchDeleteEntry,
    /// Read the entries that the calling agent is to serve.
    GetAuthorizedEntries,
    /// Read what changed of them.
    SyncAuthorizedEntries,
    /// Sign an X.509-SVID without an entry.
    MintX509Svid,
    /// Sign a JWT-SVID without an entry.
    MintJwtSvid,
    /// Sign a WIT-SVID without an entry.
    MintWitSvid,
    /// Sign X.509-SVIDs of the calling agent's entries.
    BatchNewX509Svid,
    /// Sign a JWT-SVID of one of the calling agent's entries.
    NewJwtSvid,
    /// Sign WIT-SVIDs of the calling agent's entries.
    BatchNewWitSvid,
    /// Sign the CA certificate of a downstream server.
    NewDownstreamX509Ca,
    /// Manage relationships with foreign trust domains.
    TrustDomain,
    /// Look at and rotate this server's authorities.
    LocalAuthority,
    /// Say by which authorities what an agent holds was signed.
    ReportAuthorityUse,
    /// Look at and set the log level.
    Logger,
    /// Look at how the server is doing.
    Debug,
    /// Ask whether the server is healthy.
    Health,
}

/// Where a service can be reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// Over the network and over the admin socket.
    Everywhere,
    /// Over the admin socket alone; on the network it does not exist.
    AdminSocket,
}

impl Operation {
    /// The operation behind a path such as `/spire.api.server.entry.v1.Entry/GetEntry`, and that
    /// path as it stands in the table.
    #[must_use]
    pub fn of_path(path: &str) -> Option<(Self, &'static str)> {
        BY_PATH.get_key_value(path).map(|(path, operation)| (*operation, path.as_str()))
    }

    /// Whether it changes what has to be in the audit log, and so is not to be left half done when
    /// its caller goes away. What signs is not of that kind: it is recorded before, and what nobody
    /// waits for is not handed out. Nor is attestation, which sees to that itself.
    #[must_use]
    pub fn has_to_end(self) -> bool {
        match self {
            Self::RenewAgent
            | Self::DeleteAgent
            | Self::BanAgent
            | Self::CreateJoinToken
            | Self::AppendBundle
            | Self::PublishJwtAuthority
            | Self::PublishWitAuthority
            | Self::BatchCreateFederatedBundle
            | Self::BatchUpdateFederatedBundle
            | Self::BatchSetFederatedBundle
            | Self::BatchDeleteFederatedBundle
            | Self::BatchCreateEntry
            | Self::BatchUpdateEntry
            | Self::BatchDeleteEntry
            | Self::TrustDomain
            | Self::LocalAuthority
            | Self::Logger => true,
            Self::AttestAgent
            | Self::PostStatus
            | Self::CountAgents
            | Self::ListAgents
            | Self::GetAgent
            | Self::CountBundles
            | Self::GetBundle
            | Self::ListFederatedBundles
            | Self::GetFederatedBundle
            | Self::CountEntries
            | Self::ListEntries
            | Self::GetEntry
            | Self::GetAuthorizedEntries
            | Self::SyncAuthorizedEntries
            | Self::MintX509Svid
            | Self::MintJwtSvid
            | Self::MintWitSvid
            | Self::BatchNewX509Svid
            | Self::NewJwtSvid
            | Self::BatchNewWitSvid
            | Self::NewDownstreamX509Ca
            | Self::ReportAuthorityUse
            | Self::Debug
            | Self::Health => false,
        }
    }

    /// Whether the method at this path makes JWT-SVIDs, or manages the keys that sign them. Reading
    /// bundles is for all kinds of keys and is not among them, nor is passing on the keys of servers
    /// below.
    #[must_use]
    pub fn is_about_jwt(path: &str) -> bool {
        let method = path.rsplit('/').next();
        method.is_some_and(|method| method.contains("JWT") && method != "PublishJWTAuthority")
    }

    /// Where it can be called.
    #[must_use]
    pub fn reach(self) -> Reach {
        match self {
            Self::Logger | Self::Debug | Self::Health => Reach::AdminSocket,
            Self::AttestAgent
            | Self::RenewAgent
            | Self::PostStatus
            | Self::CountAgents
            | Self::ListAgents
            | Self::GetAgent
            | Self::DeleteAgent
            | Self::BanAgent
            | Self::CreateJoinToken
            | Self::CountBundles
            | Self::GetBundle
            | Self::AppendBundle
            | Self::PublishJwtAuthority
            | Self::PublishWitAuthority
            | Self::ListFederatedBundles
            | Self::GetFederatedBundle
            | Self::BatchCreateFederatedBundle
            | Self::BatchUpdateFederatedBundle
            | Self::BatchSetFederatedBundle
            | Self::BatchDeleteFederatedBundle
            | Self::CountEntries
            | Self::ListEntries
            | Self::GetEntry
            | Self::BatchCreateEntry
            | Self::BatchUpdateEntry
            | Self::BatchDeleteEntry
            | Self::GetAuthorizedEntries
            | Self::SyncAuthorizedEntries
            | Self::MintX509Svid
            | Self::MintJwtSvid
            | Self::MintWitSvid
            | Self::BatchNewX509Svid
            | Self::NewJwtSvid
            | Self::BatchNewWitSvid
            | Self::NewDownstreamX509Ca
            | Self::TrustDomain
            | Self::LocalAuthority
            | Self::ReportAuthorityUse => Reach::Everywhere,
        }
    }
}

static BY_PATH: LazyLock<HashMap<String, Operation>> = LazyLock::new(|| {
    let path = |service: &str, method: &str| format!("/{service}/{method}");
    METHODS
        .iter()
        .flat_map(|(service, methods)| {
            methods.iter().map(move |(method, operation)| (path(service, method), *operation))
        })
        .collect()
});

/// The methods of a service, and what each is.
type Service = (&'static str, &'static [(&'static str, Operation)]);

/// Every method of every service.
pub(super) const METHODS: &[Service] = &[
    (
        "spire.api.server.agent.v1.Agent",
        &[
            ("AttestAgent", Operation::AttestAgent),
            ("RenewAgent", Operation::RenewAgent),
            ("PostStatus", Operation::PostStatus),
            ("CountAgents", Operation::CountAgents),
            ("ListAgents", Operation::ListAgents),
            ("GetAgent", Operation::GetAgent),
            ("DeleteAgent", Operation::DeleteAgent),
            ("BanAgent", Operation::BanAgent),
            ("CreateJoinToken", Operation::CreateJoinToken),
        ],
    ),
    (
        "spire.api.server.bundle.v1.Bundle",
        &[
            ("CountBundles", Operation::CountBundles),
            ("GetBundle", Operation::GetBundle),
            ("AppendBundle", Operation::AppendBundle),
            ("PublishJWTAuthority", Operation::PublishJwtAuthority),
            ("PublishWITAuthority", Operation::PublishWitAuthority),
            ("ListFederatedBundles", Operation::ListFederatedBundles),
            ("GetFederatedBundle", Operation::GetFederatedBundle),
            ("BatchCreateFederatedBundle", Operation::BatchCreateFederatedBundle),
            ("BatchUpdateFederatedBundle", Operation::BatchUpdateFederatedBundle),
            ("BatchSetFederatedBundle", Operation::BatchSetFederatedBundle),
            ("BatchDeleteFederatedBundle", Operation::BatchDeleteFederatedBundle),
        ],
    ),
    (
        "spire.api.server.entry.v1.Entry",
        &[
            ("CountEntries", Operation::CountEntries),
            ("ListEntries", Operation::ListEntries),
            ("GetEntry", Operation::GetEntry),
            ("BatchCreateEntry", Operation::BatchCreateEntry),
            ("BatchUpdateEntry", Operation::BatchUpdateEntry),
            ("BatchDeleteEntry", Operation::BatchDeleteEntry),
            ("GetAuthorizedEntries", Operation::GetAuthorizedEntries),
            ("SyncAuthorizedEntries", Operation::SyncAuthorizedEntries),
        ],
    ),
    (
        "spire.api.server.svid.v1.SVID",
        &[
            ("MintX509SVID", Operation::MintX509Svid),
            ("MintJWTSVID", Operation::MintJwtSvid),
            ("MintWITSVID", Operation::MintWitSvid),
            ("BatchNewX509SVID", Operation::BatchNewX509Svid),
            ("NewJWTSVID", Operation::NewJwtSvid),
            ("BatchNewWITSVID", Operation::BatchNewWitSvid),
            ("NewDownstreamX509CA", Operation::NewDownstreamX509Ca),
        ],
    ),
    (
        "spire.api.server.trustdomain.v1.TrustDomain",
        &[
            ("ListFederationRelationships", Operation::TrustDomain),
            ("GetFederationRelationship", Operation::TrustDomain),
            ("BatchCreateFederationRelationship", Operation::TrustDomain),
            ("BatchUpdateFederationRelationship", Operation::TrustDomain),
            ("BatchDeleteFederationRelationship", Operation::TrustDomain),
            ("RefreshBundle", Operation::TrustDomain),
        ],
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority",
        &[
            ("GetJWTAuthorityState", Operation::LocalAuthority),
            ("PrepareJWTAuthority", Operation::LocalAuthority),
            ("ActivateJWTAuthority", Operation::LocalAuthority),
            ("TaintJWTAuthority", Operation::LocalAuthority),
            ("RevokeJWTAuthority", Operation::LocalAuthority),
            ("GetX509AuthorityState", Operation::LocalAuthority),
            ("PrepareX509Authority", Operation::LocalAuthority),
            ("ActivateX509Authority", Operation::LocalAuthority),
            ("TaintX509Authority", Operation::LocalAuthority),
            ("TaintX509UpstreamAuthority", Operation::LocalAuthority),
            ("RevokeX509Authority", Operation::LocalAuthority),
            ("RevokeX509UpstreamAuthority", Operation::LocalAuthority),
            ("GetWITAuthorityState", Operation::LocalAuthority),
            ("PrepareWITAuthority", Operation::LocalAuthority),
            ("ActivateWITAuthority", Operation::LocalAuthority),
            ("TaintWITAuthority", Operation::LocalAuthority),
            ("RevokeWITAuthority", Operation::LocalAuthority),
        ],
    ),
    (
        "steeple.authority.v1.AuthorityUse",
        &[("ReportUse", Operation::ReportAuthorityUse), ("GetUse", Operation::LocalAuthority)],
    ),
    (
        "spire.api.server.logger.v1.Logger",
        &[
            ("GetLogger", Operation::Logger),
            ("SetLogLevel", Operation::Logger),
            ("ResetLogLevel", Operation::Logger),
        ],
    ),
    ("spire.api.server.debug.v1.Debug", &[("GetInfo", Operation::Debug)]),
    (
        "grpc.health.v1.Health",
        &[("Check", Operation::Health), ("Watch", Operation::Health), ("List", Operation::Health)],
    ),
];

//! The fields of an entry as flags.

use clap::Args;
use steeple::id::SpiffeId;
use steeple::selector::Selector;

use super::draft::Draft;
use crate::cli::args::{Moment, Seconds, trust_domain_or_none};

/// The fields of an entry.
#[derive(Args, Clone, Debug)]
pub(super) struct Fields {
    /// The identity that is given
    #[arg(long, value_name = "SPIFFE ID", alias = "spiffeID")]
    spiffe_id: Option<SpiffeId>,
    /// Who hands it out: an agent, or an alias of agents
    #[arg(long, value_name = "SPIFFE ID", alias = "parentID")]
    pub(super) parent_id: Option<SpiffeId>,
    /// What has to be known of a workload; all of them if repeated
    #[arg(long, value_name = "TYPE:VALUE")]
    selector: Option<Vec<Selector>>,
    /// How long an X.509-SVID is valid, in seconds or as 1h; 0 for the server's default
    #[arg(long, value_name = "TIME", alias = "x509SVIDTTL")]
    x509_svid_ttl: Option<Seconds>,
    /// How long a JWT-SVID is valid, in seconds or as 5m; 0 for the server's default
    #[arg(long, value_name = "TIME", alias = "jwtSVIDTTL")]
    jwt_svid_ttl: Option<Seconds>,
    /// A trust domain whose bundle the workload gets, too; may be repeated, empty for none
    #[arg(long, value_name = "TRUST DOMAIN", alias = "federatesWith", value_parser = trust_domain_or_none)]
    pub(super) federates_with: Option<Vec<String>>,
    /// A DNS name for the certificate; may be repeated, empty for none
    #[arg(long, value_name = "NAME")]
    dns: Option<Vec<String>>,
    /// Tells a workload what the identity is for; empty for none
    #[arg(long, value_name = "TEXT")]
    hint: Option<String>,
    /// When the entry is forgotten, in seconds since 1970 or as 2027-01-31T12:00:00Z; 0 for never
    #[arg(long, value_name = "TIME", alias = "entryExpiry")]
    entry_expiry: Option<Moment>,
    /// Whether the holder may use the server's admin API over the network
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    admin: Option<bool>,
    /// Whether the holder is a downstream server
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    downstream: Option<bool>,
    /// Whether the SVID is for an SVID store and not for workloads
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", alias = "storeSVID")]
    store_svid: Option<bool>,
    /// Whether agents wait for a workload to ask before they have an SVID signed
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", alias = "disableX509SVIDPrefetch")]
    disable_x509_svid_prefetch: Option<bool>,
    /// Whether JWT-SVIDs have a `jti` and are never shared
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", alias = "jwtSVIDIncludeJTI")]
    jwt_svid_include_jti: Option<bool>,
}

impl Fields {
    pub(super) fn are_any_named(&self) -> bool {
        self.clone().into_draft(None) != Draft::default()
    }

    pub(super) fn into_draft(self, id: Option<String>) -> Draft {
        Draft {
            id,
            spiffe_id: self.spiffe_id,
            parent_id: self.parent_id,
            selectors: self.selector,
            x509_svid_ttl: self.x509_svid_ttl.map(|ttl| ttl.0),
            jwt_svid_ttl: self.jwt_svid_ttl.map(|ttl| ttl.0),
            federates_with: self.federates_with.map(without_empty),
            admin: self.admin,
            downstream: self.downstream,
            expires_at: self.entry_expiry.map(|moment| moment.0),
            dns_names: self.dns.map(without_empty),
            store_svid: self.store_svid,
            hint: self.hint,
            disable_x509_svid_prefetch: self.disable_x509_svid_prefetch,
            jwt_svid_include_jti: self.jwt_svid_include_jti,
            if_revision: None,
        }
    }
}

fn without_empty(mut texts: Vec<String>) -> Vec<String> {
    texts.retain(|text| !text.is_empty());
    texts
}

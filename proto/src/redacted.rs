//! How messages that carry a private key or a bearer token print: with all but the secret.
//!
//! `build.rs` keeps the generator from deriving `Debug` for these, and for no others.

use std::fmt;

use crate::spire::api::agent::delegatedidentity::v1::X509svidWithKey;
use crate::spire::api::server::agent::v1::CreateJoinTokenRequest;
use crate::spire::api::types::{self, AttestationData, JoinToken};
use crate::workload::{self, ValidateJwtsvidRequest};

/// Implements `Debug` with the public fields first and `redacted` for each secret.
macro_rules! redacted {
    ($message:ty { $($public:ident),* ; $($secret:ident),+ }) => {
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Names each secret, so that a field that is renamed does not compile.
                let Self { $($public,)* $($secret: _),+ } = self;
                f.debug_struct(stringify!($message))
                    $(.field(stringify!($public), $public))*
                    $(.field(stringify!($secret), &format_args!("redacted")))+
                    .finish()
            }
        }
    };
}

redacted!(workload::X509svid { spiffe_id, x509_svid, bundle, hint; x509_svid_key });
redacted!(workload::Jwtsvid { spiffe_id, hint; svid });
redacted!(workload::Witsvid { spiffe_id, hint; wit_svid, wit_svid_key });
redacted!(ValidateJwtsvidRequest { audience; svid });
redacted!(types::Jwtsvid { id, expires_at, issued_at, hint; token });
redacted!(types::Witsvid { id, expires_at, issued_at, hint; token });
redacted!(JoinToken { expires_at; value });
redacted!(AttestationData { r#type; payload });
redacted!(CreateJoinTokenRequest { ttl, agent_id; token });
redacted!(X509svidWithKey { x509_svid; x509_svid_key });

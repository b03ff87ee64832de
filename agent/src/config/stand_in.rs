//! What stands in the place of settings that are wrong, so that the others can be looked at.

use super::{Flags, raw};

/// The flags without those that contradict each other.
pub(super) fn flags(flags: &Flags, wrong: &[&str]) -> Flags {
    let mut flags = flags.clone();
    if wrong.contains(&"join_token") {
        flags.join_token = None;
        flags.join_token_file = None;
    }
    flags
}

/// The settings with something that will do for each of these keys, which is not said to be wrong a
/// second time.
pub(super) fn settings(mut raw: raw::Config, wrong: &[&str]) -> raw::Config {
    for key in wrong {
        match *key {
            "server" => raw.server = Some("localhost:1".into()),
            "trust_domain" => {
                raw.trust_domain = Some("localhost".into());
                // Delegates are of another trust domain than this.
                raw.authorized_delegates = None;
            }
            // A reason to trust that goes with everything else, and rests on no file.
            "trust_bundle" | "trust_bundle_fingerprint" => {
                raw.trust_bundle = None;
                raw.insecure_bootstrap = None;
                raw.trust_bundle_fingerprint = Some("0".repeat(64));
            }
            "join_token" => {
                raw.join_token = None;
                raw.join_token_file = None;
                raw.node_attestor = None;
                // It may have been for what is left out here.
                raw.rebootstrap_mode = None;
            }
            "data_dir" => raw.data_dir = Some("/".into()),
            "socket_path" => raw.socket_path = Some("/socket".into()),
            "disable_workload_api" => raw.disable_workload_api = None,
            "admin_socket_path" | "authorized_delegates" => {
                raw.admin_socket_path = None;
                raw.authorized_delegates = None;
                raw.disable_workload_api = None;
            }
            "rebootstrap_mode" => raw.rebootstrap_mode = None,
            "rebootstrap_delay" => raw.rebootstrap_delay = None,
            _ => {}
        }
    }
    raw
}

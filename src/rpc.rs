//! What records of the log say of a call of gRPC: its service, its method and its number, as SPIRE's do.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::rand;
use uuid::{Builder, Uuid};

/// The service and the method of a path such as `/spire.api.server.agent.v1.Agent/BanAgent`.
#[must_use]
pub fn names(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (service, method) = path.rsplit_once('/').unwrap_or((path, ""));
    let service = match service {
        "SpiffeWorkloadAPI" => "WorkloadAPI",
        "grpc.health.v1.Health" => "Health",
        "spire.api.agent.delegatedidentity.v1.DelegatedIdentity" => "DelegatedIdentity",
        service => service.strip_prefix("spire.api.server.").unwrap_or(service),
    };
    (service, method)
}

/// What all records of one call have in common, and those of no other call of any process.
///
/// As this is made for every call it has to cost little: chance says where a process begins, and from
/// there on it counts.
#[must_use]
pub fn request_id() -> Uuid {
    static FIRST: LazyLock<u128> = LazyLock::new(|| {
        let mut bytes = [0; 16];
        // Without chance two processes begin at the same one, which is no reason to serve nobody.
        let _unspecified = rand::fill(&mut bytes);
        u128::from_be_bytes(bytes)
    });
    static COUNT: AtomicU64 = AtomicU64::new(0);
    nth(*FIRST, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Two of them are the same only if a multiple of 2^62 calls lies between them.
fn nth(first: u128, count: u64) -> Uuid {
    let number = first.wrapping_add(u128::from(count));
    Builder::from_random_bytes(number.to_be_bytes()).into_uuid()
}

#[cfg(test)]
mod tests {
    use uuid::Variant;

    use super::*;

    #[test]
    fn services_have_the_names_that_spires_log_has() {
        for (path, expected) in [
            ("/spire.api.server.agent.v1.Agent/BanAgent", ("agent.v1.Agent", "BanAgent")),
            ("/SpiffeWorkloadAPI/FetchX509SVID", ("WorkloadAPI", "FetchX509SVID")),
            ("/grpc.health.v1.Health/Check", ("Health", "Check")),
            ("/steeple.a.v1.B/C", ("steeple.a.v1.B", "C")),
            ("", ("", "")),
        ] {
            assert_eq!(names(path), expected, "{path}");
        }
    }

    #[test]
    fn the_number_of_a_call_is_a_random_uuid_that_no_other_call_has() {
        let [first, second] = [request_id(), request_id()];
        assert_ne!(first, second);
        assert_eq!(first.to_string().len(), 36);
        for id in [first, second, nth(u128::MAX, 0), nth(u128::MAX, 1), nth(0, u64::MAX)] {
            assert_eq!((id.get_version_num(), id.get_variant()), (4, Variant::RFC4122), "{id}");
        }
        let [many, more] = [0, 1].map(|count| nth(u128::MAX, count));
        assert_ne!(many, more);
    }
}

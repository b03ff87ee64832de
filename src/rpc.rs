//! What records of the log call the services and methods of gRPC: as SPIRE's do.

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

#[cfg(test)]
mod tests {
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
}

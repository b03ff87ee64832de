//! `federation`, in SPIRE's spelling: relationships are made, shown, changed and ended.

use std::fs;

use serde_json::json;

use super::Scenario;

const WEB: &str = "\nTrust domain              : web\n\
                   Bundle endpoint URL       : https://web.example/bundle\n\
                   Bundle endpoint profile   : https_web\n";

const SPIFFE: &str = "\nTrust domain              : spiffe\n\
                      Bundle endpoint URL       : https://spiffe.example:8443\n\
                      Bundle endpoint profile   : https_spiffe\n\
                      Endpoint SPIFFE ID        : spiffe://spiffe/spire/server\n";

#[test]
fn relationships_are_created_listed_updated_and_deleted() {
    let scenario = Scenario::start();
    let bundle = scenario.dir.path("b.pem");
    fs::write(&bundle, scenario.ok("bundle show")).unwrap();
    let web = "federation create -trustDomain web -bundleEndpointURL https://web.example/bundle \
               -bundleEndpointProfile https_web";
    assert_eq!(scenario.ok(web), WEB);
    let spiffe = format!(
        "federation create -trustDomain spiffe -bundleEndpointURL https://spiffe.example:8443 \
         -bundleEndpointProfile https_spiffe -endpointSpiffeID spiffe://spiffe/spire/server \
         -trustDomainBundlePath {} -trustDomainBundleFormat pem",
        bundle.display()
    );
    assert_eq!(scenario.ok(&spiffe), SPIFFE);
    assert_eq!(scenario.ok("bundle count"), "2 bundles\n");
    scenario.fails(web, "failed to create 1 of 1 federation relationships");
    scenario.fails(&format!("{web} -output json"), "failed to create 1 of 1");

    let listed = scenario.ok("federation list");
    assert_eq!(listed, format!("Found 2 federation relationships\n{SPIFFE}{WEB}"));
    let all = scenario.json("federation list");
    let expected = json!({
        "trust_domain": "web",
        "bundle_endpoint_url": "https://web.example/bundle",
        "https_web": {},
    });
    assert_eq!(all["federation_relationships"][1], expected);
    assert_eq!(all["next_page_token"], "");
    let shown = scenario.ok("federation show -trustDomain web");
    let head = "Found a federation relationship with trust domain web:\n";
    assert_eq!(shown, format!("{head}{WEB}"));

    let moved = "federation update -trustDomain web -bundleEndpointURL https://new.example \
                 -bundleEndpointProfile https_web";
    assert_eq!(
        scenario.ok(moved),
        WEB.replace("https://web.example/bundle", "https://new.example")
    );
    let absent = moved.replace("-trustDomain web", "-trustDomain absent");
    scenario.fails(&absent, "failed to update 1 of 1");

    scenario.fails("federation refresh -id absent", "there is no federation relationship with");
    let deleted = scenario.ok("federation delete -id web");
    assert_eq!(deleted, "federation relationship deleted.\n");
    scenario.fails("federation show -trustDomain web", "web");
    scenario.fails("federation delete -id web -output json", "failed to delete 1 of 1");
    assert_eq!(scenario.ok("bundle count"), "2 bundles\n");
}

#[test]
fn relationships_come_from_a_file_as_well() {
    let scenario = Scenario::start();
    let document: serde_json::Value =
        serde_json::from_str(&scenario.ok("bundle show -format spiffe")).unwrap();
    let file = json!({ "federationRelationships": [
        {
            "trustDomain": "web",
            "bundleEndpointURL": "https://web.example/bundle",
            "bundleEndpointProfile": "https_web",
        },
        {
            "trustDomain": "spiffe",
            "bundleEndpointURL": "https://spiffe.example:8443",
            "bundleEndpointProfile": "https_spiffe",
            "endpointSPIFFEID": "spiffe://spiffe/spire/server",
            "trustDomainBundle": document,
            "trustDomainBundleFormat": "spiffe",
        },
    ]});
    let created = scenario.ok_with("federation create -data -", &file.to_string());
    assert_eq!(created, format!("{WEB}{SPIFFE}"));
    assert_eq!(scenario.ok("bundle list -id spiffe"), scenario.ok("bundle show"));
    let updated = scenario.ok_with("federation update -data -", &file.to_string());
    assert_eq!(updated, format!("{SPIFFE}{WEB}"));
    let typo = file.to_string().replace("\"bundleEndpointURL\"", "\"bundleEndpointUrl\"");
    let refused = scenario.run_with("federation create -data -", &typo);
    let said = crate::harness::stderr(&refused);
    let expected = "standard input: federationRelationships[0].bundleEndpointUrl: unknown field";
    assert!(!refused.status.success() && said.contains(expected), "{said}");
}

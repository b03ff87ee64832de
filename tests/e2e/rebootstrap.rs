//! A server that was lost with all that it had, and the agents that knew it.

use std::fs;

use crate::harness::workload::{fetch, first_answer, serial};
use crate::harness::{Deployment, Joins, Settings, eventually, stdout};
use crate::workload_api::this_user;

#[tokio::test]
async fn an_agent_comes_to_believe_a_new_server_and_gives_nothing_up_before() {
    let agent = "rebootstrap_mode = \"always\"\nrebootstrap_delay = \"1s\"\n";
    let mut node =
        Deployment::with(Settings { agent, joins: Joins::ByCertificate, ..Settings::default() });
    node.register("/old", &[&this_user()]);
    let (first, _stream) = first_answer(&node.socket()).await;
    node.server.kill();
    fs::remove_dir_all(node.dir.path("server")).unwrap();
    node.restart_server();

    // The trust bundle that is configured is that of the server that is lost.
    node.agent.wait_for("rebootstrapping failed, and nothing is given up");
    node.agent.wait_for_another(1, "rebootstrapping failed, and nothing is given up");
    let svids = fetch(&node.socket()).await.unwrap();
    assert_eq!(serial(&svids[0]), serial(&first.svids[0]));

    let from = node.agent.log().len();
    fs::write(node.dir.path("bundle.pem"), node.admin(&["bundle", "show"])).unwrap();
    node.agent.wait_for_from(from, "Node attestation was successful");
    node.register("/new", &[&this_user()]);
    eventually("workloads have what the new server says", || {
        let told = stdout(&node.workload(&["api", "fetch", "x509"]));
        (told.contains("/new") && !told.contains("/old")).then_some(())
    });
}

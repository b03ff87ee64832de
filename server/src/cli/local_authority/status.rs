//! `localauthority … status`: how far a move from one authority to the next has come.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use steeple_proto::steeple::authority::v1 as pb;

use super::call::Kind;
use crate::cli::client::Client;
use crate::cli::output::Output;
use crate::cli::{Connection, Format, json as wire, pretty};

/// How often to look while waiting.
const LOOK: Duration = Duration::from_secs(1);

/// What `status` is told.
#[derive(Args, Debug)]
pub(in crate::cli) struct Status {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// Wait until all agents report that nothing they hold depends on a tainted or old authority
    #[arg(long)]
    watch: bool,
}

impl Status {
    pub(super) async fn run(self, kind: Kind, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let mut found = ask(&client, kind).await?;
        if self.watch {
            let mut notice = client.terminal().notice();
            while let Some(left) = what_is_left(&found) {
                notice.show(&left);
                tokio::time::sleep(LOOK).await;
                found = ask(&client, kind).await?;
            }
        }
        if self.format.output.is_json() {
            return output.json(&to_json(&found));
        }
        output.raw(pretty(kind, &found).as_bytes())
    }
}

/// How many agents have not said that they have the bundle of now.
pub(super) fn strangers(found: &pb::GetUseResponse) -> u32 {
    found.agents.saturating_sub(found.agents_up_to_date)
}

pub(super) async fn ask(client: &Client, kind: Kind) -> anyhow::Result<pb::GetUseResponse> {
    let kind = match kind {
        Kind::X509 => pb::Kind::X509,
        Kind::Jwt => pb::Kind::Jwt,
    };
    let request = pb::GetUseRequest { kind: kind.into() };
    client.answer(client.authority_use().get_use(request)).await
}

/// What has not moved to the active authority yet; nothing once all has.
fn what_is_left(found: &pb::GetUseResponse) -> Option<String> {
    let left = found.authorities.iter().filter(|known| known.tainted || known.status == "old");
    let (svids, own) = left.fold((0, 0), |(svids, own), l| (svids + l.held, own + l.agent_svids));
    let silent = found.agents.saturating_sub(found.agents_reporting);
    let is_left = svids > 0 || own > 0 || silent > 0;
    is_left.then(|| {
        format!(
            "{svids} SVIDs of workloads and {own} of agents still to be replaced, {silent} agents \
             not reporting…"
        )
    })
}

fn pretty(kind: Kind, found: &pb::GetUseResponse) -> String {
    let mut text = String::new();
    for known in &found.authorities {
        let taint = if known.tainted { ", tainted" } else { "" };
        let status = pretty::plain(&known.status);
        text += &format!("{kind} authority ({status}{taint}):\n");
        text += &format!("  Authority ID: {}\n", pretty::plain(&known.authority_id));
        if known.expires_at != 0 {
            text += &format!("  Expires at: {}\n", pretty::time(known.expires_at));
        }
        text += &format!("  Signed and not expired: {}", known.signed);
        if known.last_expires_at != 0 {
            text += &format!(", the last until {}", pretty::time(known.last_expires_at));
        }
        let (held, agents) = (known.held, known.held_by_agents);
        text += &format!("\n  Held by workloads: {held} SVIDs on {agents} agents\n");
        if kind == Kind::X509 {
            text += &format!("  SVIDs of agents: {}\n", known.agent_svids);
        }
        text.push('\n');
    }
    let silent = found.agents.saturating_sub(found.agents_reporting);
    text += &format!("Agents reporting: {}\n", found.agents_reporting);
    text += &format!("Agents not reporting: {silent}\n");
    text += &format!("Agents with the current bundle: {}\n", found.agents_up_to_date);
    text += &format!("Signatures counted since: {}\n", pretty::time(found.counting_since));
    text
}

fn to_json(found: &pb::GetUseResponse) -> Value {
    let silent = found.agents.saturating_sub(found.agents_reporting);
    wire::object([
        ("counting_since", wire::integer(found.counting_since)),
        ("agents", json!(found.agents)),
        ("agents_reporting", json!(found.agents_reporting)),
        ("agents_not_reporting", json!(silent)),
        ("agents_up_to_date", json!(found.agents_up_to_date)),
        ("authorities", wire::array(&found.authorities, one_to_json)),
    ])
}

fn one_to_json(known: &pb::Use) -> Value {
    wire::object([
        ("authority_id", json!(known.authority_id)),
        ("status", json!(known.status)),
        ("tainted", json!(known.tainted)),
        ("expires_at", wire::integer(known.expires_at)),
        ("signed", wire::integer(known.signed)),
        ("last_expires_at", wire::integer(known.last_expires_at)),
        ("held", wire::integer(known.held)),
        ("held_by_agents", json!(known.held_by_agents)),
        ("agent_svids", json!(known.agent_svids)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(status: &str, tainted: bool, held: u64, agent_svids: u32) -> pb::Use {
        pb::Use {
            authority_id: "ab".into(),
            status: status.into(),
            tainted,
            held,
            held_by_agents: 1,
            agent_svids,
            ..pb::Use::default()
        }
    }

    #[test]
    fn a_move_is_over_when_everybody_says_so() {
        let check = |(agents, agents_reporting), old: pb::Use, expected: Option<&str>| {
            let authorities = vec![known("active", false, 7, 2), old];
            let found = pb::GetUseResponse {
                agents,
                agents_reporting,
                authorities,
                ..pb::GetUseResponse::default()
            };
            let left = what_is_left(&found);
            assert_eq!(left.as_deref().map(|text| text.split(',').next().unwrap()), expected);
        };
        check((2, 2), known("old", true, 0, 0), None);
        check((2, 2), known("foreign", false, 3, 0), None);
        let one = Some("3 SVIDs of workloads and 1 of agents still to be replaced");
        check((2, 2), known("old", true, 3, 1), one);
        let none = Some("0 SVIDs of workloads and 0 of agents still to be replaced");
        check((2, 1), known("old", true, 0, 0), none);
    }

    #[test]
    fn an_agent_is_a_stranger_until_it_has_the_bundle() {
        let check = |agents, agents_up_to_date, expected| {
            let found = pb::GetUseResponse { agents, agents_up_to_date, ..Default::default() };
            assert_eq!(strangers(&found), expected);
        };
        check(0, 0, 0);
        check(3, 1, 2);
        // One that was forgotten in between.
        check(1, 2, 0);
    }

    #[test]
    fn it_says_how_much_is_held_of_each_authority() {
        let found = pb::GetUseResponse {
            counting_since: 2_000_000_000,
            agents: 3,
            agents_reporting: 2,
            agents_up_to_date: 1,
            authorities: vec![known("old", true, 5, 1)],
        };
        assert_eq!(
            pretty(Kind::X509, &found),
            "X.509 authority (old, tainted):\n  Authority ID: ab\n  Signed and not expired: 0\n  \
             Held by workloads: 5 SVIDs on 1 agents\n  SVIDs of agents: 1\n\n\
             Agents reporting: 2\nAgents not reporting: 1\nAgents with the current bundle: 1\n\
             Signatures counted since: 2033-05-18 03:33:20 +0000 UTC\n"
        );
        assert_eq!(
            to_json(&found).to_string(),
            r#"{"agents":3,"agents_not_reporting":1,"agents_reporting":2,"agents_up_to_date":1,"authorities":[{"agent_svids":1,"authority_id":"ab","expires_at":"0","held":"5","held_by_agents":1,"last_expires_at":"0","signed":"0","status":"old","tainted":true}],"counting_since":"2000000000"}"#
        );
    }
}

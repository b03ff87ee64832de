//! `localauthority … status`: how far a move from one authority to the next has come.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use steeple::shown;
use steeple_proto::steeple::authority::v1 as pb;

use super::call::Kind;
use crate::cli::client::Client;
use crate::cli::output::Output;
use crate::cli::{Connection, Format, json as wire};

/// How often to look while waiting.
const LOOK: Duration = Duration::from_secs(1);

/// What `status` is told.
#[derive(Args, Debug)]
pub(in crate::cli) struct Status {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// Wait until nobody depends on a tainted or old authority any more
    ///
    /// That is: all agents report that they hold nothing of it, and the CAs that it signed for
    /// servers below, or the JWT-SVIDs that it signed for anybody, have expired.
    #[arg(long)]
    watch: bool,
}

impl Status {
    pub(super) async fn run(self, kind: Kind, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let mut found = ask(&client, kind).await?;
        if self.watch {
            let mut notice = client.terminal().notice();
            while let Some(left) = what_is_left(kind, &found) {
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

/// Whether the server above is to know this key, and does not.
pub(super) fn is_unknown_above(found: &pb::GetUseResponse, authority_id: &str) -> bool {
    above(found, authority_id) == "unknown"
}

fn above<'a>(found: &'a pb::GetUseResponse, authority_id: &str) -> &'a str {
    let mut known = found.authorities.iter();
    known.find(|known| known.authority_id == authority_id).map_or("", |known| &known.above)
}

/// Who does not know an authority yet that is to sign, as far as that is known: one warning each.
pub(super) fn strangers(found: &pb::GetUseResponse, authority_id: &str) -> Vec<String> {
    let agents = found.agents.saturating_sub(found.agents_up_to_date);
    let servers = found.servers_below.saturating_sub(found.servers_below_up_to_date);
    let agents = (agents > 0).then(|| {
        format!(
            "{agents} agents have not said that they have the bundle of now. An agent that does \
             not know this authority refuses what it signs until it has synced"
        )
    });
    let servers = (servers > 0).then(|| {
        format!(
            "{servers} servers below have not had the bundle of now for long enough to have \
             passed it on. What this authority signs is refused below them until they have"
        )
    });
    let above = match above(found, authority_id) {
        "unknown" => Some("does not know this key; its log says why"),
        "new" => Some("has known this key for a few seconds only"),
        _ => None,
    };
    let above = above.map(|what| {
        format!("the server above {what}. Its tokens are refused elsewhere until it has come round")
    });
    [agents, servers, above].into_iter().flatten().collect()
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
fn what_is_left(kind: Kind, found: &pb::GetUseResponse) -> Option<String> {
    let left = found.authorities.iter().filter(|known| known.tainted || known.status == "old");
    let (svids, own) =
        left.clone().fold((0, 0), |(svids, own), l| (svids + l.held, own + l.agent_svids));
    let handed_out: Vec<_> = left.filter_map(|known| handed_out(kind, known)).collect();
    let silent = found.agents.saturating_sub(found.agents_reporting);
    let is_left = svids > 0 || own > 0 || silent > 0 || !handed_out.is_empty();
    is_left.then(|| {
        let handed_out: String = handed_out.iter().map(|text| format!("{text}, ")).collect();
        format!(
            "{svids} SVIDs of workloads and {own} of agents still to be replaced, {handed_out}\
             {silent} agents not reporting…"
        )
    })
}

/// What of an authority cannot be replaced where it is: it has to expire.
fn handed_out(kind: Kind, known: &pb::Use) -> Option<String> {
    match kind {
        Kind::X509 => cas(known),
        Kind::Jwt => svids(known),
    }
}

/// What a revocation of this authority cuts off, as far as that is known.
pub(super) fn unexpired(found: &pb::GetUseResponse, authority_id: &str) -> Option<String> {
    let known = found.authorities.iter().find(|known| known.authority_id == authority_id)?;
    let unexpired: Vec<_> = svids(known).into_iter().chain(cas(known)).collect();
    (!unexpired.is_empty()).then(|| unexpired.join(" and "))
}

fn svids(known: &pb::Use) -> Option<String> {
    still_valid(known.signed, "SVIDs", known.last_expires_at)
}

fn cas(known: &pb::Use) -> Option<String> {
    still_valid(known.signed_cas, "CAs of servers below", known.last_ca_expires_at)
}

fn still_valid(count: u64, what: &str, end: i64) -> Option<String> {
    (count > 0).then(|| format!("{count} {what} valid until {}", shown::time(end)))
}

fn pretty(kind: Kind, found: &pb::GetUseResponse) -> String {
    let mut text = String::new();
    for known in &found.authorities {
        let taint = if known.tainted { ", tainted" } else { "" };
        let status = shown::plain(&known.status);
        text += &format!("{kind} authority ({status}{taint}):\n");
        text += &format!("  Authority ID: {}\n", shown::plain(&known.authority_id));
        if known.expires_at != 0 {
            text += &format!("  Expires at: {}\n", shown::time(known.expires_at));
        }
        text += &format!("  Signed and not expired: {}", known.signed);
        if known.last_expires_at != 0 {
            text += &format!(", the last until {}", shown::time(known.last_expires_at));
        }
        if known.signed_cas != 0 {
            let (cas, end) = (known.signed_cas, shown::time(known.last_ca_expires_at));
            text += &format!("\n  CAs of servers below, not expired: {cas}, the last until {end}");
        }
        let (held, agents) = (known.held, known.held_by_agents);
        text += &format!("\n  Held by workloads: {held} SVIDs on {agents} agents\n");
        if kind == Kind::X509 {
            text += &format!("  SVIDs of agents: {}\n", known.agent_svids);
        }
        let above = match &*known.above {
            "" => "",
            "unknown" => "unknown, as it was not published there yet",
            "new" => "published a moment ago",
            "known" => "published",
            other => other,
        };
        if !above.is_empty() {
            text += &format!("  At the server above: {}\n", shown::plain(above));
        }
        text.push('\n');
    }
    let silent = found.agents.saturating_sub(found.agents_reporting);
    text += &format!("Agents reporting: {}\n", found.agents_reporting);
    text += &format!("Agents not reporting: {silent}\n");
    text += &format!("Agents with the current bundle: {}\n", found.agents_up_to_date);
    if found.servers_below != 0 {
        text += &format!("Servers below: {}\n", found.servers_below);
        let up_to_date = found.servers_below_up_to_date;
        text += &format!("Servers below that have passed on the current bundle: {up_to_date}\n");
    }
    text += &format!("Signatures counted since: {}\n", shown::time(found.counting_since));
    if found.failing_since != 0 {
        let (since, why) = (shown::time(found.failing_since), &found.failing_because);
        text += &format!("Rotation fails since {since}: {}\n", shown::plain(why));
    }
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
        ("servers_below", json!(found.servers_below)),
        ("servers_below_up_to_date", json!(found.servers_below_up_to_date)),
        ("authorities", wire::array(&found.authorities, one_to_json)),
        ("failing_since", wire::integer(found.failing_since)),
        ("failing_because", json!(found.failing_because)),
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
        ("signed_cas", wire::integer(known.signed_cas)),
        ("last_ca_expires_at", wire::integer(known.last_ca_expires_at)),
        ("above", json!(known.above)),
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

    /// An old authority of which nothing is held, and so many of what it signed are valid.
    fn signed(signed: u64, signed_cas: u64) -> pb::Use {
        let (last_expires_at, last_ca_expires_at) = (2_000_000_000, 2_000_003_600);
        let old = known("old", true, 0, 0);
        pb::Use { signed, last_expires_at, signed_cas, last_ca_expires_at, ..old }
    }

    #[test]
    fn a_move_is_over_when_everybody_says_so() {
        let check = |kind, (agents, agents_reporting), old: pb::Use, expected: Option<&str>| {
            let authorities = vec![known("active", false, 7, 2), old];
            let found = pb::GetUseResponse {
                agents,
                agents_reporting,
                authorities,
                ..pb::GetUseResponse::default()
            };
            assert_eq!(what_is_left(kind, &found).as_deref(), expected);
        };
        let [x509, jwt] = [Kind::X509, Kind::Jwt];
        check(x509, (2, 2), known("old", true, 0, 0), None);
        check(x509, (2, 2), known("foreign", false, 3, 0), None);
        let one = "3 SVIDs of workloads and 1 of agents still to be replaced, 0 agents not \
                   reporting…";
        check(x509, (2, 2), known("old", true, 3, 1), Some(one));
        let none = "0 SVIDs of workloads and 0 of agents still to be replaced, 1 agents not \
                    reporting…";
        check(x509, (2, 1), known("old", true, 0, 0), Some(none));
        // An X.509-SVID that was replaced is nobody's, a token may be anybody's.
        check(x509, (2, 2), signed(5, 0), None);
        let tokens = "0 SVIDs of workloads and 0 of agents still to be replaced, 5 SVIDs valid \
                      until 2033-05-18 03:33:20 +0000 UTC, 0 agents not reporting…";
        check(jwt, (2, 2), signed(5, 0), Some(tokens));
        let cas = "0 SVIDs of workloads and 0 of agents still to be replaced, 1 CAs of servers \
                   below valid until 2033-05-18 04:33:20 +0000 UTC, 0 agents not reporting…";
        check(x509, (2, 2), signed(5, 1), Some(cas));
    }

    #[test]
    fn it_is_known_what_a_revocation_cuts_off() {
        let check = |old, id, expected: Option<&str>| {
            let found = pb::GetUseResponse { authorities: vec![old], ..Default::default() };
            assert_eq!(unexpired(&found, id).as_deref(), expected);
        };
        check(signed(0, 0), "ab", None);
        check(signed(2, 0), "cd", None);
        let svids = "2 SVIDs valid until 2033-05-18 03:33:20 +0000 UTC";
        check(signed(2, 0), "ab", Some(svids));
        let cas = "1 CAs of servers below valid until 2033-05-18 04:33:20 +0000 UTC";
        check(signed(0, 1), "ab", Some(cas));
        check(signed(2, 1), "ab", Some(&format!("{svids} and {cas}")));
    }

    #[test]
    fn whoever_does_not_know_an_authority_yet_is_a_stranger() {
        let check = |agents: (u32, u32), servers: (u32, u32), above: &str, expected: &[&str]| {
            let found = pb::GetUseResponse {
                agents: agents.0,
                agents_up_to_date: agents.1,
                servers_below: servers.0,
                servers_below_up_to_date: servers.1,
                authorities: vec![pb::Use {
                    above: above.into(),
                    ..known("prepared", false, 0, 0)
                }],
                ..Default::default()
            };
            let found = strangers(&found, "ab");
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.starts_with(expected), "{found}");
            }
        };
        check((0, 0), (0, 0), "", &[]);
        check((3, 1), (1, 1), "known", &["2 agents have not said"]);
        // One that was forgotten in between.
        check((1, 2), (2, 1), "", &["1 servers below have not had"]);
        check((0, 0), (0, 0), "unknown", &["the server above does not know this key; its log"]);
        let new = "the server above has known this key for a few";
        check((1, 0), (1, 0), "new", &["1 agents", "1 servers below", new]);
    }

    #[test]
    fn it_says_how_much_is_held_of_each_authority() {
        let found = pb::GetUseResponse {
            counting_since: 2_000_000_000,
            agents: 3,
            agents_reporting: 2,
            agents_up_to_date: 1,
            authorities: vec![known("old", true, 5, 1)],
            failing_since: 2_000_000_060,
            failing_because: "no CA".into(),
            servers_below: 2,
            servers_below_up_to_date: 1,
        };
        assert_eq!(
            pretty(Kind::X509, &found),
            "X.509 authority (old, tainted):\n  Authority ID: ab\n  Signed and not expired: 0\n  \
             Held by workloads: 5 SVIDs on 1 agents\n  SVIDs of agents: 1\n\n\
             Agents reporting: 2\nAgents not reporting: 1\nAgents with the current bundle: 1\n\
             Servers below: 2\nServers below that have passed on the current bundle: 1\n\
             Signatures counted since: 2033-05-18 03:33:20 +0000 UTC\n\
             Rotation fails since 2033-05-18 03:34:20 +0000 UTC: no CA\n"
        );
        assert_eq!(
            to_json(&found).to_string(),
            r#"{"agents":3,"agents_not_reporting":1,"agents_reporting":2,"agents_up_to_date":1,"authorities":[{"above":"","agent_svids":1,"authority_id":"ab","expires_at":"0","held":"5","held_by_agents":1,"last_ca_expires_at":"0","last_expires_at":"0","signed":"0","signed_cas":"0","status":"old","tainted":true}],"counting_since":"2000000000","failing_because":"no CA","failing_since":"2000000060","servers_below":2,"servers_below_up_to_date":1}"#
        );
    }
}

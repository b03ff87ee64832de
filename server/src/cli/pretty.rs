//! Entries and agents for people, with the labels that scripts look for in SPIRE's output.

use steeple::shown;
use steeple_proto::spire::api::types;
use tonic::Code;

/// How wide the labels of an entry are.
const ENTRY: usize = 24;

/// How wide the labels of an agent are.
const AGENT: usize = 18;

/// An entry as a block that ends in an empty line.
pub(super) fn entry(entry: &types::Entry) -> String {
    let mut block = Block::new(ENTRY);
    let id = if entry.id.is_empty() { "(none)" } else { &entry.id };
    block.field("Entry ID", id);
    block.field("SPIFFE ID", &shown::spiffe_id(entry.spiffe_id.as_ref()));
    block.field("Parent ID", &shown::spiffe_id(entry.parent_id.as_ref()));
    block.field("Revision", &entry.revision_number.to_string());
    block.flag("Downstream", entry.downstream);
    block.field("X509-SVID TTL", &ttl(entry.x509_svid_ttl));
    block.field("JWT-SVID TTL", &ttl(entry.jwt_svid_ttl));
    if entry.expires_at != 0 {
        block.field("Expiration time", &shown::time(entry.expires_at));
    }
    for selector in &entry.selectors {
        block.field("Selector", &selector_text(selector));
    }
    for trust_domain in &entry.federates_with {
        block.field("FederatesWith", trust_domain);
    }
    for name in &entry.dns_names {
        block.field("DNS name", name);
    }
    block.flag("Admin", entry.admin);
    block.flag("StoreSvid", entry.store_svid);
    if !entry.hint.is_empty() {
        block.field("Hint", &entry.hint);
    }
    let attributes = entry.additional_attributes.unwrap_or_default();
    block.flag("DisableX509SvidPrefetch", attributes.disable_x509_svid_prefetch);
    block.flag("JwtSvidIncludeJti", attributes.jwt_svid_include_jti);
    block.end()
}

/// An agent as a block that ends in an empty line.
pub(super) fn agent(agent: &types::Agent, selectors: &[types::Selector]) -> String {
    let mut block = Block::new(AGENT);
    block.field("SPIFFE ID", &shown::spiffe_id(agent.id.as_ref()));
    block.field("Attestation type", &agent.attestation_type);
    block.field("Expiration time", &shown::time(agent.x509svid_expires_at));
    if agent.banned {
        block.field("Banned", "true");
    } else {
        block.field("Serial number", &agent.x509svid_serial_number);
    }
    block.field("Can re-attest", &agent.can_reattest.to_string());
    if !agent.agent_version.is_empty() {
        block.field("Agent version", &agent.agent_version);
    }
    for selector in selectors {
        block.field("Selectors", &selector_text(selector));
    }
    block.end()
}

/// A selector in one piece.
pub(super) fn selector_text(selector: &types::Selector) -> String {
    format!("{}:{}", selector.r#type, selector.value)
}

/// What went wrong with one item, written as SPIRE does.
pub(super) fn failure(status: &types::Status) -> String {
    let code = Code::from(status.code);
    format!("(code: {code:?}, msg: {:?})", status.message)
}

/// `1 entry`, `2 entries`.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

struct Block {
    width: usize,
    text: String,
}

impl Block {
    fn new(width: usize) -> Self {
        Self { width, text: String::new() }
    }

    fn field(&mut self, label: &str, value: &str) {
        let width = self.width;
        self.text.push_str(&format!("{label:<width$}: {}\n", shown::plain(value)));
    }

    /// A line if it is so, and none if it is not: what is rare should stand out.
    fn flag(&mut self, label: &str, is_set: bool) {
        if is_set {
            self.field(label, "true");
        }
    }

    fn end(mut self) -> String {
        self.text.push('\n');
        self.text
    }
}

fn ttl(seconds: i32) -> String {
    if seconds == 0 { "default".to_owned() } else { seconds.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn an_entry_has_the_labels_that_scripts_look_for() {
        assert_eq!(
            entry(&testing::full_entry()),
            "Entry ID                : e1\n\
             SPIFFE ID               : spiffe://td/web\n\
             Parent ID               : spiffe://td/spire/agent/x\n\
             Revision                : 3\n\
             Downstream              : true\n\
             X509-SVID TTL           : 60\n\
             JWT-SVID TTL            : 30\n\
             Expiration time         : 2033-05-18 03:33:20 +0000 UTC\n\
             Selector                : unix:uid:1\n\
             Selector                : unix:user:a:b\n\
             FederatesWith           : other\n\
             DNS name                : a.b\n\
             Admin                   : true\n\
             StoreSvid               : true\n\
             Hint                    : h\n\
             DisableX509SvidPrefetch : true\n\
             JwtSvidIncludeJti       : true\n\n"
        );
        assert_eq!(
            entry(&types::Entry::default()),
            "Entry ID                : (none)\n\
             SPIFFE ID               : (none)\n\
             Parent ID               : (none)\n\
             Revision                : 0\n\
             X509-SVID TTL           : default\n\
             JWT-SVID TTL            : default\n\n"
        );
    }

    #[test]
    fn an_agent_has_the_labels_that_scripts_look_for() {
        let full = testing::full_agent();
        assert_eq!(
            agent(&full, &full.selectors),
            "SPIFFE ID         : spiffe://td/spire/agent/x\n\
             Attestation type  : x509pop\n\
             Expiration time   : 2033-05-18 03:33:20 +0000 UTC\n\
             Serial number     : 17\n\
             Can re-attest     : true\n\
             Agent version     : 1.2\n\
             Selectors         : x509pop:san:a\n\n"
        );
        let banned = types::Agent { banned: true, ..types::Agent::default() };
        assert_eq!(
            agent(&banned, &[]),
            "SPIFFE ID         : (none)\n\
             Attestation type  : \n\
             Expiration time   : 1970-01-01 00:00:00 +0000 UTC\n\
             Banned            : true\n\
             Can re-attest     : false\n\n"
        );
    }

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        let hostile = types::Agent {
            agent_version: "\x1b[2J1.0\nBanned : true\u{202e}".into(),
            ..types::Agent::default()
        };
        let shown = agent(&hostile, &[]);
        assert!(shown.contains("Agent version     : \\u{1b}[2J1.0\\nBanned : true\\u{202e}\n"));
    }

    #[test]
    fn a_failure_names_code_and_message() {
        let status = types::Status { code: 6, message: "similar entry already exists".into() };
        assert_eq!(
            failure(&status),
            "(code: AlreadyExists, msg: \"similar entry already exists\")"
        );
    }
}

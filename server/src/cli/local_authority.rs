//! `localauthority`: the server's own authorities, and the steps from one to the next.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use steeple::shown;
use steeple_proto::spire::api::server::localauthority::v1 as pb;

use self::call::{Kind, Named};
use super::output::Output;
use super::{Connection, Format, json as wire};

mod call;
mod status;

/// Whose authorities.
#[derive(Debug, Subcommand)]
pub(super) enum LocalAuthority {
    /// The CAs that sign X.509-SVIDs
    #[command(subcommand)]
    X509(Step),
    /// The keys that sign JWT-SVIDs
    #[command(subcommand)]
    Jwt(Step),
}

/// What can be done with them.
#[derive(Debug, Subcommand)]
pub(super) enum Step {
    /// Show the authorities: active, prepared and old
    Show(Plain),
    /// Prepare the next authority, which is published and does not sign yet
    ///
    /// One that is prepared already and can sign is shown again, not thrown away. Let every agent,
    /// every server below or above and every federated domain learn of it before it is activated:
    /// `status` shows how far it has come round in the own trust domain.
    Prepare(Plain),
    /// Let a prepared authority sign from now on
    Activate(One),
    /// Mark an old authority as no longer to be relied on, so that all it signed is replaced
    Taint(One),
    /// No longer vouch for a tainted authority, so that nothing it signed is accepted any more
    Revoke(One),
    /// Show what is still signed by each authority, and who holds it
    Status(status::Status),
}

/// What a step without an authority is told.
#[derive(Args, Debug)]
pub(super) struct Plain {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
}

/// What a step with an authority is told.
#[derive(Args, Debug)]
pub(super) struct One {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// The authority, by the ID that `show` prints
    #[arg(long, value_name = "ID", alias = "authorityID")]
    authority_id: String,
}

impl LocalAuthority {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        match self {
            Self::X509(step) => step.run(Kind::X509, output).await,
            Self::Jwt(step) => step.run(Kind::Jwt, output).await,
        }
    }
}

impl Step {
    async fn run(self, kind: Kind, output: &mut Output) -> anyhow::Result<()> {
        match self {
            Self::Show(plain) => plain.show(kind, output).await,
            Self::Prepare(plain) => plain.prepare(kind, output).await,
            Self::Activate(one) => one.run(Named::Activate, kind, output).await,
            Self::Taint(one) => one.run(Named::Taint, kind, output).await,
            Self::Revoke(one) => one.run(Named::Revoke, kind, output).await,
            Self::Status(status) => status.run(kind, output).await,
        }
    }
}

impl Plain {
    async fn show(self, kind: Kind, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let [active, prepared, old] = call::state(&client, kind).await?;
        if self.format.output.is_json() {
            return output.json(&wire::object([
                ("active", wire::optional(active.as_ref(), state_json)),
                ("prepared", wire::optional(prepared.as_ref(), state_json)),
                ("old", wire::optional(old.as_ref(), state_json)),
            ]));
        }
        let blocks = [("Active", "active", active), ("Prepared", "prepared", prepared)];
        let blocks = blocks.into_iter().chain([("Old", "old", old)]);
        let blocks = blocks.map(|(title, word, state)| match state {
            Some(state) => format!("{title} {kind} authority:\n{}", block(kind, &state)),
            None => format!("{title} {kind} authority:\n  No {word} {kind} authority found\n"),
        });
        output.raw(blocks.collect::<Vec<_>>().join("\n").as_bytes())
    }

    async fn prepare(self, kind: Kind, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let prepared = call::prepare(&client, kind).await?;
        let id = prepared.as_ref().map_or("", |state| &state.authority_id);
        if let Ok(found) = status::ask(&client, kind).await
            && status::is_unknown_above(&found, id)
        {
            output.note(
                "Warning: the server above does not know this key yet, and its tokens would be \
                 refused elsewhere; the log says why, and `status` when it knows it",
            )?;
        }
        print(self.format, ("Prepared", "prepared_authority"), (kind, prepared.as_ref()), output)
    }
}

impl One {
    async fn run(self, step: Named, kind: Kind, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let cut_off = match step {
            // Afterwards nobody knows the authority any more.
            Named::Revoke => match status::ask(&client, kind).await {
                Ok(found) => status::unexpired(&found, &self.authority_id),
                Err(_) => None,
            },
            Named::Activate | Named::Taint => None,
        };
        let changed = call::change(&client, step, (kind, self.authority_id)).await?;
        if let Some(cut_off) = cut_off {
            output.note(&format!(
                "Warning: this authority has signed {cut_off}: nobody accepts them any more once \
                 the bundle has come round"
            ))?;
        }
        if step == Named::Activate
            && let Ok(found) = status::ask(&client, kind).await
        {
            let id = changed.as_ref().map_or("", |state| &state.authority_id);
            for stranger in status::strangers(&found, id) {
                output.note(&format!("Warning: {stranger}"))?;
            }
        }
        let names = match step {
            Named::Activate => ("Activated", "activated_authority"),
            Named::Taint => ("Tainted", "tainted_authority"),
            Named::Revoke => ("Revoked", "revoked_authority"),
        };
        print(self.format, names, (kind, changed.as_ref()), output)
    }
}

/// What became of one authority.
fn print(
    format: Format,
    (title, member): (&str, &str),
    (kind, state): (Kind, Option<&pb::AuthorityState>),
    output: &mut Output,
) -> anyhow::Result<()> {
    if format.output.is_json() {
        return output.json(&wire::object([(member, wire::optional(state, state_json))]));
    }
    output.line(&format!("{title} {kind} authority:"))?;
    state.map_or(Ok(()), |state| output.raw(block(kind, state).as_bytes()))
}

/// An authority as a block. A JWT authority has nothing above it.
fn block(kind: Kind, state: &pb::AuthorityState) -> String {
    let mut text = format!("  Authority ID: {}\n", shown::plain(&state.authority_id));
    if state.expires_at != 0 {
        text += &format!("  Expires at: {}\n", shown::time(state.expires_at));
    }
    match (kind, &*state.upstream_authority_subject_key_id) {
        (Kind::Jwt, "") => {}
        (Kind::X509, "") => text += "  Upstream authority ID: No upstream authority\n",
        (Kind::X509 | Kind::Jwt, id) => {
            text += &format!("  Upstream authority Subject Key ID: {}\n", shown::plain(id));
        }
    }
    text
}

fn state_json(state: &pb::AuthorityState) -> Value {
    wire::object([
        ("authority_id", json!(state.authority_id)),
        ("expires_at", wire::integer(state.expires_at)),
        ("upstream_authority_subject_key_id", json!(state.upstream_authority_subject_key_id)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_has_the_labels_and_names_of_spire() {
        let full = pb::AuthorityState {
            authority_id: "ab12".into(),
            expires_at: 2_000_000_000,
            upstream_authority_subject_key_id: "cd34".into(),
        };
        assert_eq!(
            block(Kind::X509, &full),
            "  Authority ID: ab12\n  Expires at: 2033-05-18 03:33:20 +0000 UTC\n  \
             Upstream authority Subject Key ID: cd34\n"
        );
        let own = pb::AuthorityState { authority_id: "ab12".into(), ..Default::default() };
        assert_eq!(block(Kind::Jwt, &own), "  Authority ID: ab12\n");
        assert_eq!(
            block(Kind::X509, &own),
            "  Authority ID: ab12\n  Upstream authority ID: No upstream authority\n"
        );
        assert_eq!(
            state_json(&full).to_string(),
            r#"{"authority_id":"ab12","expires_at":"2000000000","upstream_authority_subject_key_id":"cd34"}"#
        );
    }
}

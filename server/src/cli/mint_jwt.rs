//! `jwt mint`: a JWT-SVID without an entry.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use steeple::atomic_file::{self, Access};
use steeple::clock::{Clock as _, SystemClock, unix_seconds};
use steeple::convert::id_to_proto;
use steeple::id::SpiffeId;
use steeple::shown;
use steeple_proto::spire::api::server::svid::v1::MintJwtsvidRequest;

use super::args::Seconds;
use super::output::Output;
use super::{Connection, Format, json};

/// By how many seconds a lifetime may differ from what was asked for without a word.
const SLACK: i64 = 60;

/// What can be done with JWT-SVIDs.
#[derive(Debug, Subcommand)]
pub(super) enum Jwt {
    /// Have a JWT-SVID signed
    Mint(Mint),
}

/// What `jwt mint` is told.
#[derive(Args, Debug)]
pub(super) struct Mint {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    format: Format,
    /// The identity
    #[arg(long, value_name = "SPIFFE ID", alias = "spiffeID")]
    spiffe_id: SpiffeId,
    /// Whom the token is for; may be repeated, best a single one
    #[arg(long, value_name = "AUDIENCE", required = true)]
    audience: Vec<String>,
    /// How long the token is valid, in seconds or as 5m; the server's default if not said
    #[arg(long, value_name = "TIME", default_value = "0", hide_default_value = true)]
    ttl: Seconds,
    /// Write the token to this file (mode 0600) instead of printing it
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

impl Jwt {
    pub(super) async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        match self {
            Self::Mint(mint) => mint.run(output).await,
        }
    }
}

impl Mint {
    async fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let client = self.connection.connect(output).await?;
        let request = MintJwtsvidRequest {
            id: Some(id_to_proto(&self.spiffe_id)),
            audience: self.audience,
            ttl: self.ttl.0,
        };
        let answer = client.answer(client.svids().mint_jwtsvid(request)).await;
        let answer = answer.with_context(|| format!("no token for {}", self.spiffe_id))?;
        let svid = answer.svid.context("the server answered without a token")?;
        if svid.expires_at + SLACK < unix_seconds(SystemClock.now()) + i64::from(self.ttl.0) {
            let end = shown::time(svid.expires_at);
            output.note(&format!(
                "JWT-SVID lifetime was capped shorter than specified ttl; expires {end}"
            ))?;
        }
        if let Some(path) = &self.write {
            atomic_file::write(path, svid.token.as_bytes(), Access::Private)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        match &self.write {
            _ if self.format.output.is_json() => {
                output.json(&json::object([("svid", json::jwt_svid(&svid))]))
            }
            Some(path) => output.line(&format!("JWT-SVID written to {}", path.display())),
            None => output.line(&shown::plain(&svid.token)),
        }
    }
}

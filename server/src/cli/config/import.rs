//! `config import`: SPIRE's configuration as one of ours, and a word on all that has no counterpart.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use steeple::config::ConfigError;
use steeple::config::expand::{environment, expand};
use steeple::shown;

use self::hcl::Item;
use self::translation::{Base, Remark, Translation, inside};
use crate::cli::entry::file::read;
use crate::cli::output::Output;
use crate::cli::pretty;
use crate::config::Config;

mod agent;
mod hcl;
mod plugins;
mod server;
mod translation;
mod version_one;

/// The largest file that is read, in bytes.
const MAX_SIZE: usize = 1024 * 1024;

/// Why an agent is told to attest by nothing.
const NO_ATTESTOR: &str = "SPIRE had neither `unix` nor `docker`, which would both be there without this line. The agent \
                           does not start before there is one: a table [[workload_attestor]] with type = \"unix\" \
                           or \"docker\" in its place.";

/// What `config import` is told.
#[derive(Args, Debug)]
pub(in crate::cli) struct Import {
    /// SPIRE's server.conf or agent.conf, in HCL or JSON; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Put environment variables into the file first, as SPIRE does with -expandEnv
    #[arg(long, alias = "expandEnv")]
    expand_env: bool,
    /// Succeed even if something is left out
    #[arg(long)]
    allow_incomplete: bool,
    /// Where SPIRE was started: paths that are not absolute begin there; here unless said
    #[arg(long, value_name = "DIR")]
    working_dir: Option<PathBuf>,
}

/// A configuration of ours, and what is to be known about it.
#[derive(Debug)]
struct Imported {
    toml: String,
    remarks: Vec<Remark>,
    /// Why a server would refuse it. What an agent thinks of it is for the agent to say.
    problem: Option<ConfigError>,
    /// The line of what it refuses, where that is known.
    problem_line: Option<usize>,
}

impl Import {
    pub(super) fn run(self, output: &mut Output) -> anyhow::Result<()> {
        let name = self.file.display().to_string();
        let mut text = read(&self.file)?;
        if text.len() > MAX_SIZE {
            bail!("{name}: it has {} bytes; a configuration has at most {MAX_SIZE}", text.len());
        }
        if self.expand_env {
            text = expand(&text, &environment).with_context(|| name.clone())?;
        }
        let base = self.working_dir.as_deref().unwrap_or(Path::new("."));
        let base = Base(std::path::absolute(base).context("the directory of this process")?);
        let imported = import(&text, &base).with_context(|| name.clone())?;
        output.raw(imported.toml.as_bytes())?;
        for remark in &imported.remarks {
            let Remark { line, key, is_left_out, text } = remark;
            let what = if *is_left_out { "left out" } else { "note" };
            output.note(&shown::plain(&format!("{name}:{line}: {key}: {what}: {text}")))?;
        }
        if let Some(problem) = imported.problem {
            let line = imported.problem_line.map(|line| format!("{name}:{line}: "));
            let line = line.unwrap_or_default();
            return Err(problem).context(format!("{line}what was made of it is not valid yet"));
        }
        match imported.remarks.iter().filter(|remark| remark.is_left_out).count() {
            left_out if left_out > 0 && !self.allow_incomplete => bail!(
                "{} left out, as said above; --allow-incomplete takes that for success",
                pretty::count(left_out, "setting was", "settings were")
            ),
            _ => Ok(()),
        }
    }
}

/// Makes a configuration of ours of one of SPIRE's.
fn import(text: &str, base: &Base) -> anyhow::Result<Imported> {
    let items = hcl::parse(text)?;
    let has = |key: &str| items.iter().any(|item| item.key == key);
    let mut out = Translation::default();
    let plugins = inside(&items, "plugins");
    match (has("server"), has("agent")) {
        (true, false) => {
            server::translate(&inside(&items, "server"), base, &mut out);
            let plugins = plugins::all(&plugins, base, &mut out);
            let forgets = plugins.iter().any(plugins::forgets);
            for plugin in plugins {
                plugins::translate(&plugin, forgets, base, &mut out);
            }
        }
        (false, true) => {
            agent::translate(&inside(&items, "agent"), base, &mut out);
            for plugin in plugins::all(&plugins, base, &mut out) {
                agent::translate_plugin(&plugin, base, &mut out);
            }
            if !out.has_table("[[workload_attestor]]") {
                out.set_because(("workload_attestor", "[]".into()), NO_ATTESTOR);
            }
        }
        (_, _) => {
            bail!("a configuration of SPIRE has a block `server` or a block `agent`, and not both")
        }
    }
    surroundings(&items, &mut out);
    let program = if has("server") { "server" } else { "agent" };
    let head = format!(
        "# The configuration of steeple-{program} that does what one of SPIRE's did. The file\n\
         # {program}.toml among the examples explains each key, and those that are not here.\n\n"
    );
    let toml = head + &out.toml();
    let check = || Config::parse(&toml, Path::new("the result")).err();
    let problem = if has("server") { check() } else { None };
    let problem_line = problem.as_ref().and_then(|problem| line_of(problem, &items));
    Ok(Imported { toml, remarks: out.remarks(), problem, problem_line })
}

/// The line of the setting that is refused, if it is called the same here.
fn line_of(problem: &ConfigError, items: &[Item]) -> Option<usize> {
    let ConfigError::Invalid { key, .. } = problem else { return None };
    inside(items, "server").iter().find(|item| item.key == *key).map(|item| item.line)
}

/// What is beside `server` or `agent` and `plugins`.
fn surroundings(items: &[Item], out: &mut Translation) {
    for item in items {
        match item.key.as_str() {
            key @ ("server" | "agent" | "plugins") => {
                out.is_block(item, key);
            }
            "telemetry" => each(item, "metrics are not sent; see the log and the audit log", out),
            "health_checks" => {
                let inner = inside(std::slice::from_ref(item), "health_checks");
                let is_on = |item: &Item| {
                    item.key == "listener_enabled" && translation::text(&item.value) == "true"
                };
                let why = "there is no listener for HTTP probes; the command `healthcheck` is one";
                if inner.iter().any(is_on) {
                    each(item, why, out);
                } else {
                    out.note(item, "health_checks", why);
                }
            }
            other => {
                out.leave_out(item, other, "SPIRE has no such block either, as far as is known")
            }
        }
    }
}

/// Leaves out each key of a block, by its line.
fn each(block: &Item, why: &'static str, out: &mut Translation) {
    let inner = inside(std::slice::from_ref(block), &block.key);
    if inner.is_empty() {
        out.leave_out(block, &block.key, why);
    }
    for item in &inner {
        out.leave_out(item, &format!("{}.{}", block.key, item.key), why);
    }
}

#[cfg(test)]
mod tests;

//! What a line of the log looks like.

use std::io;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use super::event::{Caller, Event};

/// What every line begins with; a question mark stands for a digit, be it hexadecimal.
pub(super) const BEGINNING: &[u8] =
    b"{\"time\":\"????-??-??T??:??:??.???Z\",\"run\":\"????????????????\",\"sequence\":";

/// An event and its circumstances. Lines of one run have numbers without gaps, from 1.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    #[serde(rename = "time", serialize_with = "rfc3339")]
    pub(super) now: SystemTime,
    #[serde(serialize_with = "hex")]
    pub(super) run: u64,
    pub(super) sequence: u64,
    pub(super) caller: &'a Caller,
    #[serde(flatten)]
    pub(super) event: &'a Event,
}

impl Line<'_> {
    /// Appends the line to `buffer`. JSON escapes line breaks, so that there is one, at the end.
    pub(super) fn write(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        serde_json::to_writer(&mut *buffer, self)?;
        buffer.push(b'\n');
        Ok(())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn hex<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{number:016x}"))
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}

//! How a record of the log looks in JSON: with the keys of SPIRE's, which are those of logrus.
//!
//! One object a line: `time`, `level`, `msg` and `subsystem_name`, beside the fields of the event and
//! of all spans that it is in. Nothing that is logged can take the place of the first three.

use std::error::Error;
use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::with_causes;

/// The keys that logrus keeps for itself. A field of such a name has `fields.` before it.
const RESERVED: [&str; 5] = ["time", "level", "msg", "file", "func"];

/// Writes events so; fields of spans are expected as [`JsonFields`] writes them.
#[derive(Debug)]
pub(super) struct Json {
    /// Whether a record says where in the source it is written.
    pub(super) source_location: bool,
}

impl<S> FormatEvent<S, JsonFields> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut record = Record::default();
        record.0.insert("subsystem_name".to_owned(), subsystem(metadata.target()).into());
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<JsonFields>>();
            let fields = fields.and_then(|fields| serde_json::from_str(&fields.fields).ok());
            let fields: Map<String, Value> = fields.unwrap_or_default();
            fields.into_iter().for_each(|(name, value)| record.add(&name, value));
        }
        event.record(&mut record);
        let Record(mut record) = record;
        // Who writes a record without words has a record without words.
        record.entry("msg").or_insert_with(|| "".into());
        record.insert("level".to_owned(), level(metadata).into());
        record.insert("time".to_owned(), now()?.into());
        if self.source_location {
            record.extend(location(metadata));
        }
        let line = serde_json::to_string(&record).map_err(|_unwritable| fmt::Error)?;
        writeln!(writer, "{line}")
    }
}

/// What a record has besides the keys of its own.
#[derive(Debug, Default)]
struct Record(Map<String, Value>);

impl Record {
    fn add(&mut self, name: &str, value: Value) {
        let name = name.strip_prefix("r#").unwrap_or(name);
        let is_reserved = RESERVED.contains(&name);
        let name = if is_reserved { format!("fields.{name}") } else { name.to_owned() };
        self.0.insert(name, value);
    }

    fn put(&mut self, field: &Field, value: Value) {
        match field.name() {
            "message" => drop(self.0.insert("msg".to_owned(), value)),
            name => self.add(name, value),
        }
    }
}

impl Visit for Record {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has neither infinity nor what is no number.
        let number = serde_json::Number::from_f64(value);
        self.put(field, number.map_or_else(|| value.to_string().into(), Value::Number));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    /// With all that led to it, as errors of SPIRE's have it in their texts.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, with_causes(value).into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

/// The part of a program that a record is of: the first module below the crate, for ours.
fn subsystem(target: &str) -> &str {
    match target.split_once("::") {
        Some((owner, path)) if owner == "steeple" || owner.starts_with("steeple_") => {
            path.split_once("::").map_or(path, |(first, _)| first)
        }
        _ => target,
    }
}

/// A level as logrus writes it.
fn level(metadata: &Metadata<'_>) -> &'static str {
    match *metadata.level() {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Where a record is written. There is no telling which function of the module it is.
fn location(metadata: &Metadata<'_>) -> impl Iterator<Item = (String, Value)> {
    let file = metadata.file().map(|file| match metadata.line() {
        Some(line) => format!("{file}:{line}"),
        None => file.to_owned(),
    });
    let file = file.map(|file| ("file".to_owned(), file.into()));
    let module = metadata.module_path().map(|path| ("func".to_owned(), path.into()));
    file.into_iter().chain(module)
}

/// In RFC 3339 and UTC.
fn now() -> Result<String, fmt::Error> {
    let mut text = String::new();
    SystemTime.format_time(&mut Writer::new(&mut text))?;
    Ok(text)
}

#[cfg(test)]
mod tests;

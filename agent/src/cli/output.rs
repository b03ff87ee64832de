//! The one place that prints.

use std::io::Write;

use serde_json::Value;

/// Standard output and standard error.
pub(super) struct Output {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
}

impl Output {
    pub(super) fn standard() -> Self {
        Self { out: Box::new(std::io::stdout()), err: Box::new(std::io::stderr()) }
    }

    /// Both into one place.
    #[cfg(test)]
    pub(super) fn into(sink: impl Write + Clone + 'static) -> Self {
        Self { out: Box::new(sink.clone()), err: Box::new(sink) }
    }

    /// A result for people.
    pub(super) fn line(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// A line with a label, its value in a column of its own behind tabs, as scripts know it of SPIRE.
    pub(super) fn field(&mut self, label: &str, value: &str) -> anyhow::Result<()> {
        let tabs = 3_usize.saturating_sub((label.len() + 1) / 8).max(1);
        self.line(&format!("{label}:{}{value}", "\t".repeat(tabs)))
    }

    /// A result for programs, on one line.
    pub(super) fn json(&mut self, value: &Value) -> anyhow::Result<()> {
        self.line(&value.to_string())
    }

    /// Something that has a form of its own.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.out.write_all(bytes)?)
    }

    /// Something to know that is no result.
    pub(super) fn note(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.err, "{text}")?)
    }

    /// What went wrong, its causes behind it.
    pub(super) fn error(&mut self, error: &anyhow::Error) {
        // Where standard error is closed there is nobody to tell.
        let _closed = writeln!(self.err, "Error: {error:#}");
    }
}

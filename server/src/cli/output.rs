//! The one place that prints.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::time::Duration;

use serde_json::Value;

/// How long something takes before somebody at a terminal is told that it goes on.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Goes to the start of the line and clears it.
const CLEAR: &str = "\r\x1b[K";

/// Standard output and standard error.
pub(super) struct Output {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    terminal: Terminal,
}

/// What is known of whoever reads.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Terminal {
    /// How many columns standard output has; `None` if it is no terminal.
    pub(super) width: Option<usize>,
    /// Whether somebody watches standard error.
    pub(super) watched: bool,
}

/// A line on the terminal that goes away again.
pub(super) struct Notice {
    err: Option<io::Stderr>,
    shown: bool,
}

impl Output {
    pub(super) fn standard() -> Self {
        let width = terminal_size::terminal_size_of(io::stdout());
        Self {
            out: Box::new(BufWriter::new(io::stdout())),
            err: Box::new(io::stderr()),
            terminal: Terminal {
                width: width.map(|(width, _)| width.0.into()),
                watched: io::stderr().is_terminal(),
            },
        }
    }

    #[cfg(test)]
    pub(super) fn to(out: Box<dyn Write>, err: Box<dyn Write>, terminal: Terminal) -> Self {
        Self { out, err, terminal }
    }

    /// A result for people.
    pub(super) fn line(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// A result for programs, on one line.
    pub(super) fn json(&mut self, value: &Value) -> anyhow::Result<()> {
        self.line(&value.to_string())
    }

    /// Something that has a form of its own.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.out.write_all(bytes)?)
    }

    /// Something that is not the result, in the order in which it happened.
    pub(super) fn note(&mut self, text: &str) -> anyhow::Result<()> {
        self.out.flush()?;
        Ok(writeln!(self.err, "{text}")?)
    }

    /// What went wrong, its causes behind it. A reader that has gone away, as `head` does, is told
    /// nothing.
    pub(super) fn error(&mut self, error: &anyhow::Error) {
        // Where nobody listens any more there is nobody to tell.
        let _closed = self.out.flush();
        if !is_broken_pipe(error) {
            let _closed = writeln!(self.err, "Error: {error:#}");
        }
    }

    /// Hands over all that was printed.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        Ok(self.out.flush()?)
    }

    pub(super) fn terminal(&self) -> Terminal {
        self.terminal
    }
}

impl Terminal {
    pub(super) fn notice(self) -> Notice {
        Notice { err: self.watched.then(io::stderr), shown: false }
    }
}

impl Notice {
    /// Shows `text` in the place of what was shown before. Where nobody watches, nothing is.
    pub(super) fn show(&mut self, text: &str) {
        if let Some(err) = &mut self.err {
            let _closed = write!(err, "{CLEAR}{text}").and_then(|()| err.flush());
            self.shown = true;
        }
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        if let Some(err) = self.err.as_mut().filter(|_| self.shown) {
            let _closed = write!(err, "{CLEAR}").and_then(|()| err.flush());
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

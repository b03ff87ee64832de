//! Makes of HCL of version 1 what a parser of version 2 understands: several things on one line, and
//! keys in quotes. Lines that are put in are remembered, so that nothing has another line than before.

/// A text for the parser.
#[derive(Default)]
pub(super) struct Evened {
    pub(super) text: String,
    /// Where its lines end, and how many lines had ended there before.
    ends: Vec<(usize, usize)>,
}

/// Evens out what the versions do not have in common.
pub(super) fn even(text: &str) -> Evened {
    let mut writer = Writer::default();
    let quoted_keys_gone = without_quoted_keys(text);
    let mut rest = quoted_keys_gone.as_str();
    while let Some(c) = rest.chars().next() {
        let length = token(rest).unwrap_or(c.len_utf8());
        let (token, behind) = rest.split_at(length);
        writer.write(token, c);
        rest = behind;
    }
    writer.evened
}

/// The text as it is, for JSON.
pub(super) fn as_it_is(text: &str) -> Evened {
    let mut evened = Evened::default();
    evened.push(text);
    evened
}

impl Evened {
    /// The line, as it was before, of a place in the text.
    pub(super) fn line(&self, start: usize) -> usize {
        self.old_line(1 + self.ends.partition_point(|(end, _)| *end < start))
    }

    /// The line that it was, of a line of the text.
    pub(super) fn old_line(&self, line: usize) -> usize {
        let last = line.checked_sub(2).and_then(|last| self.ends.get(last));
        1 + last.map_or(0, |(_, lines)| *lines)
    }

    fn push(&mut self, token: &str) {
        for (at, _) in token.match_indices('\n') {
            self.ends.push((self.text.len() + at, self.lines() + 1));
        }
        self.text.push_str(token);
    }

    fn break_line(&mut self) {
        self.ends.push((self.text.len(), self.lines()));
        self.text.push('\n');
    }

    /// How many lines of before have ended.
    fn lines(&self) -> usize {
        self.ends.last().map_or(0, |(_, lines)| *lines)
    }
}

#[derive(Default)]
struct Writer {
    evened: Evened,
    /// What is open, and whether that is a block.
    open: Vec<bool>,
    /// Whether a brace would open a block: behind a name or a text.
    is_behind_name: bool,
}

impl Writer {
    fn write(&mut self, token: &str, first: char) {
        let is_in_block = self.open.last().is_none_or(|is_block| *is_block);
        match first {
            '{' => {
                self.open.push(self.is_behind_name);
                self.evened.push(token);
                if self.is_behind_name {
                    self.evened.break_line();
                }
            }
            '[' | '(' => {
                self.open.push(false);
                self.evened.push(token);
            }
            '}' if self.open.pop() == Some(true) => {
                self.evened.break_line();
                self.evened.push(token);
                self.evened.break_line();
            }
            ']' | ')' => {
                self.open.pop();
                self.evened.push(token);
            }
            ',' if is_in_block => self.evened.break_line(),
            _ => self.evened.push(token),
        }
        let is_name = first.is_alphanumeric() || matches!(first, '_' | '-' | '"');
        let is_space = first.is_whitespace() || matches!(first, '#' | '/');
        self.is_behind_name = is_name || (is_space && self.is_behind_name && first != '\n');
    }
}

/// How long a comment, a quoted text or a heredoc at the start of this is.
fn token(text: &str) -> Option<usize> {
    let to_end_of_line = || text.find('\n').unwrap_or(text.len());
    if text.starts_with('#') || text.starts_with("//") {
        return Some(to_end_of_line());
    }
    if text.starts_with("/*") {
        return Some(text.find("*/").map_or(text.len(), |end| end + 2));
    }
    if let Some(heredoc) = text.strip_prefix("<<") {
        let name = heredoc.lines().next()?.trim_start_matches('-').trim();
        let mut length = 0;
        for line in text.split_inclusive('\n') {
            length += line.len();
            if line.trim() == name {
                break;
            }
        }
        // What ends the heredoc ends a line, too, which is not part of it.
        let taken = text.get(..length)?;
        return Some(taken.strip_suffix('\n').unwrap_or(taken).len());
    }
    let quoted = text.strip_prefix('"')?;
    let mut is_escaped = false;
    let end = quoted.find(|c| {
        let is_end = !is_escaped && (c == '"' || c == '\n');
        is_escaped = !is_escaped && c == '\\';
        is_end
    });
    Some(end.map_or(text.len(), |end| end + 2))
}

/// The text with spaces for the quotes of keys at the start of a line. Nothing moves.
fn without_quoted_keys(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        match quoted_key(line) {
            Some((indent, key, rest)) => {
                all.extend([indent, " ", key, " ", rest]);
            }
            None => all.push_str(line),
        }
    }
    all
}

fn quoted_key(line: &str) -> Option<(&str, &str, &str)> {
    let start = line.len() - line.trim_start().len();
    let (indent, quoted) = line.split_at(start);
    let (key, rest) = quoted.strip_prefix('"')?.split_once('"')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let starts = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let follows = rest.trim_start().starts_with(['=', '{', '"']);
    (starts && key.chars().all(is_name) && follows).then_some((indent, key, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(even(text).text, expected);
    }

    #[test]
    fn blocks_get_lines_of_their_own_and_nothing_else_changes() {
        check("a { b {} }", "a {\n b {\n\n}\n \n}\n");
        check("a \"b\" { c = 1, d = 2 }", "a \"b\" {\n c = 1\n d = 2 \n}\n");
        check("a = { b = 1, c = [2, 3] }\n", "a = { b = 1, c = [2, 3] }\n");
        check("a = \"{\\\"}\" # {\n", "a = \"{\\\"}\" # {\n");
        check("a = 1 /* { */\n// {\n", "a = 1 /* { */\n// {\n");
        check("a = <<EOF\n{ x }\nEOF\nb = 1\n", "a = <<EOF\n{ x }\nEOF\nb = 1\n");
        check("a = [{ b = 1 }, { b = 2 }]\n", "a = [{ b = 1 }, { b = 2 }]\n");
        check("  \"a\" = 1\n", "   a  = 1\n");
        check("a = \"open\nb {", "a = \"open\nb {\n");
    }

    #[test]
    fn everything_keeps_its_line() {
        let evened = even("a { b { c = 1 } }\nd = 2\n");
        let line = |name: &str| evened.line(evened.text.find(name).unwrap());
        assert_eq!((line("a"), line("b"), line("c"), line("d")), (1, 1, 1, 2));
        assert_eq!((evened.old_line(1), evened.old_line(3), evened.old_line(6)), (1, 1, 1));
    }
}

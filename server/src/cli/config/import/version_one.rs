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
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = token(rest).unwrap_or(first.len_utf8());
        let (token, behind) = rest.split_at(length);
        writer.write(token, first, behind);
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

/// What is open.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Open {
    /// A block: behind a name or a text. Its keys have lines of their own.
    Block,
    /// A value in braces. Its keys have commas or lines between them.
    Object,
    /// A list, or what is in parentheses.
    List,
}

/// What the last word was part of.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum Place {
    /// Nothing: a key comes next.
    #[default]
    Start,
    /// A key, or a label of a block.
    Key,
    /// Nothing, and a value comes next.
    Assignment,
    /// A value. What comes next without a comma is a key in version 1.
    Value,
}

#[derive(Default)]
struct Writer {
    evened: Evened,
    open: Vec<Open>,
    place: Place,
}

impl Writer {
    fn write(&mut self, token: &str, first: char, behind: &str) {
        let within = self.open.last().copied().unwrap_or(Open::Block);
        match first {
            '{' => self.open_braces(token),
            '[' | '(' => {
                self.open.push(Open::List);
                self.evened.push(token);
            }
            '}' | ']' | ')' => self.close(token, first),
            ',' if within == Open::Block => self.break_line(),
            ',' | '\n' => {
                self.evened.push(token);
                self.place = if within == Open::List { self.place } else { self.start(first) };
            }
            '=' | ':' => {
                self.evened.push(token);
                self.place = Place::Assignment;
            }
            '#' | '/' => self.evened.push(token),
            _ if first.is_whitespace() => self.evened.push(token),
            _ if within == Open::List => self.evened.push(token),
            _ => self.word(token, within, behind),
        }
    }

    /// A value may begin on the line behind its `=`.
    fn start(&self, first: char) -> Place {
        let waits = first == '\n' && self.place == Place::Assignment;
        if waits { Place::Assignment } else { Place::Start }
    }

    fn open_braces(&mut self, token: &str) {
        let is_block = self.place == Place::Key;
        self.open.push(if is_block { Open::Block } else { Open::Object });
        self.evened.push(token);
        if is_block {
            self.evened.break_line();
        }
        self.place = Place::Start;
    }

    fn close(&mut self, token: &str, first: char) {
        if self.open.pop() == Some(Open::Block) && first == '}' {
            self.break_line();
            self.evened.push(token);
            self.break_line();
            return;
        }
        self.evened.push(token);
        self.place = Place::Value;
    }

    /// A name, a text or a number.
    fn word(&mut self, token: &str, within: Open, behind: &str) {
        match (self.place, within) {
            (Place::Value, Open::Object) => {
                self.evened.push(",");
                self.place = Place::Start;
            }
            (Place::Value, Open::Block | Open::List) => self.break_line(),
            (Place::Start | Place::Key | Place::Assignment, _) => {}
        }
        match (self.place, within == Open::Block, quoted_key(token, behind)) {
            (Place::Start, true, Some(key)) => self.evened.push(&format!(" {key} ")),
            _ => self.evened.push(token),
        }
        self.place = match self.place {
            // A text that is not closed ends with its line.
            _ if token.ends_with('\n') => Place::Start,
            Place::Assignment => Place::Value,
            Place::Start | Place::Key | Place::Value => Place::Key,
        };
    }

    fn break_line(&mut self) {
        self.evened.break_line();
        self.place = Place::Start;
    }
}

/// How long a comment, a quoted text, a heredoc or a word at the start of this is.
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
    let Some(quoted) = text.strip_prefix('"') else {
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '+');
        return text.find(|c| !is_word(c)).or(Some(text.len())).filter(|length| *length > 0);
    };
    let mut is_escaped = false;
    let end = quoted.find(|c| {
        let is_end = !is_escaped && (c == '"' || c == '\n');
        is_escaped = !is_escaped && c == '\\';
        is_end
    });
    Some(end.map_or(text.len(), |end| end + 2))
}

/// The name in quotes that is a key, as what is behind it says.
fn quoted_key<'a>(token: &'a str, behind: &str) -> Option<&'a str> {
    let key = token.strip_prefix('"')?.strip_suffix('"')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let starts = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let follows = behind.trim_start().starts_with(['=', '{', '"']);
    (starts && key.chars().all(is_name) && follows).then_some(key)
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
        check(
            "a = 1 b = \"x\" c { d = [1, 2] e = true }\n",
            "a = 1 \nb = \"x\" \nc {\n d = [1, 2] \ne = true \n}\n\n",
        );
        check(
            "a = { b = 1 \"c\" = 2 d = { e = 1 } f = 3 }\n",
            "a = { b = 1 ,\"c\" = 2 ,d = { e = 1 } ,f = 3 }\n",
        );
        check("a { \"b\" = \"c\" \"d\" = 1 }", "a {\n  b  = \"c\" \n d  = 1 \n}\n");
        check("a = [{ b = 1 c = 2 }, \"d\"] e = 1\n", "a = [{ b = 1 ,c = 2 }, \"d\"] \ne = 1\n");
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

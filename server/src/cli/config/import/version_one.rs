//! Makes of HCL of version 1 what a parser of version 2 understands: several things on one line, a
//! brace or a value on the line behind its key, keys in quotes or with dots, `%{` in a text. Lines that are put in or taken out are
//! remembered, so that nothing has another line than before.

use std::borrow::Cow;

/// Begins the name that stands for a key that is no name in version 2. No name has a middle dot in
/// version 1.
const STAND_IN: &str = "key·";

/// A text for the parser.
#[derive(Default)]
pub(super) struct Evened {
    pub(super) text: String,
    /// Where its lines end, and how many lines had ended there before.
    ends: Vec<(usize, usize)>,
    /// How many ends of lines were taken out of the last line.
    joined: usize,
    /// Keys that are no names in version 2; what stands for them has their number.
    keys: Vec<String>,
}

/// Evens out what the versions do not have in common.
pub(super) fn even(text: &str) -> Evened {
    let mut writer = Writer::default();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = token(rest).unwrap_or(first.len_utf8());
        let (token, behind) = rest.split_at(length);
        writer.write(&literal(token), first, behind);
        rest = behind;
    }
    writer.evened
}

/// The text as it is, for JSON.
pub(super) fn as_it_is(text: &str) -> Evened {
    let mut evened = Evened::default();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = token(rest).filter(|_| first == '"').unwrap_or(first.len_utf8());
        let (token, behind) = rest.split_at(length);
        evened.push(&literal(token));
        rest = behind;
    }
    evened
}

/// A text as it was, of one in which [`literal`] was written.
pub(super) fn as_it_was(text: &str) -> String {
    text.replace("%%{", "%{")
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

    /// The key that a name of the text stands for: itself, mostly.
    pub(super) fn key<'a>(&'a self, name: &'a str) -> &'a str {
        let number = name.strip_prefix(STAND_IN).and_then(|number| number.parse().ok());
        number.and_then(|number: usize| self.keys.get(number)).map_or(name, String::as_str)
    }

    /// A name for this key.
    fn name<'a>(&mut self, key: &'a str) -> Cow<'a, str> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let starts = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if starts && key.chars().all(is_name) {
            return key.into();
        }
        self.keys.push(key.to_owned());
        format!("{STAND_IN}{}", self.keys.len() - 1).into()
    }

    fn push(&mut self, token: &str) {
        for (at, _) in token.match_indices('\n') {
            self.end_line(self.text.len() + at, 1);
        }
        self.text.push_str(token);
    }

    fn break_line(&mut self) {
        self.end_line(self.text.len(), 0);
        self.text.push('\n');
    }

    /// Goes on in the same line where one had ended.
    fn join_line(&mut self) {
        self.joined += 1;
        self.text.push(' ');
    }

    fn end_line(&mut self, at: usize, ended: usize) {
        let before = self.ends.last().map_or(0, |(_, lines)| *lines);
        self.ends.push((at, before + std::mem::take(&mut self.joined) + ended));
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
        // In version 1 a line may end between a key and what belongs to it.
        let goes_on = matches!(self.place, Place::Assignment | Place::Key) && within != Open::List;
        match first {
            '{' => self.open_braces(token),
            '[' | '(' => {
                self.open.push(Open::List);
                self.evened.push(token);
            }
            '}' | ']' | ')' => self.close(token, first),
            ',' if within == Open::Block => self.break_line(),
            '\n' if goes_on => self.evened.join_line(),
            ',' | '\n' => {
                self.evened.push(token);
                self.place = if within == Open::List { self.place } else { Place::Start };
            }
            '=' | ':' => {
                self.evened.push(token);
                self.place = Place::Assignment;
            }
            // It would hide what is on the next line, which becomes part of this one.
            '#' | '/' if goes_on && !token.starts_with("/*") => {}
            '#' | '/' => self.evened.push(token),
            _ if first.is_whitespace() => self.evened.push(token),
            _ if within == Open::List => self.evened.push(token),
            _ => self.word(token, within, behind),
        }
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
        match (self.place, within, key(token, behind)) {
            (Place::Start, Open::Block, Some(key)) => {
                let name = self.evened.name(key);
                self.evened.push(&format!(" {name} "));
            }
            // A text is a key of an object as it is.
            (Place::Start, Open::Object, Some(key)) => self.evened.push(&format!("\"{key}\"")),
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

/// A text without what would be a directive in version 2, as everything else is.
fn literal(token: &str) -> Cow<'_, str> {
    if token.starts_with(['"', '<']) && token.contains("%{") {
        return token.replace("%{", "%%{").into();
    }
    token.into()
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

/// The key that is written in a way of version 1, as what is behind it says: in quotes, or with dots.
fn key<'a>(token: &'a str, behind: &str) -> Option<&'a str> {
    let quoted = token.strip_prefix('"').and_then(|token| token.strip_suffix('"'));
    let key = quoted.or(token.contains('.').then_some(token))?;
    let follows = behind.trim_start().starts_with(['=', ':', '{', '"']);
    (follows && !key.contains(['\\', '$', '%'])).then_some(key)
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
        check("a.b = 1\n\"c d\" {}\n", " key·0  = 1\n key·1  {\n\n}\n\n");
        check("a = { b.c = 1 \"d/e\" = 2 }\n", "a = { \"b.c\" = 1 ,\"d/e\" = 2 }\n");
        check("s # c\n{\n}\nK\n\"n\"\n{}\n", "s  {\n\n\n}\n\nK \"n\" {\n\n}\n\n");
        check("a = \"%{b}\" # %{\n", "a = \"%%{b}\" # %{\n");
        check("a = # c\n\n  1 # d\nb =\n[1]\n", "a =     1 # d\nb = [1]\n");
    }

    #[test]
    fn everything_keeps_its_line() {
        let evened = even("a { b { c = 1 } }\nd = 2\n");
        let line = |name: &str| evened.line(evened.text.find(name).unwrap());
        assert_eq!((line("a"), line("b"), line("c"), line("d")), (1, 1, 1, 2));
        assert_eq!((evened.old_line(1), evened.old_line(3), evened.old_line(6)), (1, 1, 1));
        let evened = even("a =\n\n{\nb =\n1\n}\nc = 1 d = 2\n");
        let line = |name: &str| evened.line(evened.text.find(name).unwrap());
        assert_eq!((line("a"), line("b"), line("c"), line("d")), (1, 4, 7, 7));
        let evened = even("a\n{\nb = 1\n}\nc\n\n=\n1\nd = 2\n");
        let line = |name: &str| evened.line(evened.text.find(name).unwrap());
        assert_eq!((line("a"), line("b"), line("c"), line("d")), (1, 3, 5, 9));
    }
}

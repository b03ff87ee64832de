//! Reads `tests/commands.txt`: what SPIRE's users write, which both programs have to take.

#![expect(clippy::expect_used, reason = "a table that cannot be read fails who reads it, a test")]

use std::collections::BTreeMap;

/// A command of one of SPIRE's programs, or one of several ways to give it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Command {
    /// The program and the words of the command.
    pub name: String,
    needs: Vec<String>,
    flags: Vec<Flag>,
    /// The flags that are refused, each with what has to be said.
    pub refused: Vec<(String, String)>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Flag {
    name: String,
    /// `None` for a switch.
    value: Option<String>,
}

/// What stands behind a switch.
const SWITCH: &str = "(BOOL)";

/// The commands of a table.
///
/// # Panics
/// The table cannot be read.
#[must_use]
pub fn read(table: &str) -> Vec<Command> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut commands: Vec<Command> = Vec::new();
    for line in table.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let Some(indented) = line.strip_prefix("    ") else {
            if line.starts_with('@') {
                let mut cells = cells(line);
                groups.entry(cells.remove(0)).or_default().extend(cells);
            } else {
                commands.push(Command::of_head(line));
            }
            continue;
        };
        let command = commands.last_mut().expect("flags stand below a command");
        if let Some(refused) = indented.strip_prefix("! ") {
            let (flag, reason) = refused.split_once("  ").expect("a refusal has a reason");
            command.refused.push((flag.to_owned(), reason.trim().to_owned()));
            continue;
        }
        for cell in cells(indented) {
            match groups.get(cell) {
                Some(group) => command.flags.extend(group.iter().map(|text| Flag::of(text))),
                None => command.flags.push(Flag::of(cell)),
            }
        }
    }
    commands
}

impl Command {
    /// Every way to give this command with one of its flags, and with none.
    #[must_use]
    pub fn lines(&self) -> Vec<Vec<String>> {
        let spellings = self.flags.iter().flat_map(Flag::spellings);
        let bare = (!self.needs.is_empty()).then(Vec::new);
        bare.into_iter().chain(spellings).map(|flag| self.line(flag)).collect()
    }

    /// The command with this flag, written with one dash.
    #[must_use]
    pub fn line_with(&self, flag: &str) -> Vec<String> {
        self.line(flag.splitn(2, ' ').map(ToOwned::to_owned).collect())
    }

    fn of_head(line: &str) -> Self {
        let (name, needs) = line.split_once(" [").unwrap_or((line, ""));
        let needs = cells(needs.trim_end_matches(']')).into_iter();
        let needs = needs.flat_map(|cell| cell.splitn(2, ' ')).map(ToOwned::to_owned).collect();
        Self { name: name.to_owned(), needs, ..Self::default() }
    }

    fn line(&self, flag: Vec<String>) -> Vec<String> {
        let name = self.name.split(' ').map(ToOwned::to_owned);
        name.chain(self.needs.clone()).chain(flag).collect()
    }
}

impl Flag {
    fn of(cell: &str) -> Self {
        let (name, value) = cell.split_once(' ').expect("a flag has a value, or is marked");
        assert!(name.starts_with('-') && !name.starts_with("--"), "{cell}");
        Self { name: name.to_owned(), value: (value != SWITCH).then(|| value.to_owned()) }
    }

    /// With one dash and with two, as Go's programs take it.
    fn spellings(&self) -> Vec<Vec<String>> {
        let written = |name: &str| match &self.value {
            Some(value) => {
                vec![vec![name.to_owned(), value.clone()], vec![format!("{name}={value}")]]
            }
            None => {
                let alone = vec![name.to_owned()];
                vec![alone, vec![format!("{name}=true")], vec![format!("{name}=false")]]
            }
        };
        [written(&self.name), written(&format!("-{}", self.name))].concat()
    }
}

/// What stands between gaps of two spaces and more.
fn cells(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
# Words.
@both  -c 1
@both  -d (BOOL)

p get [-a x y  -b z]
    @both
    ! -f v  not here
p set
    -e 2
";

    #[test]
    fn a_command_is_given_in_every_way() {
        let commands = read(TABLE);
        let lines = |index: usize| {
            let lines = commands[index].lines().into_iter();
            lines.map(|line| line.join("|")).collect::<Vec<_>>()
        };
        let get = "p|get|-a|x y|-b|z";
        let ways = [
            "",
            "|-c|1",
            "|-c=1",
            "|--c|1",
            "|--c=1",
            "|-d",
            "|-d=true",
            "|-d=false",
            "|--d",
            "|--d=true",
            "|--d=false",
        ];
        assert_eq!(lines(0), ways.map(|way| format!("{get}{way}")));
        assert_eq!(lines(1), ["p|set|-e|2", "p|set|-e=2", "p|set|--e|2", "p|set|--e=2"]);
        assert_eq!(commands[0].refused, [("-f v".to_owned(), "not here".to_owned())]);
        assert_eq!(commands[1].line_with("-f v").join("|"), "p|set|-f|v");
    }
}

//! Reads what the kernel writes in `/proc/PID/stat` and `/proc/PID/status`; performs no I/O.

/// The credentials in a `/proc/PID/status`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// The supplementary groups, in the kernel's order.
    pub groups: Vec<u32>,
}

/// Field 22 of a `/proc/PID/stat`. The second field is the name of the program in parentheses, in
/// which anything may stand, a `)` too: what follows starts after the last one.
#[must_use]
pub fn start_time(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The credentials of a `/proc/PID/status`; `None` if they are not all there.
#[must_use]
pub fn status(status: &[u8]) -> Option<Status> {
    let (mut uid, mut gid, mut groups) = (None, None, None);
    for line in status.split(|byte| *byte == b'\n') {
        if let Some(numbers) = line.strip_prefix(b"Uid:") {
            uid = uid.or(numbers_of(numbers)?.get(1).copied());
        } else if let Some(numbers) = line.strip_prefix(b"Gid:") {
            gid = gid.or(numbers_of(numbers)?.get(1).copied());
        } else if let Some(numbers) = line.strip_prefix(b"Groups:") {
            groups = Some(numbers_of(numbers)?);
            break;
        }
    }
    Some(Status { uid: uid?, gid: gid?, groups: groups? })
}

/// The lines of a `/proc/PID/status` that [`status`] reads; `None` if they are not all there. Two
/// that are equal say the same.
#[must_use]
pub fn credentials(status: &[u8]) -> Option<&[u8]> {
    let mut start = None;
    let mut end = 0;
    for line in status.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"Uid:") {
            start = start.or(Some(end));
        }
        end += line.len();
        if line.starts_with(b"Groups:") {
            return status.get(start?..end);
        }
    }
    None
}

fn numbers_of(text: &[u8]) -> Option<Vec<u32>> {
    let text = std::str::from_utf8(text).ok()?;
    text.split_ascii_whitespace().map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_field_22_whatever_the_program_is_called() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20 21";
        for name in ["cat", "a b", ") S 1 2", "(", "", "x) R 1 1 1"] {
            let stat = format!("42 ({name}) {tail}\n");
            assert_eq!(start_time(stat.as_bytes()), Some(987_654), "{name}");
        }
        for malformed in ["", "42", "42 (cat)", "42 (cat) S 1 2", "42 cat S"] {
            assert_eq!(start_time(malformed.as_bytes()), None, "{malformed}");
        }
    }

    #[track_caller]
    fn check(text: &str, expected: Option<(u32, u32, &[u32])>) {
        let expected =
            expected.map(|(uid, gid, groups)| Status { uid, gid, groups: groups.to_vec() });
        assert_eq!(status(text.as_bytes()), expected, "{text:?}");
    }

    #[test]
    fn the_credentials_of_a_status_are_all_that_is_read_of_it() {
        let lines = "Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nFDSize:\t64\nGroups:\t10 11 \n";
        for text in [lines.to_owned(), format!("Name:\tUid:\n{lines}NStgid:\t1\nGroups:\t9\n")] {
            assert_eq!(credentials(text.as_bytes()), Some(lines.as_bytes()), "{text}");
            assert_eq!(status(text.as_bytes()), status(lines.as_bytes()));
        }
        for text in ["", "Groups:\t\n", "Uid:\t1\nGid:\t1\n", "Gid:\t1\nGroups:\t\nUid:\t1\n"] {
            assert_eq!(credentials(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_status_gives_the_effective_ids_and_the_groups() {
        let ids = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        check(&format!("{ids}Groups:\t10 11 \nNStgid:\t1\n"), Some((2, 6, &[10, 11])));
        check(&format!("{ids}Groups:\t \n"), Some((2, 6, &[])));
        check(ids, None);
        check("Name:\tUid: 0\nGid:\t5\t6\t7\t8\nGroups:\t\n", None);
        check("Uid:\t1\nGid:\t5\t6\t7\t8\nGroups:\t\n", None);
        check("Uid:\t1\t-2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t\n", None);
        check("", None);
    }
}

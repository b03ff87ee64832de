//! Reads the cgroup mounts of a `/proc/PID/mountinfo`; performs no I/O.
//!
//! Whoever may mount may make this file name any cgroup that can be seen: it takes a user
//! namespace of one's own and a bind mount, and no privilege. It is a hint where to ask, never an
//! answer.

use thiserror::Error;

/// Why a text is not a `/proc/PID/mountinfo`.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("line {line} of the mountinfo file has not the fields of a mount")]
pub struct MountinfoError {
    /// Counted from 1.
    pub line: usize,
}

/// The cgroups that are mounted somewhere, as seen from the root of the reader's cgroup namespace.
/// Mounts of the root of all are left out: every process may have those.
pub fn cgroup_roots(content: &[u8]) -> Result<Vec<Vec<u8>>, MountinfoError> {
    let mut roots = Vec::new();
    for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let (root, kind) = mount(line).ok_or(MountinfoError { line: index + 1 })?;
        if matches!(kind, b"cgroup" | b"cgroup2") && root != b"/" {
            roots.push(unescape(root));
        }
    }
    Ok(roots)
}

/// Root and file system type of a line: `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG…] - TYPE
/// SOURCE SUPER-OPTIONS`. Fields are separated by one space; the source may be empty.
fn mount(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (_id, _parent) = (digits(fields.next()?)?, digits(fields.next()?)?);
    let mut device = fields.next()?.splitn(2, |byte| *byte == b':');
    let (_major, _minor) = (digits(device.next()?)?, digits(device.next()?)?);
    let root = fields.next().filter(|root| !root.is_empty())?;
    let _point_and_options = fields.nth(1)?;
    fields.by_ref().find(|field| *field == b"-")?;
    let kind = fields.next().filter(|kind| !kind.is_empty())?;
    let _source = fields.next()?;
    Some((root, kind))
}

fn digits(field: &[u8]) -> Option<&[u8]> {
    Some(field).filter(|field| !field.is_empty() && field.iter().all(u8::is_ascii_digit))
}

/// The kernel writes space, tab, line break and backslash as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        match (byte, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                text.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = after;
            }
            _ => {
                text.push(*byte);
                rest = after;
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content: &str, expected: Result<&[&str], usize>) {
        let expected = expected
            .map(|roots| roots.iter().map(|root| root.as_bytes().to_vec()).collect())
            .map_err(|line| MountinfoError { line });
        assert_eq!(cgroup_roots(content.as_bytes()), expected, "{content:?}");
    }

    #[test]
    fn only_cgroup_mounts_below_the_root_count() {
        check("", Ok(&[]));
        check("30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", Ok(&[]));
        check("30 25 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", Ok(&["/docker/x"]));
        check(
            "1 2 0:26 /a /p ro,nosuid master:1 shared:7 - cgroup cgroup rw,cpu\n\
             3 4 0:27 /b /q ro - cgroup cgroup rw,memory\n\
             5 6 8:1 /c /r rw - ext4 /dev/sda1 rw\n",
            Ok(&["/a", "/b"]),
        );
        check("1 2 0:26 / /sys/fs/cgroup rw - tmpfs  rw,mode=755\n", Ok(&[])); // empty source
        check("1 2 0:26 /a /cgroup rw - tmpfs cgroup rw\n", Ok(&[]));
    }

    #[test]
    fn escaped_bytes_are_read_as_what_they_stand_for() {
        check("1 2 0:1 /a\\040b\\134c\\9\\07 /p rw - cgroup2 c rw", Ok(&["/a b\\c\\9\\07"]));
    }

    #[test]
    fn a_line_without_the_fields_of_a_mount_is_an_error() {
        for line in [
            "nonsense",
            "1 2 0:26 /a",
            "1 2 0:26 /a /p",
            "1 2 0:26 /a /p rw cgroup2 c rw",
            "1 2 0:26 /a /p rw -",
            "1 2 0:26 /a /p rw - cgroup2",
            "1 2 0:26  /p rw - cgroup2 c rw",
            "x 2 0:26 /a /p rw - cgroup2 c rw",
            "1 +2 0:26 /a /p rw - cgroup2 c rw",
            "1  0:26 /a /p rw - cgroup2 c rw",
            "1 2 026 /a /p rw - cgroup2 c rw",
            "1 2 0: /a /p rw - cgroup2 c rw",
            "1 2 0:2:6 /a /p rw - cgroup2 c rw",
        ] {
            check(&format!("1 2 0:1 / / rw - ext4 / rw\n{line}\n"), Err(2));
        }
    }
}

//! Reads `/proc/PID/cgroup`, and the names of containers in the paths there; performs no I/O.
//!
//! Which cgroup a process is in is the kernel's word. How a cgroup is *called* is the word of who
//! made it, and a user or container that was given a cgroup of its own may make others below it
//! under any name. So what is found here says where to ask, and in what order; that a process is
//! in a container is proved against the container itself, see [`crate::attest::docker`].

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use thiserror::Error;

/// Length of a container ID in bytes: SHA-256 in hexadecimal digits.
const CONTAINER_ID_LENGTH: usize = 64;

/// The lengths of the groups of a pod's UID.
const POD_UID_GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

/// One line of `/proc/PID/cgroup`: where a process is in one hierarchy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Membership<'a> {
    /// The hierarchy's number; 0 is that of cgroup v2.
    pub hierarchy: u32,
    /// The controllers of a v1 hierarchy, or its name.
    pub controllers: &'a [u8],
    /// The cgroup, as seen from the root of the reader's cgroup namespace.
    pub path: &'a [u8],
}

/// Why a text is not a `/proc/PID/cgroup`.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("line {line} of the cgroup file is not HIERARCHY:CONTROLLERS:/PATH")]
pub struct CgroupError {
    /// Counted from 1.
    pub line: usize,
}

/// A container's ID: 64 lower-case hexadecimal digits.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ContainerId(Arc<str>);

/// A Kubernetes pod's UID, its groups separated by dashes.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct PodUid(Arc<str>);

/// A container that a path names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Named {
    /// The container.
    pub container: ContainerId,
    /// The pod named between this container and the one around it.
    pub pod: Option<PodUid>,
    /// Length of the path up to the end of the segment that names the container.
    pub end: usize,
}

/// The lines of a `/proc/PID/cgroup`.
pub fn parse(content: &[u8]) -> Result<Vec<Membership<'_>>, CgroupError> {
    let lines = content.split(|byte| *byte == b'\n').enumerate();
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| membership(line).ok_or(CgroupError { line: index + 1 }))
        .collect()
}

fn membership(line: &[u8]) -> Option<Membership<'_>> {
    let mut parts = line.splitn(3, |byte| *byte == b':');
    let hierarchy = number(parts.next()?)?;
    let controllers = parts.next()?;
    let path = parts.next().filter(|path| path.starts_with(b"/"))?;
    Some(Membership { hierarchy, controllers, path })
}

/// A number as the kernel writes it: digits, of which the first is no zero that could be left out.
fn number(digits: &[u8]) -> Option<u32> {
    let canonical = match digits {
        [b'0', _, ..] => false,
        digits => digits.iter().all(u8::is_ascii_digit),
    };
    std::str::from_utf8(digits).ok().filter(|_| canonical)?.parse().ok()
}

/// The containers that a cgroup's path names, from the outermost to the innermost.
///
/// A segment names a container if 64 hexadecimal digits stand in it by themselves, with whatever
/// around them that is not a letter, digit or underscore: `ID`, `docker-ID.scope`,
/// `kubepods-…:cri-containerd:ID`. The process that a runtime puts beside a container to watch it
/// (`libpod-conmon-ID.scope`) is in no container.
#[must_use]
pub fn containers(path: &[u8]) -> Vec<Named> {
    let mut found = Vec::new();
    let mut pod = None;
    let mut end = 0;
    for segment in path.split_inclusive(|byte| *byte == b'/') {
        let start = end;
        end += segment.len();
        let name = segment.strip_suffix(b"/").unwrap_or(segment);
        let id = container_id(name);
        let before = name.get(..id.as_ref().map_or(name.len(), |id| id.start)).unwrap_or_default();
        pod = pod_uid(before).or(pod);
        let Some(id) = id.and_then(|id| name.get(id)).and_then(ContainerId::of_digits) else {
            continue;
        };
        if !before.ends_with(b"conmon-") {
            let pod = pod.take();
            found.push(Named { container: id, pod, end: start + name.len() });
        }
    }
    found
}

/// Where in a segment the last container ID is.
fn container_id(segment: &[u8]) -> Option<Range<usize>> {
    let mut found = None;
    let mut start = 0;
    for word in segment.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_') {
        let range = start..start + word.len();
        start = range.end + 1;
        if word.len() == CONTAINER_ID_LENGTH && word.iter().all(is_lower_hex) {
            found = Some(range);
        }
    }
    found
}

/// The last `podUID` in a text.
fn pod_uid(text: &[u8]) -> Option<PodUid> {
    const LENGTH: usize = 36;
    let starts = text.windows(b"pod".len()).enumerate().rev();
    starts
        .filter(|(_, window)| *window == b"pod")
        .find_map(|(index, _)| PodUid::of(text.get(index + 3..index + 3 + LENGTH)?))
}

fn is_lower_hex(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

impl ContainerId {
    fn of_digits(digits: &[u8]) -> Option<Self> {
        let valid = digits.len() == CONTAINER_ID_LENGTH && digits.iter().all(is_lower_hex);
        let text = std::str::from_utf8(digits).ok().filter(|_| valid)?;
        Some(Self(text.into()))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PodUid {
    fn of(text: &[u8]) -> Option<Self> {
        let mut groups = text.split(|byte| matches!(byte, b'-' | b'_'));
        let valid = POD_UID_GROUPS.iter().all(|length| {
            groups.next().is_some_and(|group| {
                group.len() == *length && group.iter().all(u8::is_ascii_hexdigit)
            })
        });
        let text = std::str::from_utf8(text).ok().filter(|_| valid && groups.next().is_none())?;
        Some(Self(text.replace('_', "-").into()))
    }

    /// The UID, with dashes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const POD: &str = "72f7f152-440c-66ac-9084-e0fc1d8a910c";
    const POD_: &str = "72f7f152_440c_66ac_9084_e0fc1d8a910c";

    /// The path, and the expected containers, each with its pod and the path up to it.
    #[track_caller]
    fn check(path: &str, expected: &[(&str, Option<&str>, &str)]) {
        let path = path.replace("A64", A).replace("B64", B);
        let found = containers(path.as_bytes());
        let found: Vec<_> = found
            .iter()
            .map(|named| {
                let pod = named.pod.as_ref().map(PodUid::as_str);
                (named.container.as_str(), pod, path[..named.end].to_owned())
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(id, pod, prefix)| (*id, *pod, prefix.replace("A64", A).replace("B64", B)))
            .collect();
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn a_segment_names_a_container_if_an_id_stands_in_it_by_itself() {
        check("/docker/A64", &[(A, None, "/docker/A64")]); // cgroupfs driver
        check("/system.slice/docker-A64.scope", &[(A, None, "/system.slice/docker-A64.scope")]);
        check(
            "/custom.slice/docker-A64.scope/init.scope",
            &[(A, None, "/custom.slice/docker-A64.scope")],
        );
        check("/../../docker/A64", &[(A, None, "/../../docker/A64")]); // of another namespace
        check("/docker/A64/", &[(A, None, "/docker/A64")]);
        check("A64", &[(A, None, "A64")]);
        check(
            "/machine.slice/libpod-A64.scope/container",
            &[(A, None, "/machine.slice/libpod-A64.scope")],
        );
        check("/a-A64-b-B64", &[(B, None, "/a-A64-b-B64")]); // the last one in a segment
    }

    #[test]
    fn what_only_looks_like_an_id_names_nothing() {
        for path in [
            "",
            "/",
            "//",
            "/docker",
            "/user.slice/user-1000.slice/session-3.scope",
            "/docker/A64a", // 65 digits
            "/docker/aA64",
            "/docker/_A64", // part of a word
            "/docker/A64_",
            "/libpod-conmon-A64.scope",
            "/crio-conmon-A64.scope",
        ] {
            check(path, &[]);
        }
        check("/docker/A64 (deleted)", &[(A, None, "/docker/A64 (deleted)")]);
        check(&format!("/docker/{}", A.to_uppercase()), &[]);
        check(&format!("/docker/{}", &A[1..]), &[]);
        check(&format!("/docker/{}g", &A[1..]), &[]);
    }

    #[test]
    fn a_container_in_a_container_comes_after_it() {
        check(
            "/docker/A64/docker/B64",
            &[(A, None, "/docker/A64"), (B, None, "/docker/A64/docker/B64")],
        );
        let path = format!("/docker/A64/kubepods/burstable/pod{POD}/B64/x");
        let end = format!("/docker/A64/kubepods/burstable/pod{POD}/B64");
        check(&path, &[(A, None, "/docker/A64"), (B, Some(POD), &end)]);
    }

    #[test]
    fn a_pod_is_the_last_one_named_before_its_container() {
        for path in [
            format!("/kubepods/burstable/pod{POD}/A64"),
            format!("/kubepods.slice/kubepods-pod{POD_}.slice/cri-containerd-A64.scope"),
            format!("/system.slice/containerd.service/kubepods-pod{POD_}.slice:cri-containerd:A64"),
            format!("/kubepods/pod11111111-1111-1111-1111-111111111111/pod{POD}/crio-A64.scope"),
        ] {
            check(&path, &[(A, Some(POD), &path)]);
        }
        let short = format!("/kubepods/pod{}/A64", &POD[1..]);
        check(&short, &[(A, None, &short)]);
        let odd = format!("/kubepods/pod{}/A64", POD.replace('-', "."));
        check(&odd, &[(A, None, &odd)]);
        check(&format!("/kubepods/pod{POD}"), &[]); // no container, no answer
    }

    #[test]
    fn lines_are_hierarchy_controllers_and_path() {
        let content = b"12:cpu,cpuacct:/docker/a\n1:name=systemd:/x:y\n0::/\n";
        assert_eq!(
            parse(content),
            Ok(vec![
                Membership { hierarchy: 12, controllers: b"cpu,cpuacct", path: b"/docker/a" },
                Membership { hierarchy: 1, controllers: b"name=systemd", path: b"/x:y" },
                Membership { hierarchy: 0, controllers: b"", path: b"/" },
            ])
        );
        assert_eq!(parse(b""), Ok(Vec::new()));
        for (content, line) in [
            (&b"0::/\nnonsense\n"[..], 2),
            (b"0:/", 1),
            (b":cpu:/", 1),
            (b"x::/", 1),
            (b"-1::/", 1),
            (b"+1::/", 1),
            (b"01::/", 1),
            (b"00::/", 1),
            (b"99999999999::/", 1),
            (b"0::relative", 1),
            (b"0::", 1),
            (b"\xff::/", 1),
        ] {
            assert_eq!(parse(content), Err(CgroupError { line }), "{content:?}");
        }
    }
}

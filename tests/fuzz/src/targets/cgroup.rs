//! `/proc/PID/cgroup`: a container comes only from a line as the kernel writes them, and what is
//! made below a container's cgroup does not change which one that is.

use steeple_agent::attest::cgroup::{self, Named};
use steeple_agent::attest::container::{self, Candidate};

use crate::input::{Input, Seed};
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "cgroup",
    check,
    seeds,
    words: &[
        "0::/",
        "12:cpu,cpuacct:/",
        "1:name=systemd:/",
        "docker-",
        ".scope",
        "/../",
        "kubepods",
        "pod",
        "72f7f152-440c-66ac-9084-e0fc1d8a910c",
        "72f7f152_440c_66ac_9084_e0fc1d8a910c",
        "libpod-conmon-",
        ":cri-containerd:",
        A,
        B,
    ],
    max_length: 4096,
};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The file, and what somebody puts below the cgroup in each of its lines.
fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let below = input.chunk();
    let content = input.rest();
    let lines: Vec<&[u8]> =
        content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let parsed = cgroup::parse(content);
    assert_eq!(parsed.is_ok(), lines.iter().all(|line| fields(line).is_some()), "{parsed:?}");
    let Ok(memberships) = parsed else { return };
    for (membership, line) in memberships.iter().zip(&lines) {
        let (hierarchy, controllers, path) = fields(line).unwrap();
        assert_eq!(membership.hierarchy.to_string().as_bytes(), hierarchy);
        assert_eq!((membership.controllers, membership.path), (controllers, path));
        check_path(path, below);
    }
    assert_eq!(memberships.len(), lines.len());
    if container::is_hidden(&memberships) {
        assert_eq!(container::of_cgroups(&memberships), Ok(Vec::new()));
    }
    let Ok(candidates) = container::of_cgroups(&memberships) else { return };
    for candidate in &candidates {
        check_candidate(candidate, &lines);
    }
    let distinct = |index: usize| {
        candidates[..index].iter().all(|other| other.container != candidates[index].container)
    };
    assert!(candidates.len() <= 4 && (0..candidates.len()).all(distinct), "{candidates:?}");
}

/// A line of the kernel's (cgroups(7)): `HIERARCHY:CONTROLLERS:/PATH`.
fn fields(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (hierarchy, rest) = (&line[..colon], &line[colon + 1..]);
    let colon = rest.iter().position(|byte| *byte == b':')?;
    let (controllers, path) = (&rest[..colon], &rest[colon + 1..]);
    let number: u32 = std::str::from_utf8(hierarchy).ok()?.parse().ok()?;
    let as_written = number.to_string().as_bytes() == hierarchy;
    (as_written && path.first() == Some(&b'/')).then_some((hierarchy, controllers, path))
}

/// Each candidate has a cgroup in every hierarchy that it claims, which ends in its name.
fn check_candidate(candidate: &Candidate, lines: &[&[u8]]) {
    assert!(!candidate.cgroups.is_empty());
    for (hierarchy, cgroup) in &candidate.cgroups {
        let is_in = |line: &&[u8]| {
            let (number, _, path) = fields(line).unwrap();
            number == hierarchy.to_string().as_bytes()
                && path.strip_prefix(&**cgroup).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
        };
        assert!(lines.iter().any(is_in), "{candidate:?}");
        let segment = cgroup.rsplit(|byte| *byte == b'/').next().unwrap();
        assert!(stands_alone(candidate.container.as_str().as_bytes(), segment), "{candidate:?}");
    }
}

fn check_path(path: &[u8], below: &[u8]) {
    let named = cgroup::containers(path);
    let mut end = 0;
    for named in &named {
        let segment = path[end..named.end].rsplit(|byte| *byte == b'/').next().unwrap();
        assert!(stands_alone(named.container.as_str().as_bytes(), segment), "{named:?}");
        assert!(matches!(path[named.end..], [] | [b'/', ..]), "{named:?}");
        check_pod(named, &path[end..named.end]);
        end = named.end;
    }
    let deeper = [path, b"/", below].concat();
    assert!(cgroup::containers(&deeper).starts_with(&named), "{named:?}");
}

fn check_pod(named: &Named, between: &[u8]) {
    let Some(pod) = &named.pod else { return };
    let dashes = [8, 13, 18, 23];
    let fits = |(index, byte): (usize, u8)| {
        if dashes.contains(&index) { byte == b'-' } else { byte.is_ascii_hexdigit() }
    };
    assert!(pod.as_str().len() == 36 && pod.as_str().bytes().enumerate().all(fits), "{pod:?}");
    let text: Vec<u8> =
        between.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
    let wanted = format!("pod{pod}");
    assert!(text.windows(wanted.len()).any(|window| window == wanted.as_bytes()), "{named:?}");
}

/// Whether 64 lower-case hexadecimal digits are in a segment and not part of a longer word.
fn stands_alone(id: &[u8], segment: &[u8]) -> bool {
    let digits = id.len() == 64 && id.iter().all(|byte| b"0123456789abcdef".contains(byte));
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let around = |start: usize| {
        let before = start.checked_sub(1).and_then(|index| segment.get(index));
        [before, segment.get(start + 64)].into_iter().flatten().all(|byte| !is_word(*byte))
    };
    let mut windows = segment.windows(64).enumerate();
    digits && windows.any(|(start, window)| window == id && around(start))
}

fn seeds() -> Vec<Vec<u8>> {
    let pod = "72f7f152-440c-66ac-9084-e0fc1d8a910c";
    let pod_ = pod.replace('-', "_");
    [
        "0::/\n".to_owned(),
        format!("0::/system.slice/docker-{A}.scope\n"),
        format!("0::/../../docker/{A}\n"),
        format!("12:cpu,cpuacct:/docker/{A}\n2:freezer:/\n1:name=systemd:/docker/{A}\n0::/\n"),
        format!("0::/kubepods/burstable/pod{pod}/{A}\n"),
        format!("0::/kubepods.slice/kubepods-pod{pod_}.slice/cri-containerd-{A}.scope\n"),
        format!("0::/system.slice/containerd.service/kubepods-pod{pod_}.slice:cri-containerd:{B}"),
        format!("0::/machine.slice/libpod-{A}.scope/container\n"),
        format!("0::/libpod-conmon-{A}.scope\n"),
        format!("3:cpu:/docker/{A}/kubepods/pod{pod}/{B}/x\n0::/docker/{A}\n"),
        format!("3:cpu:/docker/{A}\n0::/docker/{B}\n"),
        format!("0::/kubepods/burstable/pod{pod}/{A}/docker/{B}\n"),
    ]
    .iter()
    .map(|content| Seed::default().chunk(format!("docker/{B}").as_bytes()).rest(content.as_bytes()))
    .collect()
}

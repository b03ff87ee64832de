//! `/proc/PID/mountinfo`: a cgroup comes only from a line as the kernel writes them, and is what
//! the kernel had before it escaped it.

use steeple_agent::attest::container;
use steeple_agent::attest::mountinfo::{MountinfoError, cgroup_roots};

use crate::input::{Input, Seed};
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "mountinfo",
    check,
    seeds,
    words: &[
        " - cgroup2 cgroup2 rw",
        " - cgroup cgroup rw,memory",
        " - ext4 /dev/sda1 rw",
        "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:7",
        "/docker/",
        "\\040",
        "\\012",
        "\\134",
        "//deleted",
        ID,
    ],
    max_length: 4096,
};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Three ways to a file: bytes as they are, or lines with these fields, escaped or not.
fn check(input: &[u8]) {
    let mut input = Input::new(input);
    match input.byte() % 2 {
        0 => check_file(input.rest()),
        _ => check_written(input),
    }
}

fn check_file(content: &[u8]) {
    let lines = content.split(|byte| *byte == b'\n').enumerate();
    let mut expected = Ok(Vec::new());
    for (index, line) in lines.filter(|(_, line)| !line.is_empty()) {
        match (&mut expected, mount(line)) {
            (Ok(roots), Some((root, b"cgroup" | b"cgroup2"))) if root != b"/" => {
                roots.push(unescape(root));
            }
            (Ok(_), None) => expected = Err(MountinfoError { line: index + 1 }),
            (Ok(_), Some(_)) | (Err(_), _) => {}
        }
    }
    assert_eq!(cgroup_roots(content), expected);
    let Ok(candidates) = container::of_mounts(content) else { return };
    for candidate in candidates {
        assert!(candidate.cgroups.is_empty(), "a mount is no evidence");
        let id = candidate.container.as_str().as_bytes();
        let roots = expected.as_ref().unwrap();
        assert!(roots.iter().any(|root| root.windows(id.len()).any(|window| window == id)));
    }
}

/// Root and type of a mount (proc_pid_mountinfo(5)): `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS
/// [TAG…] - TYPE SOURCE SUPER`.
fn mount(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let is_number = |field: &[u8]| !field.is_empty() && field.iter().all(u8::is_ascii_digit);
    let [id, parent, device, root, _point, _options, rest @ ..] = &*fields else { return None };
    let device: Vec<&[u8]> = device.split(|byte| *byte == b':').collect();
    let dash = rest.iter().position(|field| *field == b"-")?;
    let [kind, _source, ..] = rest.get(dash + 1..)? else { return None };
    let numbers = is_number(id) && is_number(parent) && device.len() == 2;
    let fits = numbers && device.into_iter().all(is_number) && !root.is_empty() && !kind.is_empty();
    fits.then_some((*root, *kind))
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut at = 0;
    while at < field.len() {
        let octal = field.get(at + 1..at + 4).and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            let digits = digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits)?;
            u8::from_str_radix(digits, 8).ok()
        });
        match octal {
            Some(byte) if field[at] == b'\\' => {
                text.push(byte);
                at += 4;
            }
            Some(_) | None => {
                text.push(field[at]);
                at += 1;
            }
        }
    }
    text
}

/// Whatever a cgroup, a mount point and a source are called, the cgroup is read as it is called,
/// and no name makes a mount of something else.
fn check_written(mut input: Input<'_>) {
    let mut file = Vec::new();
    let mut expected = Vec::new();
    while !input.is_empty() {
        let kind = input.choose(&["cgroup", "cgroup2", "ext4", "tmpfs", "overlay"]);
        let tags = input.choose(&["", " shared:7", " master:1 propagate_from:2"]);
        let (root, point, source) = (input.chunk(), input.chunk(), input.chunk());
        let root = [b"/", root].concat();
        if kind.starts_with("cgroup") && root != b"/" {
            expected.push(root.clone());
        }
        file.extend(b"30 25 0:26 ");
        file.extend(escape(&root));
        file.extend(b" /");
        file.extend(escape(point));
        file.extend(format!(" rw,nosuid{tags} - {kind} ").into_bytes());
        file.extend(escape(source));
        file.extend(b" rw\n");
    }
    assert_eq!(cgroup_roots(&file), Ok(expected));
}

/// What the kernel does (`seq_escape` of fs/proc_namespace.c).
fn escape(name: &[u8]) -> Vec<u8> {
    let escaped = |byte: &u8| match byte {
        b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
        _ => vec![*byte],
    };
    name.iter().flat_map(escaped).collect()
}

fn seeds() -> Vec<Vec<u8>> {
    let plain = [
        "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n".to_owned(),
        format!("30 25 0:26 /docker/{ID} /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
        format!(
            "1 2 0:26 /{ID} /p ro,nosuid master:1 shared:7 - cgroup cgroup rw,cpu\n\
             3 4 0:27 /b\\040c /q ro - cgroup cgroup rw,memory\n\
             5 6 8:1 /c /r rw - ext4 /dev/sda1 rw\n"
        ),
        "1 2 0:26 / /sys/fs/cgroup rw - tmpfs  rw,mode=755\n".to_owned(),
        "1 2 0:1 /a\\040b\\134c\\9\\07 /p rw - cgroup2 c rw".to_owned(),
        "1 2 0:26 /a /p rw cgroup2 c rw\n".to_owned(),
    ];
    let plain = plain.iter().map(|content| Seed::default().byte(0).rest(content.as_bytes()));
    let id = format!("docker/{ID}");
    let line = |seed: Seed, kind, root: &[u8], point: &[u8]| {
        seed.byte(kind).byte(kind).chunk(root).chunk(point).chunk(b"none")
    };
    let one = line(Seed::default().byte(1), 1, id.as_bytes(), b"sys/fs/cgroup");
    let two = line(one.clone(), 2, b"a", b"x\n1 2 0:26 /docker /p rw - cgroup2 c rw");
    plain.chain([one.rest(b""), two.rest(b"")]).collect()
}

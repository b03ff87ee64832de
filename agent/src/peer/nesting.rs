//! In which of the PID namespaces right below this agent's a process is.
//!
//! A container has one, and whatever is made inside is below that: a process may become any user and
//! make namespaces of its own, and cannot leave the one it was put into.

use std::ffi::c_void;
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};

use super::proc::{self, Namespace, NamespaceId};

/// Where a process is, as seen from this agent.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Nesting {
    /// In the PID namespace that this agent is in.
    Here,
    /// In this one, which is right below this agent's, or further down.
    Below(NamespaceId),
    /// This agent may not know.
    Unknown,
}

/// `NS_GET_PARENT` of `linux/nsfs.h`.
struct Parent;

impl Nesting {
    /// That of the process behind a `/proc/PID` handle.
    pub(super) fn of(directory: BorrowedFd<'_>) -> Self {
        let (own, its) = (Namespace::Pid.own(), proc::namespace(directory, Namespace::Pid));
        match (own, its) {
            (None, _) | (_, None) => Self::Unknown,
            (Some(own), Some(its)) if its == own => Self::Here,
            // Without an answer from the kernel, the innermost tells it apart as well as can be.
            (Some(own), Some(its)) => Self::Below(outermost(directory, own).unwrap_or(its)),
        }
    }
}

/// The namespace that the process is in and that is right below `own`.
fn outermost(directory: BorrowedFd<'_>, own: NamespaceId) -> Result<NamespaceId, Errno> {
    let mut inner = proc::open(directory, c"ns/pid", OFlags::RDONLY)?;
    // The kernel nests no more than 32, and has no parent to tell of beyond this agent's own.
    loop {
        let outer = parent(inner.as_fd())?;
        if NamespaceId::of(outer.as_fd())? == own {
            return NamespaceId::of(inner.as_fd());
        }
        inner = outer;
    }
}

#[expect(unsafe_code, reason = "no crate has this call")]
fn parent(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // SAFETY: the call has no argument, changes nothing, and fails on what is no namespace.
    unsafe { ioctl(namespace, Parent) }
}

// SAFETY: the call takes no pointer, so none is read or written, and returns a new descriptor.
#[expect(unsafe_code, reason = "no crate has this call")]
unsafe impl Ioctl for Parent {
    type Output = OwnedFd;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        opcode::none(0xb7, 2)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> Result<OwnedFd, Errno> {
        // SAFETY: the call has succeeded, so this is a descriptor that nobody else knows of.
        Ok(unsafe { OwnedFd::from_raw_fd(out) })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::peer::process::Process;

    /// A process that waits to be told to end, started by these words.
    struct Started(Child);

    impl Started {
        fn by(words: &[&str]) -> Self {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).arg("cat").stdin(Stdio::piped()).stdout(Stdio::null());
            Self(command.spawn().unwrap())
        }

        /// Where its last descendant is that runs `cat`, once there is one.
        fn nesting(&self) -> Option<Nesting> {
            let mut pid = self.0.id();
            while let Some(child) = child_of(pid) {
                pid = child;
            }
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (name == "cat\n").then(|| Process::open(pid).ok().map(|process| process.nesting()))?
        }

        fn wait_for_nesting(&self) -> Nesting {
            loop {
                if let Some(nesting) = self.nesting() {
                    return nesting;
                }
                std::thread::yield_now();
            }
        }
    }

    impl Drop for Started {
        fn drop(&mut self) {
            drop(self.0.stdin.take());
            self.0.wait().unwrap();
        }
    }

    fn child_of(pid: u32) -> Option<u32> {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_ascii_whitespace().next()?.parse().ok()
    }

    #[test]
    fn a_process_beside_this_one_is_here() {
        assert_eq!(Started::by(&["env"]).wait_for_nesting(), Nesting::Here);
    }

    #[test]
    fn a_namespace_within_a_namespace_is_told_apart_from_no_other_inside() {
        let unshare: &[&str] = &["unshare", "--pid", "--fork"];
        let permitted = Command::new(unshare[0]).args(&unshare[1..]).arg("true").status();
        if !permitted.is_ok_and(|status| status.success()) {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "no namespaces here");
            std::io::stderr().write_all(b"SKIPPED PID namespaces: none may be made\n").unwrap();
            return;
        }
        let outer = Started::by(unshare);
        let Nesting::Below(first) = outer.wait_for_nesting() else { panic!("not below") };
        let own = Namespace::Pid.own().unwrap();
        let other = Started::by(unshare).wait_for_nesting();
        assert_ne!(other, Nesting::Below(first));
        let innermost = Started::by(&[unshare, unshare].concat());
        let Nesting::Below(found) = innermost.wait_for_nesting() else { panic!("not below") };
        let child = child_of(innermost.0.id()).unwrap();
        let middle = Process::open(child).unwrap().namespace(Namespace::Pid).unwrap();
        assert_eq!(found, middle);
        assert_ne!(found, own);
    }
}

//! A client's socket. The kernel tells of it when there is something to read, and not whenever the
//! client has read something: that would wake the agent once more for every answer.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use steeple::watch::{Watched, watch};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// A connection, made by a client.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Watched,
    /// There while the client leaves no room for an answer, to learn when there is some.
    full: Option<Watched>,
}

impl Wire {
    /// Takes over a connection that does not block.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: watch(Arc::new(socket), Interest::READABLE)?, full: None })
    }

    /// Writes by `write` as soon as there is room.
    fn poll_by(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(BorrowedFd<'_>) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(full) = &self.full {
                let mut room = ready!(full.poll_write_ready(cx))?;
                if let Ok(written) = room.try_io(|socket| Ok(write(socket.get_ref().as_fd())?)) {
                    return Poll::Ready(written);
                }
                continue;
            }
            match write(self.socket.get_ref().as_fd()) {
                Err(Errno::AGAIN) => {
                    let again = self.socket.get_ref().try_clone()?;
                    self.full = Some(watch(Arc::new(again), Interest::WRITABLE)?);
                }
                written => return Poll::Ready(Ok(written?)),
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut something = ready!(self.socket.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled();
            let asked = room.len();
            let read = something.try_io(|socket| Ok(rustix::io::read(socket.get_ref(), room)?));
            let Ok(read) = read else { continue };
            let read = read?;
            // Who is told of what comes, and has read less than it asked for, has read all.
            if 0 < read && read < asked {
                something.clear_ready();
            }
            buf.advance(read);
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_by(cx, |socket| send(socket, buf, SendFlags::NOSIGNAL))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_by(cx, |socket| rustix::io::writev(socket, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // All is written, so there was room.
        self.get_mut().full = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(self.socket.get_ref(), Shutdown::Write)?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixStream;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn pair() -> (Wire, tokio::net::UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        for stream in [&ours, &theirs] {
            stream.set_nonblocking(true).unwrap();
        }
        (Wire::new(ours.into()).unwrap(), tokio::net::UnixStream::from_std(theirs).unwrap())
    }

    #[tokio::test]
    async fn what_comes_in_pieces_of_any_size_is_read_up_to_the_end() {
        let (mut wire, mut client) = pair();
        let write = async move {
            for n in 0..200_u8 {
                client.write_all(&vec![n; usize::from(n) * 40]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let read = async {
            let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
            while let length @ 1.. = wire.read(&mut buffer).await.unwrap() {
                read.extend_from_slice(&buffer[..length]);
            }
            read
        };
        let ((), read) = tokio::join!(write, read);
        assert_eq!(read.len(), (0..200).sum::<usize>() * 40);
        assert!(read.is_sorted());
    }

    #[tokio::test]
    async fn a_client_that_reads_late_gets_all_and_holds_nothing_after_it() {
        let (mut wire, mut client) = pair();
        let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_be_bytes).collect();
        let write = async {
            wire.write_all(&sent).await.unwrap();
            assert!(wire.full.is_some());
            wire.flush().await.unwrap();
            assert!(wire.full.is_none());
            wire.shutdown().await.unwrap();
        };
        let read = async {
            tokio::task::yield_now().await;
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.unwrap();
            read
        };
        let ((), read) = tokio::join!(write, read);
        assert!(read == sent);
    }

    #[tokio::test]
    async fn a_client_that_leaves_without_reading_ends_the_wait_for_room() {
        let (mut wire, client) = pair();
        let write = async {
            let written = wire.write_all(&[7; 4_000_000]).await;
            (written, wire.full.is_some())
        };
        let leave = async move {
            tokio::task::yield_now().await;
            drop(client);
        };
        let ((written, was_full), ()) = tokio::join!(write, leave);
        assert!(was_full);
        assert!(written.is_err());
    }

    const IN: u32 = 1;
    const OUT: u32 = 4;

    /// What of these the kernel tells of a descriptor, as it says itself (`proc_pid_fdinfo(5)`).
    fn told_of(descriptor: &OwnedFd) -> BTreeSet<u32> {
        let all = std::fs::read_dir("/proc/self/fdinfo").unwrap();
        // Others open and close theirs meanwhile.
        let all = all.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
        let line = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let of = (words.next()? == "tfd:").then(|| words.next())??;
            let events = words.nth(1)?;
            (of == descriptor.as_raw_fd().to_string())
                .then(|| u32::from_str_radix(events, 16).unwrap() & (IN | OUT))
        };
        all.flat_map(|text| text.lines().filter_map(line).collect::<Vec<_>>()).collect()
    }

    /// What is told here is that the client has sent something, and not that it has read.
    #[tokio::test]
    async fn a_client_that_reads_wakes_nobody() {
        let (mut wire, mut client) = pair();
        assert_eq!(told_of(wire.socket.get_ref()), [IN].into());
        let write = async {
            wire.write_all(&[7; 4_000_000]).await.unwrap();
            assert_eq!(told_of(wire.full.as_ref().unwrap().get_ref()), [OUT].into());
            wire.flush().await.unwrap();
        };
        let mut read = vec![0; 4_000_000];
        let ((), read) = tokio::join!(write, client.read_exact(&mut read));
        read.unwrap();
        assert_eq!(told_of(wire.socket.get_ref()), [IN].into());
    }

    #[tokio::test]
    async fn a_client_that_has_gone_is_an_error() {
        let (mut wire, client) = pair();
        drop(client);
        assert_eq!(wire.read(&mut [0; 8]).await.unwrap(), 0);
        let error = wire.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}

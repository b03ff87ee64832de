//! A connection that is written to in as few pieces as there are flushes.
//!
//! The HTTP/2 library writes a message, and what it has collected before and after that, each by
//! itself where a writer takes several buffers at once, and the message as well where it does not.
//! Every piece costs a system call, a record of TLS where that is spoken, and wakes who reads.

use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much waits for what follows it, in bytes: the heads of a message and of what it is in.
const MOST: usize = 2048;

/// Keeps what is written, if it is little, until more comes or it is flushed. Says of itself that it
/// takes one buffer at a time, with which HTTP/2 puts messages of up to 1 KiB together with all
/// around them.
#[derive(Debug)]
pub struct Gathered<S> {
    io: S,
    /// Said to be written, and not written yet. Nothing is held for it while there is nothing.
    kept: Vec<u8>,
}

impl<S> Gathered<S> {
    /// Gathers what is written to `io`.
    pub const fn new(io: S) -> Self {
        Self { io, kept: Vec::new() }
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Writes what is kept.
    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.kept))?;
            self.written(written)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Forgets what of the kept was written; how much was written beyond it.
    fn written(&mut self, count: usize) -> io::Result<usize> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if count < self.kept.len() {
            self.kept.drain(..count);
            return Ok(0);
        }
        Ok(count - mem::take(&mut self.kept).len())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.kept.len() + buf.len() <= MOST {
            this.kept.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        while !this.kept.is_empty() {
            let both = [IoSlice::new(&this.kept), IoSlice::new(buf)];
            let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, &both))?;
            let beyond = this.written(written)?;
            if beyond > 0 {
                return Poll::Ready(Ok(beyond));
            }
        }
        Pin::new(&mut this.io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_release(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_release(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// Remembers in which pieces it was written to, and takes so much at a time.
    struct Pieces {
        written: Vec<Vec<u8>>,
        at_a_time: usize,
    }

    impl AsyncWrite for Pieces {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(buf)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut piece: Vec<u8> = bufs.iter().flat_map(|buf| buf.to_vec()).collect();
            piece.truncate(self.at_a_time);
            let length = piece.len();
            self.written.push(piece);
            Poll::Ready(Ok(length))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// The lengths of the pieces in which these are written, each flushed as far as it says.
    async fn pieces(at_a_time: usize, written: &[(usize, bool)]) -> Vec<usize> {
        let mut gathered = Gathered::new(Pieces { written: Vec::new(), at_a_time });
        let mut whole = Vec::new();
        for (n, (length, flushed)) in written.iter().enumerate() {
            let octets = vec![u8::try_from(n).unwrap(); *length];
            gathered.write_all(&octets).await.unwrap();
            whole.extend(octets);
            if *flushed {
                gathered.flush().await.unwrap();
                assert_eq!(gathered.kept.capacity(), 0);
            }
        }
        gathered.shutdown().await.unwrap();
        assert_eq!(gathered.io.written.concat(), whole);
        gathered.io.written.iter().map(Vec::len).collect()
    }

    #[tokio::test]
    async fn what_is_written_between_flushes_is_one_piece() {
        assert_eq!(pieces(usize::MAX, &[(9, false), (40, false), (10, true)]).await, [59]);
        assert_eq!(pieces(usize::MAX, &[(9, false), (9000, false), (10, true)]).await, [9009, 10]);
        assert_eq!(
            pieces(usize::MAX, &[(9000, true), (10, true), (20, true)]).await,
            [9000, 10, 20]
        );
        assert_eq!(pieces(usize::MAX, &[(MOST, false), (1, false)]).await, [MOST + 1]);
        assert_eq!(pieces(usize::MAX, &[(9, false), (0, false), (1, false)]).await, [10]);
        assert_eq!(pieces(usize::MAX, &[]).await, [0; 0]);
    }

    #[tokio::test]
    async fn nothing_is_lost_where_little_is_taken_at_a_time() {
        for at_a_time in 1..40 {
            pieces(at_a_time, &[(9, false), (3000, false), (10, true), (11, false)]).await;
        }
    }

    #[tokio::test]
    async fn who_takes_nothing_is_an_error() {
        let mut gathered = Gathered::new(Pieces { written: Vec::new(), at_a_time: 0 });
        gathered.write_all(b"x").await.unwrap();
        assert_eq!(gathered.flush().await.unwrap_err().kind(), io::ErrorKind::WriteZero);
        let more = gathered.write_all(&[0; MOST]).await.unwrap_err();
        assert_eq!(more.kind(), io::ErrorKind::WriteZero);
    }

    /// What is kept is written once there is room for it, however often that is asked for.
    #[tokio::test]
    async fn a_full_connection_is_waited_for() {
        let (near, mut far) = duplex(16);
        let mut gathered = Gathered::new(near);
        let write = async {
            for _ in 0..100 {
                gathered.write_all(&[7; 30]).await.unwrap();
                gathered.flush().await.unwrap();
            }
            gathered.write_all(&[7; 9000]).await.unwrap();
            gathered.shutdown().await.unwrap();
        };
        let mut read = Vec::new();
        let ((), length) = tokio::join!(write, async { far.read_to_end(&mut read).await.unwrap() });
        assert_eq!(length, 12_000);
    }
}

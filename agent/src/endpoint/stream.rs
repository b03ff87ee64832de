//! A client's connection as the HTTP/2 server reads it: through the filter, and not for ever.

use std::future::Future as _;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tracing::debug;

use super::authority::Filter;

/// A buffer that is not worth keeping while the client is silent.
const IDLE_BUFFER: usize = 1024;

/// How much is filtered ahead of the server's reading. An octet of a header block can stand for
/// kilobytes, so that what a client sent, however little, is not all filtered at once.
const AHEAD: usize = 16 * 1024;

/// How much is filtered at a time.
const STEP: usize = 128;

/// How much is read at a time.
const READ: usize = 4096;

/// Reads through a [`Filter`], writes straight through.
#[derive(Debug)]
pub struct PeerStream<S> {
    io: S,
    filter: Filter,
    /// Filtered, and not yet read by the server.
    ready: BytesMut,
    /// Read from the client, and not yet filtered.
    behind: BytesMut,
    /// Nothing more will be read from the client.
    ended: bool,
    patience: Duration,
    /// Runs while the client owes the rest of what it began.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> PeerStream<S> {
    /// The preface, and each header block, has to be complete `patience` after it could begin.
    pub fn new(io: S, patience: Duration) -> Self {
        let (filter, ready, behind) = (Filter::default(), BytesMut::new(), BytesMut::new());
        Self { io, filter, ready, behind, ended: false, patience, waiting: None }
    }

    fn hand_out(&mut self, buf: &mut ReadBuf<'_>) {
        let now = self.ready.len().min(buf.remaining());
        buf.put_slice(self.ready.get(..now).unwrap_or_default());
        self.ready.advance(now);
        if self.ready.is_empty() && self.ready.capacity() > IDLE_BUFFER {
            self.ready = BytesMut::new();
        }
    }

    /// Filters the input until enough is ready, and keeps what is left.
    fn filter(&mut self, mut input: &[u8]) -> io::Result<()> {
        while !input.is_empty() && !self.ended && self.ready.len() < AHEAD {
            let (now, rest) = input.split_at(input.len().min(STEP));
            self.filter_step(now)?;
            input = rest;
        }
        self.behind.extend_from_slice(input);
        Ok(())
    }

    fn filter_step(&mut self, input: &[u8]) -> io::Result<()> {
        let Err(error) = self.filter.push(input, &mut self.ready) else {
            if !self.filter.owes() {
                self.waiting = None;
            }
            return Ok(());
        };
        debug!(error = &error as &dyn std::error::Error, "connection refused");
        self.ended = true;
        match error.last_frame() {
            Some(frame) => {
                self.ready.put_slice(&frame);
                Ok(())
            }
            None => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    /// Decides how long to wait for a client from which nothing comes.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.filter.owes() {
            return Poll::Pending;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PeerStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.ready.is_empty() && !this.ended && buf.remaining() > 0 {
            if !this.behind.is_empty() {
                let behind = mem::take(&mut this.behind);
                this.filter(&behind)?;
                continue;
            }
            let mut room = [0; READ];
            let mut read = ReadBuf::new(&mut room);
            match Pin::new(&mut this.io).poll_read(cx, &mut read) {
                Poll::Pending => return this.poll_patience(cx),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
            this.ended = read.filled().is_empty();
            this.filter(read.filled())?;
        }
        this.hand_out(buf);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PeerStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::endpoint::authority::PREFACE;

    /// Every octet of the later blocks stands for four thousand, as no table has pseudo-headers.
    #[tokio::test]
    async fn a_client_that_says_little_does_not_make_much_be_held() {
        let value = [b'b'; 4000];
        let first = [&[0x40, 1, b':', 0x7f, 0xa1, 0x1e][..], &value].concat();
        let mut sent = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0x0f, 0xa6]].concat();
        sent.extend([1, 4, 0, 0, 0, 1]);
        sent.extend(first);
        sent.extend([0, 0, 4, 1, 4, 0, 0, 0, 1, 0xbe, 0xbe, 0xbe, 0xbe].repeat(400));
        let mut whole = BytesMut::new();
        Filter::default().push(&sent, &mut whole).unwrap();
        assert!(whole.len() > 400 * 16_000);

        let mut stream = PeerStream::new(&*sent, Duration::from_secs(5));
        let (mut read, mut buffer) = (Vec::new(), vec![0; 8192]);
        loop {
            let length = stream.read(&mut buffer).await.unwrap();
            let held = stream.ready.capacity() + stream.behind.capacity();
            assert!(held < 512 * 1024, "{held}");
            if length == 0 {
                break;
            }
            read.extend_from_slice(&buffer[..length]);
        }
        assert_eq!(read, whole);
    }
}

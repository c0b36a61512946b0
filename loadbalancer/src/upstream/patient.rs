//! A connection to a backend on which an answer is still read after writing has failed.
//!
//! A backend that refuses an upload answers before it has read everything and closes. The rest of the
//! upload then meets a reset, while the answer waits in the receive buffer. An error of a write would
//! end the connection before that answer is read; so it is held back for [`ANSWER_WAIT`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use kv_tls::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long an answer may take that comes after a failed write.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct PatientStream {
    stream: Stream,
    /// A failed write, and the end of its time.
    failed: Option<(io::ErrorKind, Pin<Box<Sleep>>)>,
    /// Whether reading has come to its end: then there is nothing to wait for.
    read_over: bool,
    /// Whether a write has failed, for others to see.
    write_failed: Arc<AtomicBool>,
}

impl PatientStream {
    /// Wraps a connection; `write_failed` is set when a write fails.
    pub(super) fn new(stream: Stream, write_failed: Arc<AtomicBool>) -> Self {
        PatientStream {
            stream,
            failed: None,
            read_over: false,
            write_failed,
        }
    }

    fn write<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.failed.is_none() {
            match ready!(write(Pin::new(&mut self.stream), cx)) {
                Ok(done) => return Poll::Ready(Ok(done)),
                Err(error) => {
                    self.write_failed.store(true, Relaxed);
                    self.failed = Some((error.kind(), Box::pin(tokio::time::sleep(ANSWER_WAIT))));
                }
            }
        }
        let Some((kind, wait)) = &mut self.failed else {
            return Poll::Pending;
        };
        if !self.read_over {
            ready!(wait.as_mut().poll(cx));
        }
        Poll::Ready(Err((*kind).into()))
    }
}

impl AsyncRead for PatientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut this.stream).poll_read(cx, buf));
        if result.is_err() || (buf.filled().len() == before && buf.remaining() > 0) {
            this.read_over = true;
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for PatientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .write(cx, |stream, cx| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().write(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

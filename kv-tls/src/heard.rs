//! Waiting for a server's first word.
//!
//! With TLS 1.3 a client is done with the handshake before the server has looked at its certificate. A
//! refusal then comes in place of the first answer, when a request may already be on its way and its
//! outcome would be unknown. Whoever waits for the first word before it sends requests knows.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

use crate::error::explain;

/// A stream that tells when something was read for the first time.
#[derive(Debug)]
pub struct Heard<S> {
    stream: S,
    first: Option<oneshot::Sender<Result<(), String>>>,
}

/// Wraps a stream. The other value resolves with the first bytes that are read, or with the reason why
/// there are none. Somebody must be reading.
pub fn heard<S>(stream: S) -> (Heard<S>, oneshot::Receiver<Result<(), String>>) {
    let (sender, first) = oneshot::channel();
    let stream = Heard {
        stream,
        first: Some(sender),
    };
    (stream, first)
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut this.stream).poll_read(cx, buf));
        if let Some(first) = this.first.take() {
            let _ = first.send(match &result {
                Ok(()) if buf.filled().len() > before => Ok(()),
                Ok(()) => Err("closed by the other side".to_owned()),
                Err(error) => Err(explain(error)),
            });
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

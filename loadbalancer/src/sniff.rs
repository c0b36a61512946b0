//! Finds out which version of HTTP a client speaks, from the first bytes of its connection.
//!
//! HTTP/2 without TLS begins with a fixed preface of 24 bytes (RFC 9113, 3.4). What was read to find
//! out is handed back in front of the rest.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose first bytes were read already.
#[derive(Debug)]
pub struct Sniffed<T> {
    /// Whether it begins with the preface of HTTP/2.
    pub is_http2: bool,
    head: [u8; PREFACE.len()],
    unread: std::ops::Range<usize>,
    stream: T,
}

/// Reads until the version is clear: one byte is enough for HTTP/1.
///
/// # Errors
/// Those of the stream; `UnexpectedEof` if it ends before anything was sent.
pub async fn sniff<T: AsyncRead + Unpin>(mut stream: T) -> io::Result<Sniffed<T>> {
    let mut head = [0; PREFACE.len()];
    let mut len = 0;
    while len < head.len() && head[..len] == PREFACE[..len] {
        match stream.read(&mut head[len..]).await? {
            0 if len == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            0 => break,
            n => len += n,
        }
    }
    Ok(Sniffed {
        is_http2: head == PREFACE,
        head,
        unread: 0..len,
        stream,
    })
}

impl<T: AsyncRead + Unpin> AsyncRead for Sniffed<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.unread.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let n = this.unread.len().min(buf.remaining());
        buf.put_slice(&this.head[this.unread.start..this.unread.start + n]);
        this.unread.start += n;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Sniffed<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// Sends `bytes` one by one and returns the verdict and all that can be read afterwards.
    async fn sniffed(bytes: &[u8]) -> io::Result<(bool, Vec<u8>)> {
        let (mut client, server) = tokio::io::duplex(1);
        let bytes = bytes.to_vec();
        let writer = tokio::spawn(async move { client.write_all(&bytes).await });
        let mut stream = sniff(server).await?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await?;
        writer.await.expect("no panic")?;
        Ok((stream.is_http2, all))
    }

    #[tokio::test]
    async fn versions_are_told_apart_and_no_byte_is_lost() {
        for (bytes, is_http2) in [
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrest"[..], true),
            (b"GET / HTTP/1.1\r\n\r\n", false),
            (b"PRI * HTTP/2.0\r\n\r\nSX", false),
            (b"P", false),
            (b"PUT /v1/kv/a HTTP/1.1\r\n", false),
        ] {
            let (found, all) = sniffed(bytes).await.expect("no error");
            assert_eq!((found, &all[..]), (is_http2, bytes));
        }
        assert_eq!(
            sniffed(b"").await.unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}

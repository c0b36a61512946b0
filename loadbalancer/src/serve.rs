//! Listening: accepts connections, speaks HTTP/1.1 or HTTP/2 on each as the client does, and ends them
//! in good order.
//!
//! Each connection has bounds in number, in time (for its first bytes, for heads, for dead peers) and in
//! size (of heads, streams and windows). On [`Shutdown::drain`] nothing new is accepted, HTTP/2 clients
//! get GOAWAY, and what is in flight goes on until [`Shutdown::kill`].

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kv_tls::ServerTls;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::ProxyBody;
use crate::sniff::{Sniffed, sniff};

/// The longest head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The most headers of a request.
const HEADERS_MAX: usize = 128;
/// Streams that a client may have on one connection.
const STREAMS_MAX: u32 = 1024;
/// How much a client may send on one stream before the node has taken it.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The same for all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes that are buffered per stream towards a client.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// An HTTP/2 client is pinged after this time...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// ...and given up if it does not answer within this one.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait after a failed accept (out of file descriptors), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const FULL_ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    connection: close\r\ncontent-length: 66\r\n\r\n\
    {\"error\":\"too many connections\",\"code\":8,\"outcome\":\"not_executed\"}";

/// The bounds of one listener.
#[derive(Debug, Clone, Copy)]
pub struct ListenerLimits {
    /// Connections at a time.
    pub connections_max: usize,
    /// Time for the first bytes, and for each HTTP/1.1 head; so an idle HTTP/1.1 connection ends too.
    pub header_timeout: Duration,
}

/// What is counted about a listener.
#[derive(Debug, Default)]
pub struct ListenerStats {
    /// Connections now.
    pub open: AtomicUsize,
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections turned away because there were too many.
    pub rejected: AtomicU64,
}

/// How the listeners and connections are told to end.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Take nothing new, finish what is in flight.
    pub drain: CancellationToken,
    /// End now.
    pub kill: CancellationToken,
    /// Everything that must end.
    pub tasks: TaskTracker,
}

/// One listener with its bounds, counters and end.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its bounds.
    pub limits: ListenerLimits,
    /// Its counters.
    pub stats: Arc<ListenerStats>,
    /// Its end.
    pub shutdown: Shutdown,
    /// For clients, who then must speak TLS.
    pub tls: Option<ServerTls>,
}

/// On a request: it came through TLS.
#[derive(Debug, Clone, Copy)]
pub struct CameByTls;

impl Server {
    /// Accepts connections until told to drain, and answers their requests with `service`.
    pub async fn run<S, F>(self, listener: TcpListener, service: S)
    where
        S: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + 'static,
        F: Future<Output = Response<ProxyBody>> + Send + 'static,
    {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.drain.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if self.stats.open.fetch_add(1, Relaxed) >= self.limits.connections_max {
                self.stats.open.fetch_sub(1, Relaxed);
                self.stats.rejected.fetch_add(1, Relaxed);
                turn_away(stream).await;
                continue;
            }
            self.stats.accepted.fetch_add(1, Relaxed);
            let connection = self.clone().connection(stream, client, service.clone());
            self.shutdown.tasks.spawn(connection);
        }
    }

    async fn connection<S, F>(self, stream: TcpStream, client: SocketAddr, service: S)
    where
        S: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + 'static,
        F: Future<Output = Response<ProxyBody>> + Send + 'static,
    {
        let result = tokio::select! {
            () = self.shutdown.kill.cancelled() => Ok(()),
            result = self.speak(stream, client, service) => result,
        };
        if let Err(error) = result {
            tracing::debug!(%client, %error, "connection of a client ended");
        }
        self.stats.open.fetch_sub(1, Relaxed);
    }

    async fn speak<S, F>(
        &self,
        stream: TcpStream,
        client: SocketAddr,
        service: S,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
    where
        S: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + 'static,
        F: Future<Output = Response<ProxyBody>> + Send + 'static,
    {
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return self.speak_http(stream, client, service).await;
        };
        let handshake = tls.accept(stream);
        let shaken = tokio::select! {
            () = self.shutdown.drain.cancelled() => return Ok(()),
            shaken = handshake => shaken,
        };
        let (stream, _) = shaken?;
        let marked = move |mut request: Request<Incoming>, client| {
            request.extensions_mut().insert(CameByTls);
            service(request, client)
        };
        self.speak_http(stream, client, marked).await
    }

    async fn speak_http<T, S, F>(
        &self,
        stream: T,
        client: SocketAddr,
        service: S,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + 'static,
        F: Future<Output = Response<ProxyBody>> + Send + 'static,
    {
        let drain = &self.shutdown.drain;
        let sniffed = tokio::select! {
            () = drain.cancelled() => return Ok(()),
            sniffed = tokio::time::timeout(self.limits.header_timeout, sniff(stream)) => sniffed,
        };
        let Ok(Ok(stream)) = sniffed else { return Ok(()) };
        let service = service_fn(move |request| {
            let response = service(request, client);
            async move { Ok::<_, std::convert::Infallible>(response.await) }
        });
        if stream.is_http2 {
            let mut connection = pin!(http2().serve_connection(TokioIo::new(stream), service));
            tokio::select! {
                result = connection.as_mut() => return Ok(result?),
                () = drain.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            Ok(connection.await?)
        } else {
            self.speak_http1(stream, service).await
        }
    }

    async fn speak_http1<T, S>(
        &self,
        stream: Sniffed<T>,
        service: S,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: hyper::service::Service<
                Request<Incoming>,
                Response = Response<ProxyBody>,
                Error = std::convert::Infallible,
            >,
        S::Future: Send + 'static,
    {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        tokio::select! {
            result = connection.as_mut() => return Ok(result?),
            () = self.shutdown.drain.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        Ok(connection.await?)
    }
}

fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX as u32);
    builder
}

/// Says why before it closes, to whoever can read it.
async fn turn_away(mut stream: TcpStream) {
    let said: io::Result<()> = async {
        stream.try_write(FULL_ANSWER)?;
        stream.shutdown().await
    }
    .await;
    if let Err(error) = said {
        tracing::debug!(%error, "a client that was turned away was gone already");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_answer_states_its_length() {
        let text = std::str::from_utf8(FULL_ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
    }
}

//! Listening sockets and the HTTP server behind them.
//!
//! `axum::serve` leaves Nagle's algorithm on and sets no time limit on headers, so connections are
//! served with hyper-util's builder: HTTP/1.1 and HTTP/2 on one port, drained on shutdown.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{http::Request, response::Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use kv_tls::{PeerCertificate, ServerTls, ServerTlsStream as TlsStream};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::urls::Listen;

/// A client that has not sent its headers within this time is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle HTTP/2 connections are probed this often, and closed when the probe is not answered.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests under way on one HTTP/2 connection.
const STREAMS_MAX: u32 = 4096;
/// Flow-control windows.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Connections the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;
/// How long clients' requests under way may take after shutdown began.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after `accept` failed, typically for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a node cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", advice(source, flag))]
pub struct ListenError {
    /// The address.
    pub address: String,
    /// The flag that chooses it.
    pub flag: &'static str,
    /// Why.
    pub source: io::Error,
}

fn advice(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("stop what uses the port, or choose another with {flag}"),
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine has no such address; choose one that it has with {flag}")
        }
        _ => format!("choose another address with {flag}"),
    }
}

/// Binds all addresses that `host:port` stands for.
///
/// # Errors
/// When one of them cannot be bound.
pub async fn listen(host_port: &str, flag: &'static str) -> Result<Vec<TcpListener>, ListenError> {
    let failed = |source| ListenError {
        address: host_port.to_owned(),
        flag,
        source,
    };
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(host_port)
        .await
        .map_err(failed)?
        .collect();
    // "localhost" is 127.0.0.1 and ::1; a machine without IPv6 has only the first.
    let (v4, v6): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv4);
    let mut listeners = v4
        .iter()
        .map(|address| bind(*address))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    for address in v6 {
        match bind(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if listeners.is_empty() => return Err(failed(error)),
            Err(error) => tracing::debug!(%address, %error, "not listening"),
        }
    }
    Ok(listeners)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What is spoken on a port.
#[derive(Clone)]
pub enum Security {
    /// HTTP without TLS.
    Plain,
    /// HTTP over TLS.
    Tls(ServerTls),
    /// Both: the first byte tells.
    Either(ServerTls),
}

impl Security {
    /// As an address of the configuration says.
    ///
    /// # Errors
    /// When it says TLS and there is no certificate.
    pub fn of(place: &Listen, tls: Option<&ServerTls>) -> anyhow::Result<Security> {
        Ok(match (place.https, tls) {
            (false, _) => Security::Plain,
            (true, None) => anyhow::bail!("https://{} needs a certificate", place.address),
            (true, Some(tls)) if place.http => Security::Either(tls.clone()),
            (true, Some(tls)) => Security::Tls(tls.clone()),
        })
    }
}

/// Serves until `shutdown`, then lets requests under way finish for `drain`. No connection is left when it
/// returns.
pub async fn serve<S>(
    listener: TcpListener,
    security: Security,
    service: S,
    shutdown: CancellationToken,
    drain: Duration,
) where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let builder = Arc::new(builder);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let (stream, client) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            // Frees what ended connections leave behind.
            Some(_) = connections.join_next() => continue,
            () = shutdown.cancelled() => break,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot turn Nagle's algorithm off");
        }
        let (builder, watcher, service) = (builder.clone(), graceful.watcher(), service.clone());
        match &security {
            Security::Plain => connections.spawn(connection(builder, watcher, stream, service)),
            Security::Tls(_) | Security::Either(_) => {
                let handshake = handshake(security.clone(), stream, client);
                let handshake = shutdown.clone().run_until_cancelled_owned(handshake);
                connections.spawn(secured(handshake, builder, watcher, service))
            }
        };
    }
    drop(listener);
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() && !drain.is_zero() {
        tracing::info!("some requests did not finish in time");
    }
    connections.shutdown().await;
}

type Builder = Arc<auto::Builder<TokioExecutor>>;

async fn connection<S, T>(builder: Builder, watcher: Watcher, stream: T, service: S)
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connection =
        builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(%error, "connection ended");
    }
}

/// A connection on a port with TLS, once it is known what is spoken on it.
enum Secured {
    Tls(Box<TlsStream<TcpStream>>, Option<PeerCertificate>),
    Plain(TcpStream),
}

/// None: the connection is over; the log says why.
async fn handshake(security: Security, stream: TcpStream, client: SocketAddr) -> Option<Secured> {
    let shaken = async {
        match security {
            Security::Plain => Ok(Secured::Plain(stream)),
            Security::Either(_) if !kv_tls::begins_tls(&stream).await? => Ok(Secured::Plain(stream)),
            Security::Either(tls) | Security::Tls(tls) => {
                let (stream, peer) = tls.accept(stream).await?;
                Ok(Secured::Tls(Box::new(stream), peer))
            }
        }
    };
    let shaken: io::Result<Secured> = shaken.await;
    match shaken {
        Ok(secured) => Some(secured),
        // Whoever connects and says nothing: a probe of the port, a client that thought better of it.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
        Err(error) => {
            tracing::warn!(%client, %error, "connection refused");
            None
        }
    }
}

async fn secured<S>(
    handshake: impl Future<Output = Option<Option<Secured>>> + Send,
    builder: Builder,
    watcher: Watcher,
    service: S,
) where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    match handshake.await.flatten() {
        None => {}
        Some(Secured::Plain(stream)) => connection(builder, watcher, stream, service).await,
        Some(Secured::Tls(stream, None)) => connection(builder, watcher, *stream, service).await,
        Some(Secured::Tls(stream, Some(peer))) => {
            let service = WithPeer { service, peer };
            connection(builder, watcher, *stream, service).await;
        }
    }
}

/// Puts the certificate that the client showed on each of its requests, as an extension.
#[derive(Clone)]
struct WithPeer<S> {
    service: S,
    peer: PeerCertificate,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for WithPeer<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> S::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.service.call(request)
    }
}

//! Connections: accepting, bounding, draining.
//!
//! HTTP/1.1 only, which is what browsers and the balancer speak to it. Every wait for a client has a bound: for its
//! headers here, for its body in [`crate::BODY_BYTES_MAX`]'s module, so that slow clients cannot hold the app.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The most connections at once. One more waits in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 2048;
/// The longest a client may take to send the head of a request; also how long a connection may be idle.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that requests in flight are waited for at shutdown. Longer than a registration may take.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept: without file descriptors left, the next attempt fails at once, too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The address could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has the port.
    #[error("cannot listen on {address}: the port is taken; choose another with --listen")]
    Taken {
        /// The address asked for.
        address: String,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Other {
        /// The address asked for.
        address: String,
        /// What the operating system says.
        source: io::Error,
    },
}

/// A bound port, ready to serve.
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// Binds `address`, `host:port`. Port 0 asks the operating system for a free one.
    ///
    /// # Errors
    /// [`BindError`]
    pub async fn bind(address: &str) -> Result<Server, BindError> {
        match TcpListener::bind(address).await {
            Ok(listener) => Ok(Server { listener }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(BindError::Taken {
                address: address.to_owned(),
            }),
            Err(source) => Err(BindError::Other {
                address: address.to_owned(),
                source,
            }),
        }
    }

    /// The address that was bound.
    ///
    /// # Errors
    /// If the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` resolves; then takes no new connection, lets requests in flight end, and returns after
    /// [`DRAIN_TIMEOUT`] at the latest.
    pub async fn serve(self, router: Router, shutdown: impl Future<Output = ()> + Send) {
        let Server { listener } = self;
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            let next = async {
                let slot = slots.clone().acquire_owned().await;
                (slot, listener.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                () = &mut shutdown => break,
                next = next => next,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = graceful.watch(connection(stream, router.clone()));
                    connections.spawn(async move {
                        let _slot = slot;
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "connection ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
        drop(listener);
        if timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
            tracing::warn!("some requests did not end within {DRAIN_TIMEOUT:?}; closing their connections");
        }
        connections.shutdown().await;
    }
}

type Connection = http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>>;

fn connection(stream: TcpStream, router: Router) -> Connection {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}

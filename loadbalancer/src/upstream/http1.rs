//! HTTP/1.1 to a backend: a stack of idle connections, the last used first.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;

use super::connect::{ConnectError, connect};
use super::{Failure, Limits};
use crate::replay::ReplayBody;

/// An idle connection is not used again after this time: the backend may be about to close it.
const IDLE_MAX: Duration = Duration::from_secs(8);
/// The longest head of a response.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// The HTTP/1.1 connections to one backend.
#[derive(Debug)]
pub struct Http1Pool {
    addr: SocketAddr,
    connect_timeout: Duration,
    response_timeout: Duration,
    idle_max: usize,
    idle: Mutex<Vec<(SendRequest<ReplayBody>, Instant)>>,
    open: Arc<AtomicUsize>,
}

/// A connection taken out of the pool for one request.
#[derive(Debug)]
pub struct Http1Connection {
    send: SendRequest<ReplayBody>,
    pool: Arc<Http1Pool>,
}

impl Http1Pool {
    /// A pool without connections yet.
    #[must_use]
    pub fn new(addr: SocketAddr, limits: &Limits) -> Self {
        Http1Pool {
            addr,
            connect_timeout: limits.connect_timeout,
            response_timeout: limits.response_timeout,
            idle_max: limits.http1_idle_max,
            idle: Mutex::new(Vec::new()),
            open: Arc::default(),
        }
    }

    /// Connections that stand, idle or in use.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// An idle connection, or a new one.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connection(self: &Arc<Self>) -> Result<Http1Connection, ConnectError> {
        if let Some(send) = self.take_idle() {
            return Ok(Http1Connection {
                send,
                pool: Arc::clone(self),
            });
        }
        let stream = connect(self.addr, self.connect_timeout).await?;
        let (send, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| ConnectError::Handshake)?;
        let open = Arc::clone(&self.open);
        open.fetch_add(1, Relaxed);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to a backend ended");
            }
            open.fetch_sub(1, Relaxed);
        });
        Ok(Http1Connection {
            send,
            pool: Arc::clone(self),
        })
    }

    fn take_idle(&self) -> Option<SendRequest<ReplayBody>> {
        let mut idle = self.idle.lock();
        idle.retain(|(send, since)| !send.is_closed() && since.elapsed() < IDLE_MAX);
        // The one given back last may still be finishing its response.
        let at = idle.iter().rposition(|(send, _)| send.is_ready())?;
        Some(idle.swap_remove(at).0)
    }
}

impl Http1Connection {
    /// Sends a request and waits for the head of its response.
    ///
    /// # Errors
    /// [`Failure`], by whether the backend can have executed the request.
    pub async fn send(&mut self, request: Request<ReplayBody>) -> Result<Response<Incoming>, Failure> {
        let limit = self.pool.response_timeout;
        match tokio::time::timeout(limit, self.send.try_send_request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(mut failed)) => {
                let unsent = failed.take_message().is_some();
                let text = failed.into_error().to_string();
                Err(if unsent {
                    Failure::NotExecuted(text)
                } else {
                    Failure::Broken(text)
                })
            }
            Err(_) => Err(Failure::Timeout(limit)),
        }
    }

    /// Gives the connection back once the response has been read to its end.
    pub fn give_back(self) {
        let mut idle = self.pool.idle.lock();
        if idle.len() < self.pool.idle_max && !self.send.is_closed() {
            idle.push((self.send, Instant::now()));
        }
    }
}

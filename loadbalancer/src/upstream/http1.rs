//! HTTP/1.1 to a backend: a stack of idle connections, the last used first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use kv_tls::Alpn;
use parking_lot::Mutex;

use super::connect::{ConnectError, Dial};
use super::patient::PatientStream;
use super::{Failure, Limits};
use crate::replay::ReplayBody;

/// An idle connection is not used again after this time: the backend may be about to close it.
const IDLE_MAX: Duration = Duration::from_secs(8);
/// The longest head of a response.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// The HTTP/1.1 connections to one backend.
#[derive(Debug)]
pub struct Http1Pool {
    dial: Dial,
    connect_timeout: Duration,
    response_timeout: Duration,
    idle_max: usize,
    idle: Mutex<Vec<(Sender, Instant)>>,
    open: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Sender {
    send: SendRequest<ReplayBody>,
    write_failed: Arc<AtomicBool>,
}

/// A connection taken out of the pool for one request.
#[derive(Debug)]
pub struct Http1Connection {
    sender: Sender,
    pool: Arc<Http1Pool>,
}

impl Http1Pool {
    /// A pool without connections yet.
    #[must_use]
    pub fn new(dial: Dial, limits: &Limits) -> Self {
        Http1Pool {
            dial,
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
        if let Some(sender) = self.take_idle() {
            return Ok(Http1Connection {
                sender,
                pool: Arc::clone(self),
            });
        }
        let stream = self.dial.connect(Alpn::Http1, self.connect_timeout).await?;
        let write_failed = Arc::new(AtomicBool::new(false));
        let stream = PatientStream::new(stream, Arc::clone(&write_failed));
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
            sender: Sender { send, write_failed },
            pool: Arc::clone(self),
        })
    }

    fn take_idle(&self) -> Option<Sender> {
        let mut idle = self.idle.lock();
        idle.retain(|(sender, since)| !sender.send.is_closed() && since.elapsed() < IDLE_MAX);
        // The one given back last may still be finishing its response.
        let at = idle.iter().rposition(|(sender, _)| sender.send.is_ready())?;
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
        let has_body = !request.body().is_end_stream();
        match tokio::time::timeout(limit, self.sender.send.try_send_request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(mut failed)) => {
                let unsent = failed.take_message().is_some();
                let text = failed.into_error().to_string();
                Err(if unsent {
                    Failure::NotExecuted(text)
                } else if has_body && self.sender.write_failed.load(Relaxed) {
                    Failure::Upload(text)
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
        if idle.len() < self.pool.idle_max && !self.sender.send.is_closed() {
            idle.push((self.sender, Instant::now()));
        }
    }
}

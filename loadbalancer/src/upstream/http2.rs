//! HTTP/2 to a node: a few connections, each made when first needed and shared by many requests.
//!
//! This sits on the `h2` crate and not on hyper's client: a request goes from the client's task
//! straight into the connection, without a channel and a task per request, and a stream that the node
//! refused can be told from one that broke.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use http_body::Body;
use kv_tls::{Alpn, Stream};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::connect::{ConnectError, Dial};
use super::{Failure, Limits};
use crate::replay::ReplayBody;

/// How much a node may send on one stream before the client has taken it.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The same for all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Bytes at the beginning of a body that are handed to the connection without asking for room: the
/// head and a small body then leave in one packet. The connection holds back what the node's window
/// does not allow.
const EAGER_BYTES: usize = 64 << 10;
/// Bytes that a connection buffers per stream towards the node.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// The longest head of a response.
const HEADER_LIST_BYTES_MAX: u32 = 64 << 10;
/// A connection that has streams is pinged this often; etcd's servers allow no more than one in 5 s.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(6);
/// A ping unanswered for this long ends the connection: its requests fail with an unknown outcome.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);
/// The same for the ping that follows a health check without an answer.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// The HTTP/2 connections to one node.
#[derive(Debug)]
pub struct Http2Pool {
    dial: Dial,
    connect_timeout: Duration,
    slots: Box<[Arc<Slot>]>,
    next: AtomicUsize,
    probe: Arc<Notify>,
}

/// A place for one connection.
#[derive(Debug, Default)]
struct Slot {
    current: Mutex<Option<Http2Connection>>,
    /// Held while a connection is being made: one attempt serves all that wait.
    connecting: tokio::sync::Mutex<()>,
    attempts: AtomicU64,
    last_error: Mutex<Option<ConnectError>>,
}

/// A connection that takes requests.
#[derive(Debug, Clone)]
pub struct Http2Connection {
    send: SendRequest<Bytes>,
    streams: Arc<AtomicUsize>,
}

/// Counts a stream on its connection until dropped; keepalive pings go only where there are some.
#[derive(Debug)]
pub struct StreamCount(Arc<AtomicUsize>);

impl Drop for StreamCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Http2Pool {
    /// A pool without connections yet.
    #[must_use]
    pub fn new(dial: Dial, limits: &Limits) -> Self {
        Http2Pool {
            dial,
            connect_timeout: limits.connect_timeout,
            slots: (0..limits.http2_connections.max(1))
                .map(|_| Arc::default())
                .collect(),
            next: AtomicUsize::new(0),
            probe: Arc::default(),
        }
    }

    /// Pings on every connection that has streams, now: the node may be frozen. What does not answer
    /// is closed, so that reads go to another node and writes are told that their outcome is unknown.
    pub fn probe(&self) {
        self.probe.notify_waiters();
    }

    /// Connections that stand.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.slots
            .iter()
            .filter(|slot| slot.current.lock().is_some())
            .count()
    }

    /// A connection that stands, made now if need be.
    ///
    /// # Errors
    /// [`ConnectError`], also when the attempt that failed was another request's.
    pub async fn connection(&self) -> Result<Http2Connection, ConnectError> {
        let slot = &self.slots[self.next.fetch_add(1, Relaxed) % self.slots.len()];
        if let Some(connection) = slot.current.lock().clone() {
            return Ok(connection);
        }
        let seen = slot.attempts.load(Relaxed);
        let _turn = slot.connecting.lock().await;
        if let Some(connection) = slot.current.lock().clone() {
            return Ok(connection);
        }
        if slot.attempts.load(Relaxed) != seen
            && let Some(error) = *slot.last_error.lock()
        {
            return Err(error);
        }
        let result = self.connect(slot).await;
        slot.attempts.fetch_add(1, Relaxed);
        *slot.last_error.lock() = result.as_ref().err().copied();
        result
    }

    async fn connect(&self, slot: &Arc<Slot>) -> Result<Http2Connection, ConnectError> {
        let stream = self.dial.connect(Alpn::Http2, self.connect_timeout).await?;
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .max_header_list_size(HEADER_LIST_BYTES_MAX);
        let (send, driver) = tokio::time::timeout(self.connect_timeout, builder.handshake(stream))
            .await
            .map_err(|_| ConnectError::Timeout(self.connect_timeout))?
            .map_err(|_| ConnectError::Handshake)?;
        let connection = Http2Connection {
            send,
            streams: Arc::default(),
        };
        *slot.current.lock() = Some(connection.clone());
        let streams = Arc::clone(&connection.streams);
        tokio::spawn(drive(
            driver,
            streams,
            Arc::downgrade(slot),
            Arc::clone(&self.probe),
        ));
        Ok(connection)
    }
}

/// Runs a connection to its end, and clears its place.
async fn drive(
    mut connection: h2::client::Connection<Stream, Bytes>,
    streams: Arc<AtomicUsize>,
    slot: Weak<Slot>,
    probe: Arc<Notify>,
) {
    let mut ping = connection.ping_pong();
    let keepalive = async {
        loop {
            let limit = tokio::select! {
                () = tokio::time::sleep(KEEPALIVE_INTERVAL) => KEEPALIVE_TIMEOUT,
                () = probe.notified() => PROBE_TIMEOUT,
            };
            let (Some(ping), true) = (&mut ping, streams.load(Relaxed) > 0) else {
                continue;
            };
            let pong = tokio::time::timeout(limit, ping.ping(h2::Ping::opaque())).await;
            if !matches!(pong, Ok(Ok(_))) {
                return;
            }
        }
    };
    tokio::select! {
        result = &mut connection => if let Err(error) = result {
            tracing::debug!(%error, "connection to a node ended");
        },
        () = keepalive => tracing::warn!("a node stopped answering pings: connection closed"),
    }
    if let Some(slot) = slot.upgrade() {
        slot.current
            .lock()
            .take_if(|current| Arc::ptr_eq(&current.streams, &streams));
    }
}

impl Http2Connection {
    /// Sends a request and waits for the head of its response. The rest of a request body that is
    /// still being sent by then goes on by itself.
    ///
    /// # Errors
    /// [`Failure`], by whether the node can have executed the request.
    pub async fn send(
        self,
        head: Request<()>,
        body: ReplayBody,
    ) -> Result<(Response<RecvStream>, StreamCount), Failure> {
        let not_executed = |e: h2::Error| Failure::NotExecuted(e.to_string());
        let mut send = self.send.ready().await.map_err(not_executed)?;
        let at_end = body.is_end_stream();
        let (mut response, stream) = send.send_request(head, at_end).map_err(not_executed)?;
        self.streams.fetch_add(1, Relaxed);
        let count = StreamCount(self.streams);

        let mut upload = (!at_end).then_some(Upload {
            stream,
            body,
            pending: None,
            eager: EAGER_BYTES,
        });
        let result = poll_fn(|cx| {
            if let Some(sending) = &mut upload
                && sending.poll(cx).is_ready()
            {
                upload = None;
            }
            Pin::new(&mut response).poll(cx)
        })
        .await;
        let response = result.map_err(sort)?;
        if let Some(mut upload) = upload {
            tokio::spawn(poll_fn(move |cx| upload.poll(cx)));
        }
        Ok((response, count))
    }
}

/// Says what an error on a stream means for its request.
fn sort(error: h2::Error) -> Failure {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    // h2 gives this error only to streams beyond the last one that the node says it took.
    let beyond_goaway = error.is_go_away();
    if error.is_remote() && (refused || beyond_goaway) {
        Failure::NotExecuted(error.to_string())
    } else {
        Failure::Broken(error.to_string())
    }
}

/// The request body on its way to the node, as fast as the node takes it.
struct Upload {
    stream: SendStream<Bytes>,
    body: ReplayBody,
    /// Data that waits for room, and whether it is the last.
    pending: Option<(Bytes, bool)>,
    /// What is left of [`EAGER_BYTES`].
    eager: usize,
}

impl Upload {
    /// Ready when everything is sent, or when there is no point in sending more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.pending.is_some() {
                if !ready!(self.poll_send_pending(cx)) {
                    return Poll::Ready(());
                }
                continue;
            }
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                // The node may be done with this stream before the client is.
                Poll::Pending => return self.stream.poll_reset(cx).map(|_| ()),
            };
            match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
                Some(Ok(Ok(data))) => {
                    let last = self.body.is_end_stream();
                    if let Some(left) = self.eager.checked_sub(data.len()) {
                        self.eager = left;
                        if self.stream.send_data(data, last).is_err() || last {
                            return Poll::Ready(());
                        }
                        continue;
                    }
                    self.eager = 0;
                    self.stream.reserve_capacity(data.len());
                    self.pending = Some((data, last));
                }
                Some(Ok(Err(frame))) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        let _ = self.stream.send_trailers(trailers);
                    }
                    return Poll::Ready(());
                }
                Some(Err(_)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(());
                }
                None => {
                    let _ = self.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Sends as much of what is pending as there is room for. False: the stream is over.
    fn poll_send_pending(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while let Some((mut data, last)) = self.pending.take() {
            let room = self.stream.capacity();
            if data.len() <= room || data.is_empty() {
                return Poll::Ready(self.stream.send_data(data, last).is_ok() && !last);
            }
            if room > 0 {
                let part = data.split_to(room);
                if self.stream.send_data(part, false).is_err() {
                    return Poll::Ready(false);
                }
                self.stream.reserve_capacity(data.len());
            }
            self.pending = Some((data, last));
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(false),
            }
        }
        Poll::Ready(true)
    }
}

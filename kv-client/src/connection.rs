//! One long-lived HTTP/2 connection to one endpoint.
//!
//! Not `tonic::transport::Channel`, because it cannot tell whether a request that failed had left this
//! process. Here dialling and sending are two steps, and hyper gives an unsent request back: that is the whole
//! difference between a write that may be sent again and one whose outcome is unknown.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kv_proto::body::ends_with_its_last_frame;
use kv_tls::{Alpn, ClientTls, heard};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::body::Body;

use crate::endpoint::Endpoint;
use crate::{Config, Error};

/// How long a connection with requests in flight may be silent before it is pinged. Not below the 5 s that etcd
/// allows by default, or it closes the connection; never pinged while idle, for the same reason.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(6);
/// How long the answer to a ping may take before the connection is given up.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(4);
/// Bytes that a server may send ahead on one request: enough that a large range is not held up, and all that is kept
/// for a watch that its owner does not read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The same for all requests of a connection: so much that a thousand unread watches hold up nothing else.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 30;

/// How connections are made.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    timeout: Duration,
    tls: Option<ClientTls>,
    /// Whether TLS is spoken with endpoints that do not say.
    tls_unless_said: bool,
}

impl Dialer {
    /// As a client is told to: with TLS if one of its endpoints or its files ask for it.
    ///
    /// # Errors
    /// [`Error::Tls`] if its files cannot be used.
    pub(crate) fn new(config: &Config) -> Result<Dialer, Error> {
        let mut tls = config.tls.is_wanted();
        let tls_unless_said = tls;
        for endpoint in &config.endpoints {
            tls |= Endpoint::parse(endpoint)?.wants_tls();
        }
        Ok(Dialer {
            timeout: config.dial_timeout,
            tls: tls.then(|| config.tls.load()).transpose()?,
            tls_unless_said,
        })
    }
}

/// A connection that is opened at its first use and again after it broke.
pub(crate) struct Connection {
    endpoint: Endpoint,
    dialer: Dialer,
    sender: Mutex<Option<SendRequest<Body>>>,
    /// Held while dialling, so that many requests wait for one connection.
    dialling: tokio::sync::Mutex<()>,
}

/// Why there is no connection. Nothing was sent.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DialError(String);

impl DialError {
    /// The kind of error in words where it has one; the rest, such as an unknown host name, says more itself.
    fn of_io(error: std::io::Error) -> DialError {
        DialError(match error.raw_os_error() {
            Some(_) => error.kind().to_string(),
            None => error.to_string(),
        })
    }
}

impl Connection {
    pub(crate) fn new(endpoint: Endpoint, dialer: &Dialer) -> Connection {
        Connection {
            endpoint: endpoint.with_tls_unless_said(dialer.tls_unless_said),
            dialer: dialer.clone(),
            sender: Mutex::new(None),
            dialling: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The open connection, after opening it where needed, for at most the dial timeout.
    pub(crate) async fn channel(&self) -> Result<Channel, DialError> {
        if let Some(channel) = self.open_channel() {
            return Ok(channel);
        }
        let dial = async {
            let _only_one = self.dialling.lock().await;
            match self.open_channel() {
                Some(channel) => Ok(channel),
                None => self.dial().await,
            }
        };
        match tokio::time::timeout(self.dialer.timeout, dial).await {
            Ok(result) => result,
            Err(_) => Err(DialError(format!(
                "no connection within {:?}",
                self.dialer.timeout
            ))),
        }
    }

    fn open_channel(&self) -> Option<Channel> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let open = sender.as_ref().filter(|sender| !sender.is_closed())?.clone();
        Some(Channel {
            sender: open,
            origin: self.endpoint.origin.clone(),
            token: None,
        })
    }

    async fn dial(&self) -> Result<Channel, DialError> {
        let stream = TcpStream::connect((self.endpoint.host.as_str(), self.endpoint.port))
            .await
            .map_err(DialError::of_io)?;
        stream.set_nodelay(true).map_err(DialError::of_io)?;
        if !self.endpoint.is_tls() {
            return self.open(stream).await;
        }
        let Some(tls) = &self.dialer.tls else {
            return Err(DialError(
                "https needs --cacert, or another https endpoint".to_owned(),
            ));
        };
        let stream = tls
            .connect(stream, &self.endpoint.host, Alpn::Http2)
            .await
            .map_err(DialError::of_io)?;
        let (stream, first) = heard(stream);
        let channel = self.open(stream).await?;
        // Before the first word the server may still refuse our certificate. Whoever sends before, does not know
        // what became of it.
        match first.await {
            Ok(Ok(())) => Ok(channel),
            Ok(Err(reason)) => Err(DialError(format!("TLS: {reason}"))),
            Err(_) => Err(DialError("TLS: the connection was closed".to_owned())),
        }
    }

    /// Speaks HTTP/2 on a stream.
    async fn open<S>(&self, stream: S) -> Result<Channel, DialError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| DialError(describe(&error)))?;
        let name = self.endpoint.to_string();
        // Ends when the last sender is dropped or the connection breaks; requests in flight hear of it themselves.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(endpoint = name, error = describe(&error), "connection ended");
            }
        });
        *self.sender.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender.clone());
        Ok(Channel {
            sender,
            origin: self.endpoint.origin.clone(),
            token: None,
        })
    }
}

/// What a generated tonic client sends its requests into.
#[derive(Clone)]
pub(crate) struct Channel {
    sender: SendRequest<Body>,
    pub(crate) origin: Uri,
    /// Shown with every request.
    token: Option<HeaderValue>,
}

impl Channel {
    pub(crate) fn with_token(self, token: Option<HeaderValue>) -> Channel {
        Channel { token, ..self }
    }

    /// Sends a request that is not gRPC.
    pub(crate) async fn http(mut self, request: Request<Body>) -> Result<Response<Incoming>, SendError> {
        self.send(request).await
    }

    fn send(
        &mut self,
        mut request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Incoming>, SendError>> + Send + use<> {
        if let Some(token) = &self.token {
            request.headers_mut().insert(TOKEN, token.clone());
        }
        let hint = match self.origin.scheme_str() {
            Some("https") => "",
            _ => " (does the server want https://?)",
        };
        let sent = self.sender.try_send_request(request);
        async move {
            sent.await.map_err(|error| match error.message() {
                Some(_) => SendError::NotSent(error.into_error(), hint),
                None => SendError::Broken(error.into_error()),
            })
        }
    }
}

/// etcd's metadata key of a token.
const TOKEN: &str = "token";

/// Why a request got no response.
#[derive(Debug)]
pub(crate) enum SendError {
    /// It never left this process; and what may help.
    NotSent(hyper::Error, &'static str),
    /// It may have reached the server.
    Broken(hyper::Error),
    /// Whoever answered does not speak gRPC.
    NotGrpc(StatusCode),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::NotSent(error, hint) => write!(f, "not sent: {}{hint}", describe(error)),
            SendError::Broken(error) => write!(f, "connection lost: {}", describe(error)),
            SendError::NotGrpc(status) => write!(
                f,
                "this is not a store's client port (HTTP status {})",
                status.as_u16()
            ),
        }
    }
}

// Without a source on purpose: tonic would look through it and make up a code of its own.
impl std::error::Error for SendError {}

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = SendError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, SendError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let sent = self.send(request.map(ends_with_its_last_frame));
        Box::pin(async move {
            let response = sent.await?;
            if is_grpc(&response) {
                Ok(response)
            } else {
                Err(SendError::NotGrpc(response.status()))
            }
        })
    }
}

/// Whether a response is gRPC's. Without this look, tonic takes the first byte of a page for a flag of gRPC's.
fn is_grpc<B>(response: &Response<B>) -> bool {
    let content_type = response
        .headers()
        .get(CONTENT_TYPE)
        .map_or(&[][..], |value| value.as_bytes());
    // A proxy may answer with gRPC's status and another one of HTTP: then gRPC's counts.
    response.headers().contains_key("grpc-status")
        || (response.status() == StatusCode::OK && content_type.starts_with(b"application/grpc"))
}

/// An error with its causes: hyper's own text names only the outermost.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

//! Asking other nodes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, StatusCode, Uri, header, uri::Authority};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kv_tls::{Alpn, ClientTls, Connector, Heard, Stream, heard};
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};

use super::messages::{ChangeAnswer, ChangeRequest, Hello, MemberAnswer, MemberRequest};
use crate::{bootstrap::agree::Ballot, membership::report::Report};

const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Changing the membership takes a commit or two.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(10);
/// Peers of which it is remembered what was said; beyond that it may be said again.
const TOLD_MAX: usize = 64;
/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Why a control call failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no connection: nothing was sent.
    #[error("{url}: {why}")]
    Unreached {
        /// Who was asked.
        url: String,
        /// Why not.
        why: String,
    },
    /// No answer, or not in time, or not what it should be.
    #[error("{url}: {why}")]
    Unanswered {
        /// Who was asked.
        url: String,
        /// Why not.
        why: String,
    },
    /// It answered that it could not.
    #[error("{url} answered {status}: {text}")]
    Status {
        /// Who was asked.
        url: String,
        /// The status.
        status: u16,
        /// The text with it.
        text: String,
    },
}

/// Carries one control call: the seam by which a simulation replaces the network.
pub type Carry = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Carried> + Send + Sync>;
/// What became of a call that was carried.
pub type Carried = Result<(StatusCode, Bytes), NotCarried>;

/// Why a call has no answer.
#[derive(Debug, Clone)]
pub enum NotCarried {
    /// It was never sent.
    Unreached(String),
    /// It may have been heard.
    Unanswered(String),
}

/// The client side of the control calls. Each has a connection of its own: they are rare.
#[derive(Clone)]
pub struct ControlClient {
    carry: Option<Carry>,
    tls: Option<ClientTls>,
    /// What was said of each peer with which TLS failed, so that it is said once.
    told: Arc<Mutex<BTreeMap<String, String>>>,
}

impl ControlClient {
    /// A client; `tls` is for https URLs.
    pub fn new(tls: Option<ClientTls>) -> ControlClient {
        ControlClient::over(None, tls)
    }

    /// A client whose calls are carried by `carry`, if there is one, instead of connections.
    pub fn over(carry: Option<Carry>, tls: Option<ClientTls>) -> ControlClient {
        ControlClient {
            carry,
            tls,
            told: Arc::default(),
        }
    }

    /// Asks who is at a peer URL.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn hello(&self, peer_url: &str) -> Result<Hello, ControlError> {
        self.call(Method::GET, peer_url, "/quorate/hello", None::<()>, CALL_TIMEOUT)
            .await
    }

    /// Asks a node to agree to a ballot.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn agree(&self, peer_url: &str, ballot: &Ballot) -> Result<Hello, ControlError> {
        self.call(
            Method::POST,
            peer_url,
            "/quorate/agree",
            Some(ballot),
            CALL_TIMEOUT,
        )
        .await
    }

    /// Asks a node to let another one in, or to note what it says of itself.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn members(
        &self,
        peer_url: &str,
        request: &MemberRequest,
    ) -> Result<MemberAnswer, ControlError> {
        self.call(
            Method::POST,
            peer_url,
            "/quorate/members",
            Some(request),
            MEMBERS_TIMEOUT,
        )
        .await
    }

    /// Asks a node to change the membership for a client.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn change(
        &self,
        peer_url: &str,
        request: &ChangeRequest,
    ) -> Result<ChangeAnswer, ControlError> {
        self.call(
            Method::POST,
            peer_url,
            "/quorate/change",
            Some(request),
            MEMBERS_TIMEOUT,
        )
        .await
    }

    /// Makes a node ask whether it is still a member.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn look_again(&self, peer_url: &str) -> Result<(), ControlError> {
        self.call(
            Method::POST,
            peer_url,
            "/quorate/look-again",
            None::<()>,
            CALL_TIMEOUT,
        )
        .await
    }

    /// Asks a node for the state of the membership; `None`: it does not lead.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn autopilot(&self, peer_url: &str) -> Result<Option<Report>, ControlError> {
        self.call(
            Method::GET,
            peer_url,
            "/quorate/autopilot",
            None::<()>,
            CALL_TIMEOUT,
        )
        .await
    }

    /// Nobody is there: that is common. But a peer that TLS keeps apart is a mistake that does not pass by itself,
    /// and is told.
    fn tell(&self, peer_url: &str, why: &str) {
        let mut told = self.told.lock();
        if peer_url.starts_with("https:") && told.get(peer_url).map(String::as_str) != Some(why) {
            if told.len() >= TOLD_MAX {
                told.clear();
            }
            tracing::warn!(peer_url, why, "a peer cannot be asked");
            told.insert(peer_url.to_owned(), why.to_owned());
        }
    }

    /// One request, one answer, both JSON. A name behind `#` in the URL is the one that the peer's
    /// certificate must be for.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        peer_url: &str,
        path: &str,
        body: Option<impl Serialize>,
        limit: Duration,
    ) -> Result<T, ControlError> {
        let (base, server_name) = match peer_url.split_once('#') {
            Some((base, name)) => (base, Some(name.to_owned())),
            None => (peer_url, None),
        };
        let url = format!("{base}{path}");
        let unanswered = |why| ControlError::Unanswered {
            url: url.clone(),
            why,
        };
        let request = request(method, &url, body).map_err(|error| unanswered(error.to_string()))?;
        let carried = match &self.carry {
            Some(carry) => match tokio::time::timeout(limit, carry(request)).await {
                Ok(carried) => carried,
                Err(_) => Err(NotCarried::Unanswered(format!("no answer within {limit:?}"))),
            },
            None => self.connect_and_ask(base, server_name, request, limit).await,
        };
        let (status, bytes) = carried.map_err(|error| match error {
            NotCarried::Unreached(why) => ControlError::Unreached {
                url: url.clone(),
                why,
            },
            NotCarried::Unanswered(why) => unanswered(why),
        })?;
        if !status.is_success() {
            return Err(ControlError::Status {
                status: status.as_u16(),
                text: String::from_utf8_lossy(&bytes).into_owned(),
                url,
            });
        }
        serde_json::from_slice(&bytes).map_err(|error| unanswered(error.to_string()))
    }

    /// One call on a connection of its own.
    async fn connect_and_ask(
        &self,
        base: &str,
        server_name: Option<String>,
        request: Request<Bytes>,
        limit: Duration,
    ) -> Carried {
        let connector = Connector {
            tls: self.tls.clone(),
            alpn: Alpn::Http1,
            server_name,
        };
        let unreached = |why: String| {
            self.tell(base, &why);
            NotCarried::Unreached(why)
        };
        let connected = tokio::time::timeout(CALL_TIMEOUT, connector.connect(request.uri())).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreached(error.to_string())),
            Err(_) => return Err(unreached(format!("no connection within {CALL_TIMEOUT:?}"))),
        };
        // A peer that refuses our certificate says so in place of its answer.
        let (stream, first) = heard(stream);
        match tokio::time::timeout(limit, exchange(stream, request.map(Full::new))).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(why)) => {
                let why = first.await.ok().and_then(Result::err).unwrap_or(why);
                self.tell(base, &why);
                Err(NotCarried::Unanswered(why))
            }
            Err(_) => Err(NotCarried::Unanswered(format!("no answer within {limit:?}"))),
        }
    }
}

fn request(method: Method, url: &str, body: Option<impl Serialize>) -> anyhow::Result<Request<Bytes>> {
    let uri: Uri = url.parse()?;
    let host = uri.authority().map_or("", Authority::as_str).to_owned();
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header(header::HOST, host);
    Ok(match body {
        None => request.body(Bytes::new())?,
        Some(body) => request
            .header(header::CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(&body)?.into())?,
    })
}

/// Sends a request on a new connection and reads the whole answer.
async fn exchange(
    stream: Heard<Stream>,
    mut request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), String> {
    // HTTP/1.1 names the path alone.
    let path = request.uri().path().parse().unwrap_or_default();
    *request.uri_mut() = path;
    let (mut send, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| with_causes(&error))?;
    let answer = async {
        let response = send
            .send_request(request)
            .await
            .map_err(|error| with_causes(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await;
        Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
    };
    // The connection may end before the answer on it has been read: the answer has the word.
    let driver = async {
        let _ = connection.await;
        std::future::pending::<()>().await
    };
    tokio::select! { answer = answer => answer, () = driver => Err("closed without an answer".to_owned()) }
}

/// An error with its causes: hyper names only the outermost.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

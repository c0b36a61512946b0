//! The active check of one backend: on a fresh connection, so that it tells whether the backend still
//! accepts any.
//!
//! `GET /readyz`; a server that knows no such path (etcd itself) is asked for `/health` from then on.
//! A node that is up is also asked for its member id, by which one node found under two addresses is
//! recognised, and for its cluster id, by which one of another cluster is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kv_proto::etcdserverpb::{StatusRequest, maintenance_client::MaintenanceClient};
use kv_tls::{Alpn, Heard, Stream, heard};
use tokio::sync::Notify;

use crate::backend::{Backend, Kind, LastCheck};
use crate::cluster::Cluster;
use crate::health::State;
use crate::upstream::Dial;

/// How much of an answer is read.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// How much of it is shown.
const SHOWN_CHARS_MAX: usize = 160;
/// A node that stays up is asked for its member id once in so many checks: another one may have taken
/// its address.
const IDENTIFY_EVERY: u32 = 20;

/// How often, and how long.
#[derive(Debug, Clone, Copy)]
pub struct CheckTiming {
    /// From the beginning of one check to that of the next.
    pub interval: Duration,
    /// A check that takes longer is a bad one.
    pub timeout: Duration,
}

/// Checks a backend for ever; `changed` is notified when its state or member id changes.
///
/// Before a good check counts, the node says who it is, and `cluster` judges it by that.
pub async fn watch(
    backend: Arc<Backend>,
    is_seed: bool,
    cluster: Arc<Cluster>,
    timing: CheckTiming,
    changed: Arc<Notify>,
) {
    let mut path = "/readyz";
    let mut until_identify = 0u32;
    let mut ticks = tokio::time::interval(timing.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let check = run(&backend.dial, &mut path, timing.timeout).await;
        if check.latency >= timing.timeout {
            backend.http2.probe();
        }
        if backend.kind == Kind::Node && check.good {
            // Another node may have come up at the address of one that was down.
            if backend.state().0 == State::Down {
                until_identify = 0;
            }
            if until_identify > 0 {
                until_identify -= 1;
            } else if let Some(id) = identify(&backend.dial, timing.timeout).await {
                until_identify = IDENTIFY_EVERY;
                let judged = cluster.reported(&backend, id.cluster, is_seed);
                if backend.set_member_id(id.member) || judged {
                    changed.notify_one();
                }
            }
        }
        if backend.checked(check) {
            until_identify = 0;
            changed.notify_one();
        }
    }
}

async fn run(dial: &Dial, path: &mut &'static str, timeout: Duration) -> LastCheck {
    let started = Instant::now();
    let probe = async {
        let answer = get(dial, path).await?;
        if answer.0 == StatusCode::NOT_FOUND && *path == "/readyz" {
            *path = "/health";
            return get(dial, path).await;
        }
        Ok(answer)
    };
    let (good, text) = match tokio::time::timeout(timeout, probe).await {
        Ok(Ok((status, _))) if status.is_success() => (true, format!("{path} {}", status.as_u16())),
        Ok(Ok((status, body))) => (false, format!("{path} {}: {body}", status.as_u16())),
        Ok(Err(error)) => (false, error.to_string()),
        Err(_) => (false, format!("{path}: no answer within {timeout:?}")),
    };
    LastCheck {
        good,
        text,
        latency: started.elapsed(),
        at: Instant::now(),
    }
}

/// A failed check without the chain of layers that it came through.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("cannot connect: {}", .0.kind())]
    Connect(std::io::Error),
    #[error("{0}")]
    Tls(std::io::Error),
    #[error("TLS: {0}")]
    Refused(String),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("closed without an answer")]
    Closed,
}

async fn get(dial: &Dial, path: &'static str) -> Result<(StatusCode, String), CheckError> {
    let stream = dial.tcp().await.map_err(CheckError::Connect)?;
    let stream = dial.secure(stream, Alpn::Http1).await.map_err(CheckError::Tls)?;
    // A backend that refuses our certificate says so in place of its answer.
    let (stream, first) = heard(stream);
    exchange(dial.addr, stream, path)
        .await
        .map_err(|error| match first.now_or_never() {
            Some(Ok(Err(reason))) if dial.tls.is_some() => CheckError::Refused(reason),
            _ => error,
        })
}

async fn exchange(
    addr: SocketAddr,
    stream: Heard<Stream>,
    path: &'static str,
) -> Result<(StatusCode, String), CheckError> {
    let (mut send, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async move {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = http::Uri::from_static(path);
        if let Ok(host) = addr.to_string().parse() {
            request.headers_mut().insert(header::HOST, host);
        }
        let response = send.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await;
        Ok((
            status,
            body.map_or_else(|_| String::new(), |body| first_line(&body.to_bytes())),
        ))
    };
    // The connection may end before the exchange has read what came on it: the exchange has the word.
    let driver = async {
        let _ = connection.await;
        std::future::pending::<()>().await
    };
    tokio::select! {
        result = exchange => result,
        () = driver => Err(CheckError::Closed),
    }
}

/// The first line that says something, cut to what can be shown.
fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    line.chars()
        .filter(|c| !c.is_control())
        .take(SHOWN_CHARS_MAX)
        .collect()
}

/// Who a node says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its member id.
    pub member: u64,
    /// The id of its cluster; 0 if it does not say.
    pub cluster: u64,
}

/// Who a node says it is; none if it does not.
pub async fn identify(dial: &Dial, timeout: Duration) -> Option<Identity> {
    let status = MaintenanceClient::new(dial.channel(timeout)?)
        .status(StatusRequest {})
        .await
        .ok()?;
    status
        .into_inner()
        .header
        .map(|header| Identity {
            member: header.member_id,
            cluster: header.cluster_id,
        })
        .filter(|id| id.member != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_text_is_one_short_line() {
        assert_eq!(first_line(b"\n  [-] leader: none\x07\nmore"), "[-] leader: none");
        assert_eq!(first_line(&[b'x'; 1000]).len(), SHOWN_CHARS_MAX);
        assert_eq!(first_line(b""), "");
    }
}

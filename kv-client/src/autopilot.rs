//! What a cluster does with its members of its own accord. Quorate's own: etcd has no such call, so it is plain HTTP.

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::connection::Channel;
use crate::{Client, Error, failover};

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What the leader sees of the members, and is about to change. IDs are hexadecimal, times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Autopilot {
    /// The leader.
    pub leader: String,
    /// The term in which it leads.
    pub term: u64,
    /// Whether all members answer and have caught up.
    pub healthy: bool,
    /// How many voters more may fail before there is no quorum.
    pub failure_tolerance: i64,
    /// `--min-voters` of the leader.
    pub min_voters: usize,
    /// `--max-voters` of the leader.
    pub max_voters: usize,
    /// `--reap-after` of the leader; 0: never.
    pub reap_after_ms: u64,
    /// By ID.
    pub members: Vec<AutopilotMember>,
    /// What this leader has decided, the newest first.
    pub decisions: Vec<AutopilotDecision>,
    /// The answer itself.
    #[serde(skip)]
    pub json: String,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AutopilotMember {
    /// Its ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// `leader`, `voter` or `learner`.
    pub role: String,
    /// `healthy`, `catching_up`, `silent` or `unstarted`.
    pub health: String,
    /// For how long it has been answering, or silent, as this leader knows.
    pub for_ms: u64,
    /// What happens to it next if nothing changes.
    pub next: Option<AutopilotNext>,
}

/// What is to happen to a member.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AutopilotNext {
    /// `promote`, `replace`, `remove` or `keep`.
    pub action: String,
    /// In how long, where that is a matter of time.
    pub in_ms: Option<u64>,
    /// The ID of the member that takes its place.
    pub by: Option<String>,
    /// Why it is kept, or what is waited for.
    pub why: Option<String>,
}

/// A change that the leader made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AutopilotDecision {
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// `promote`, `replace` or `remove`.
    pub action: String,
    /// The names of those it was about.
    pub members: Vec<String>,
    /// Why it may not have been made.
    pub error: Option<String>,
}

impl Client {
    /// Asks what the leader sees of the members, and is about to change, on whichever endpoint answers.
    ///
    /// # Errors
    /// [`Error::Rejected`] by what is no Quorate, [`Error::NoQuorum`], [`Error::Timeout`].
    pub async fn autopilot(&self) -> Result<Autopilot, Error> {
        failover::read(self.pool(), self.limits(), fetch).await
    }
}

async fn fetch(channel: Channel) -> Result<Autopilot, Status> {
    let uri = format!("{}v1/cluster/autopilot", channel.origin);
    let request = Request::get(uri)
        .body(Body::empty())
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let response = channel
        .http(request)
        .await
        .map_err(|error| Status::from_error(Box::new(error)))?;
    let status = response.status();
    let lost = |error: Box<dyn std::error::Error + Send + Sync>| {
        Status::unavailable(format!("answer lost: {error}"))
    };
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(lost)?
        .to_bytes();
    if status != StatusCode::OK {
        return Err(refusal(status, &body));
    }
    let json = String::from_utf8_lossy(&body).into_owned();
    let report = serde_json::from_slice::<Autopilot>(&body)
        .map_err(|error| Status::unimplemented(format!("the answer is not understood: {error}")))?;
    Ok(Autopilot { json, ..report })
}

/// What a server says in the place of an answer.
fn refusal(status: StatusCode, body: &[u8]) -> Status {
    #[derive(Deserialize)]
    struct Problem {
        message: String,
    }
    if status == StatusCode::NOT_FOUND {
        return Status::unimplemented("this server has no autopilot: it is etcd, or an older release");
    }
    let message = serde_json::from_slice::<Problem>(body).map_or_else(
        |_| {
            format!(
                "HTTP status {}: {}",
                status.as_u16(),
                String::from_utf8_lossy(body).trim_end()
            )
        },
        |problem| problem.message,
    );
    let code = if status.is_server_error() {
        Code::Unavailable
    } else {
        Code::FailedPrecondition
    };
    Status::new(code, message)
}

//! The rare calls between nodes beside Raft: who are you, do you agree, let me in. JSON over HTTP on
//! the peer port.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::agree::{self, Ballot, Seen};
use crate::{
    blocking::may_wait,
    identity::{DataDir, DirError, Identity},
    membership::{
        changes::Changed,
        rules::{Change, Refusal},
    },
    raft::types::Member,
};

/// The version of the protocol between nodes; nodes one apart work together.
pub const PROTOCOL: u32 = 1;
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Changing the membership takes a commit or two.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(10);

/// A node's answer to "who are you".
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// Its [`PROTOCOL`].
    pub protocol: u32,
    /// Drawn anew by each process: tells a node from another one with the same data.
    pub instance: u64,
    /// What it says of itself.
    pub seen: Seen,
    /// The members of its cluster, as last seen.
    pub members: BTreeMap<u64, Member>,
}

/// Asks the leader to let a node in, or to note its new addresses.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MemberRequest {
    /// The cluster meant.
    pub cluster_id: u64,
    /// The node.
    pub node_id: u64,
    /// Its name and addresses.
    pub member: Member,
    /// Whether a node that is not a member yet is to be added.
    pub join: bool,
}

/// The answer to a [`MemberRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum MemberAnswer {
    /// It is so.
    Done,
    /// Ask this one, which leads; `None`: nobody does right now.
    Leader(Option<Member>),
    /// The node asked belongs to another cluster: somebody else has its old address.
    OtherCluster(u64),
    /// No, and why.
    Refused(String),
    /// The node is not a member, and does not ask to become one: it was removed.
    Removed,
}

/// Asks the leader to change the membership for a client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChangeRequest {
    /// The cluster meant.
    pub cluster_id: u64,
    /// What is to change.
    pub change: Change,
}

/// The answer to a [`ChangeRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ChangeAnswer {
    /// It is so.
    Done(Changed),
    /// It must not be. Nothing has changed.
    Refused(Refusal),
    /// The node asked does not lead, or not with a quorum. Nothing has changed.
    NotLeader,
    /// It may have changed, or may still.
    Unknown,
}

/// Why a control call failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nothing answers, or not in time.
    #[error("{0}")]
    Http(#[from] reqwest::Error),
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

/// What this node is, shared between the calls of others and its own bootstrap.
pub struct Local {
    dir: DataDir,
    identity: Identity,
    member: Member,
    instance: u64,
}

impl Local {
    /// A node with its data directory.
    pub fn new(dir: DataDir, identity: Identity, member: Member) -> Local {
        Local {
            dir,
            identity,
            member,
            instance: rand::random(),
        }
    }

    /// What it says of itself.
    pub fn seen(&self) -> Seen {
        Seen {
            node_id: self.identity.node_id,
            member: Member {
                claim: self.identity.claim,
                ..self.member.clone()
            },
            cluster_id: self.identity.cluster_id,
            ballot: self.identity.ballot.clone(),
            floor: self.identity.floor,
        }
    }

    /// The stored identity.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Changes the identity: on disk first, then in memory.
    ///
    /// # Errors
    /// When the disk refuses; nothing has changed then.
    pub fn update(&mut self, change: impl FnOnce(&mut Identity)) -> Result<(), DirError> {
        let mut identity = self.identity.clone();
        change(&mut identity);
        if identity != self.identity {
            self.dir.save(&identity)?;
            self.identity = identity;
        }
        Ok(())
    }

    /// What it answers to "who are you".
    pub fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            instance: self.instance,
            seen: self.seen(),
            members: self.identity.members.clone(),
        }
    }
}

/// Carries out member requests: the running node, once there is one.
pub trait Members: Send + Sync + 'static {
    /// Lets a node in or notes what it says of itself, if this node leads.
    fn admit(&self, request: MemberRequest) -> BoxFuture<'_, MemberAnswer>;

    /// Makes a client's change, if this node leads.
    fn change(&self, change: Change) -> BoxFuture<'_, ChangeAnswer>;
}

/// The state behind the control routes.
#[derive(Clone)]
pub struct Control {
    /// Who this node is.
    pub local: Arc<Mutex<Local>>,
    /// Set when consensus runs.
    pub members: Arc<std::sync::OnceLock<Arc<dyn Members>>>,
}

/// The control routes of the peer port.
pub fn router(control: Control) -> Router {
    Router::new()
        .route("/quorate/hello", get(hello))
        .route("/quorate/agree", post(agree))
        .route("/quorate/members", post(members))
        .route("/quorate/change", post(change))
        .with_state(control)
}

async fn hello(State(control): State<Control>) -> Json<Hello> {
    Json(may_wait(|| control.local.lock().hello()))
}

/// Stores, then answers.
async fn agree(State(control): State<Control>, Json(asked): Json<Ballot>) -> Response {
    let agreed = may_wait(|| {
        let mut local = control.local.lock();
        if agree::may_agree(&local.seen(), &asked) {
            local.update(|identity| identity.hold(asked))?;
        }
        Ok::<_, DirError>(local.hello())
    });
    match agreed {
        Ok(hello) => Json(hello).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn members(State(control): State<Control>, Json(request): Json<MemberRequest>) -> Json<MemberAnswer> {
    let ours = may_wait(|| control.local.lock().identity().cluster_id);
    let answer = match control.members.get() {
        _ if ours.is_some_and(|ours| ours != request.cluster_id) => {
            MemberAnswer::OtherCluster(ours.unwrap_or_default())
        }
        Some(members) => members.admit(request).await,
        None => MemberAnswer::Leader(None),
    };
    Json(answer)
}

async fn change(State(control): State<Control>, Json(request): Json<ChangeRequest>) -> Json<ChangeAnswer> {
    let ours = may_wait(|| control.local.lock().identity().cluster_id);
    let answer = match control.members.get() {
        Some(members) if ours == Some(request.cluster_id) => {
            // A task of its own: a caller that goes away must not stop a change half way.
            let members = members.clone();
            let task = tokio::spawn(async move { members.change(request.change).await });
            task.await.unwrap_or(ChangeAnswer::Unknown)
        }
        _ => ChangeAnswer::NotLeader,
    };
    Json(answer)
}

/// The client side of the control calls.
#[derive(Clone)]
pub struct ControlClient(reqwest::Client);

impl ControlClient {
    /// A client without proxies: peers are reached directly.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub fn new() -> Result<ControlClient, ControlError> {
        Ok(ControlClient(
            reqwest::Client::builder()
                .no_proxy()
                .connect_timeout(CALL_TIMEOUT)
                .build()?,
        ))
    }

    /// Asks who is at a peer URL.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn hello(&self, peer_url: &str) -> Result<Hello, ControlError> {
        let url = format!("{peer_url}/quorate/hello");
        read(self.0.get(&url).timeout(CALL_TIMEOUT), url).await
    }

    /// Asks a node to agree to a ballot.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn agree(&self, peer_url: &str, ballot: &Ballot) -> Result<Hello, ControlError> {
        let url = format!("{peer_url}/quorate/agree");
        read(self.0.post(&url).timeout(CALL_TIMEOUT).json(ballot), url).await
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
        let url = format!("{peer_url}/quorate/members");
        read(self.0.post(&url).timeout(MEMBERS_TIMEOUT).json(request), url).await
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
        let url = format!("{peer_url}/quorate/change");
        read(self.0.post(&url).timeout(MEMBERS_TIMEOUT).json(request), url).await
    }
}

async fn read<T: DeserializeOwned>(request: reqwest::RequestBuilder, url: String) -> Result<T, ControlError> {
    let response = request.send().await?;
    if !response.status().is_success() {
        let status = response.status().as_u16();
        return Err(ControlError::Status {
            url,
            status,
            text: response.text().await.unwrap_or_default(),
        });
    }
    Ok(response.json().await?)
}

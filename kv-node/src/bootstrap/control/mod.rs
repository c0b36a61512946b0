//! The rare calls between nodes beside Raft: who are you, do you agree, let me in. JSON over HTTP on
//! the peer port. Here they are answered; `client` asks, `messages` is what is said, and `local` what a node knows
//! of itself.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::future::BoxFuture;
use parking_lot::Mutex;

mod client;
mod local;
mod messages;

use super::agree::{self, Ballot};
use crate::{
    blocking::may_wait,
    identity::DirError,
    membership::{report::Report, rules::Change},
};
pub use client::{Carried, Carry, ControlClient, ControlError, NotCarried};
pub use local::Local;
pub use messages::{
    ChangeAnswer, ChangeRequest, Hello, MemberAnswer, MemberRequest, PROTOCOL, PROTOCOL_MIN, Speaks,
};

/// Carries out member requests: the running node, once there is one.
pub trait Members: Send + Sync + 'static {
    /// Lets a node in or notes what it says of itself, if this node leads.
    fn admit(&self, request: MemberRequest) -> BoxFuture<'_, MemberAnswer>;

    /// Makes a client's change, if this node leads.
    fn change(&self, change: Change) -> BoxFuture<'_, ChangeAnswer>;

    /// Makes the node ask whether it is still a member.
    fn look_again(&self);

    /// The state of the membership, if this node leads.
    fn autopilot(&self) -> Option<Report>;
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
        .route("/quorate/autopilot", get(autopilot))
        .route("/quorate/look-again", post(look_again))
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

async fn look_again(State(control): State<Control>) -> Json<()> {
    if let Some(members) = control.members.get() {
        members.look_again();
    }
    Json(())
}

async fn autopilot(State(control): State<Control>) -> Json<Option<Report>> {
    Json(control.members.get().and_then(|members| members.autopilot()))
}

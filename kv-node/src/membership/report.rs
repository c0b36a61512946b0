//! What autopilot sees and is about to do, for people: `GET /v1/cluster/autopilot`, answered by the leader, on whichever
//! node it is asked for.

use std::time::{Duration, UNIX_EPOCH};

use openraft::async_runtime::watch::WatchReceiver;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Membership,
    autopilot::{Action, Kept},
    changes::REROUTE_PAUSE,
    pilot::Decision,
    rules::{Place, Roster},
};
use crate::{
    bootstrap::control::ControlError,
    raft::{leader::Leader, types::Standing},
};

/// The state of the membership. Ids are hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The cluster.
    pub cluster_id: String,
    /// The leader, which made this report.
    pub leader: String,
    /// The term in which it leads.
    pub term: u64,
    /// Whether all members answer and have caught up.
    pub healthy: bool,
    /// How many voters more may fail before there is no quorum.
    pub failure_tolerance: i64,
    /// `--min-voters`.
    pub min_voters: usize,
    /// `--max-voters`.
    pub max_voters: usize,
    /// `--reap-after`; 0: never.
    pub reap_after_ms: u64,
    /// By id.
    pub members: Vec<MemberReport>,
    /// What this leader has decided, the newest first.
    pub decisions: Vec<DecisionReport>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberReport {
    /// Its id.
    pub id: String,
    /// Its name; empty until it has started once.
    pub name: String,
    /// `--zone`.
    pub zone: String,
    /// What it is.
    pub role: Role,
    /// How it is.
    pub health: State,
    /// For how long it has been answering, or silent, since this leader leads.
    pub for_ms: u64,
    /// What happens to it next if nothing changes.
    pub next: Option<Next>,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It leads.
    Leader,
    /// It has a vote.
    Voter,
    /// It has none.
    Learner,
}

/// How a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It answers and has (nearly) everything.
    Healthy,
    /// It answers and has not yet everything.
    CatchingUp,
    /// It does not answer.
    Silent,
    /// A client made a place for it, which it has not taken.
    Unstarted,
}

/// What happens to a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// `promote`, `replace`, `remove` or `keep`.
    pub action: String,
    /// In how long; absent where that depends on something else than time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_ms: Option<u64>,
    /// Who takes its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why it is kept, or what is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionReport {
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// `promote`, `replace` or `remove`.
    pub action: String,
    /// The names of those it is about; of two that are replaced by each other, the one that went comes first.
    pub members: Vec<String>,
    /// Their ids.
    pub ids: Vec<String>,
    /// Why it may not have been made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Why there is no report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoReport {
    /// Nobody leads.
    #[error("no leader")]
    NoLeader,
    /// The leader cannot be asked.
    #[error("the leader does not tell: {0}")]
    Untold(String),
}

impl Roster {
    /// Whether all members answer and have caught up.
    pub fn is_healthy(&self) -> bool {
        let mut started = self.places.values().filter(|place| place.member.is_started());
        started.all(|place| place.answers && place.is_in_sync)
    }

    fn state(place: &Place) -> State {
        match place {
            place if !place.member.is_started() => State::Unstarted,
            place if !place.answers => State::Silent,
            place if !place.is_in_sync => State::CatchingUp,
            _ => State::Healthy,
        }
    }

    fn next(&self, id: u64) -> Option<Next> {
        let place = &self.places[&id];
        match Self::state(place) {
            State::Silent => Some(self.next_of_silent(id)),
            State::CatchingUp if !place.votes && place.member.standing != Standing::Learner => Some(Next {
                action: "promote".to_owned(),
                in_ms: None,
                by: None,
                why: Some("once it has caught up, and if there is room".to_owned()),
            }),
            State::Healthy => match self.decide() {
                Some(Action::Promote { ids }) if ids.contains(&id) => Some(Next {
                    action: "promote".to_owned(),
                    in_ms: Some(0),
                    by: None,
                    why: None,
                }),
                _ => None,
            },
            State::CatchingUp | State::Unstarted => None,
        }
    }

    /// What would be decided if it went on being silent.
    fn next_of_silent(&self, id: u64) -> Next {
        let keep = |kept: Kept| Next {
            action: "keep".to_owned(),
            in_ms: None,
            by: None,
            why: Some(kept.to_string()),
        };
        let Some(due_after) = self.due_after(id) else {
            return keep(Kept::ReapingIsOff);
        };
        let silent_for = self.places[&id].silent_for();
        let mut then = self.clone();
        let wait = due_after.saturating_sub(silent_for);
        for place in then.places.values_mut().filter(|place| !place.answers) {
            place.same_for += wait;
        }
        let by = match then.fate(id) {
            Ok(Action::Replace { by, .. }) => Some(format!("{by:x}")),
            Ok(_) => None,
            Err(kept) => return keep(kept),
        };
        Next {
            action: if by.is_some() { "replace" } else { "remove" }.to_owned(),
            in_ms: Some(millis(wait)),
            by,
            why: None,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

impl Membership {
    /// Asks the leader.
    ///
    /// # Errors
    /// When nobody leads by the deadline, or the leader cannot be asked.
    pub async fn ask_for_report(&self, deadline: Instant) -> Result<Report, NoReport> {
        let mut leadership = self.leadership.clone();
        let mut untold = None;
        loop {
            match leadership.current() {
                Leader::Here => return Ok(self.report()),
                Leader::There(_, leader) => {
                    match self.ask_leader_for_report(leader.peer_urls.first()).await {
                        Ok(Some(report)) => return Ok(report),
                        Ok(None) => {}
                        // An older release does not know the question.
                        Err(error @ ControlError::Status { .. }) => {
                            return Err(NoReport::Untold(error.to_string()));
                        }
                        Err(error) => untold = Some(NoReport::Untold(error.to_string())),
                    }
                }
                Leader::Unknown => {}
            }
            if Instant::now() >= deadline {
                return Err(untold.unwrap_or(NoReport::NoLeader));
            }
            leadership
                .changed(deadline.min(Instant::now() + REROUTE_PAUSE))
                .await;
        }
    }

    async fn ask_leader_for_report(&self, url: Option<&String>) -> Result<Option<Report>, ControlError> {
        let Some(url) = url else { return Ok(None) };
        let report = self.client.autopilot(url).await?;
        // Somebody else may have the leader's old address.
        let is_ours = |report: &Report| report.cluster_id == format!("{:x}", self.cluster_id);
        Ok(report.filter(is_ours))
    }

    /// Whether all is well, and how many voters more may fail; `None`: another node knows.
    pub fn health_here(&self) -> Option<(bool, i64)> {
        (self.leadership.current() == Leader::Here).then(|| {
            let roster = self.roster();
            (roster.is_healthy(), roster.failure_tolerance())
        })
    }

    /// As this node sees it, which leads.
    pub(super) fn report(&self) -> Report {
        let roster = self.roster();
        let own = *self.raft.node_id();
        let policy = roster.policy;
        let member = |(id, place): (&u64, &Place)| MemberReport {
            id: format!("{id:x}"),
            name: place.member.name.clone(),
            zone: place.member.zone.clone(),
            role: match place {
                _ if *id == own => Role::Leader,
                place if place.votes => Role::Voter,
                _ => Role::Learner,
            },
            health: Roster::state(place),
            for_ms: millis(place.same_for),
            next: roster.next(*id),
        };
        Report {
            cluster_id: format!("{:x}", self.cluster_id),
            leader: format!("{own:x}"),
            term: self.raft.server_metrics().borrow_watched().vote.leader_id.term,
            healthy: roster.is_healthy(),
            failure_tolerance: roster.failure_tolerance(),
            min_voters: policy.min_voters,
            max_voters: policy.max_voters,
            reap_after_ms: policy.reap_after.map_or(0, millis),
            members: roster.places.iter().map(member).collect(),
            decisions: self.decisions.lock().iter().map(DecisionReport::of).collect(),
        }
    }
}

impl DecisionReport {
    fn of(decision: &Decision) -> DecisionReport {
        let at = decision.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        DecisionReport {
            at_unix_ms: millis(at),
            action: decision.action.name().to_owned(),
            members: decision.names.clone(),
            ids: decision.action.ids().iter().map(|id| format!("{id:x}")).collect(),
            error: decision.error.clone(),
        }
    }
}

//! Carries out what [`super::autopilot`] decides, on the leader, and remembers what was decided.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use openraft::{ChangeMembers, async_runtime::watch::WatchReceiver};

use super::{Membership, Undone, autopilot::Action};
use crate::{
    api,
    raft::{
        leader::Leader,
        types::{Member, Raft},
    },
};

/// How often the leader looks at the members.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Decisions that are remembered.
const DECISIONS_MAX: usize = 32;

/// A change that the leader made, or tried to make, of its own accord or because a member left.
#[derive(Debug, Clone)]
pub(super) struct Decision {
    pub(super) at: SystemTime,
    pub(super) action: Action,
    /// The names of those it is about, who may be members no longer.
    pub(super) names: Vec<String>,
    /// Why it may not have been made.
    pub(super) error: Option<String>,
}

/// The last decisions of this node, the newest first.
pub(super) type Decisions = VecDeque<Decision>;

impl Action {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Action::Promote { .. } => "promote",
            Action::Replace { .. } => "replace",
            Action::Remove { .. } => "remove",
        }
    }

    /// Those it is about.
    pub(super) fn ids(&self) -> Vec<u64> {
        match self {
            Action::Promote { ids } => ids.iter().copied().collect(),
            Action::Replace { id, by } => vec![*id, *by],
            Action::Remove { id } => vec![*id],
        }
    }

    /// In openraft's terms: one change each, through a joint configuration where voters change.
    pub(super) fn steps(&self, raft: &Raft) -> ChangeMembers<u64, Member> {
        match self {
            Action::Promote { ids } => ChangeMembers::AddVoterIds(ids.clone()),
            Action::Replace { id, by } => ChangeMembers::Batch(vec![
                ChangeMembers::AddVoterIds([*by].into()),
                ChangeMembers::RemoveVoters([*id].into()),
            ]),
            Action::Remove { id } if raft.voter_ids().any(|voter| voter == *id) => {
                ChangeMembers::RemoveVoters([*id].into())
            }
            Action::Remove { id } => ChangeMembers::RemoveNodes([*id].into()),
        }
    }
}

impl Membership {
    /// Looks after the members while this node leads.
    pub async fn pilot(self) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            self.look();
            let is_due = self.is_joint() || self.roster().decide().is_some();
            if is_due && self.leadership.current() == Leader::Here {
                self.act().await;
            }
        }
    }

    /// Notes who answers.
    fn look(&self) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leads = self.leadership.alive(&metrics) == Some(metrics.id);
        let term = self.leadership.own_term().filter(|_| leads);
        let members = metrics.membership_config.membership();
        let answers = members
            .nodes()
            .map(|(id, _)| (*id, super::answers(&metrics, *id)));
        self.health.lock().look(self.started.elapsed(), term, answers);
    }

    async fn act(&self) {
        let Some(_turn) = self.begin().await else { return };
        // Once more: the turn may have been waited for.
        if let Some(action) = self.roster().decide() {
            let _ = self.carry_out(action).await;
        }
    }

    /// Makes a change that was decided, and tells of it. The caller has the right to change the membership.
    pub(super) async fn carry_out(&self, action: Action) -> Result<(), Undone> {
        let name_of = |id: u64| {
            self.member(id)
                .map_or_else(|| format!("{id:x}"), |member| member.name)
        };
        let names: Vec<String> = action.ids().into_iter().map(name_of).collect();
        let ids: Vec<String> = action.ids().iter().map(|id| format!("{id:x}")).collect();
        let (names_text, ids_text) = (names.join(","), ids.join(","));
        tracing::info!(
            action = action.name(),
            members = names_text,
            ids = ids_text,
            "autopilot changes the membership"
        );
        let done = self.change(action.steps(&self.raft)).await;
        let error = match &done {
            Ok(()) => None,
            Err(Undone::Not) => {
                Some("not made: this node no longer leads, or another change is under way".to_owned())
            }
            Err(Undone::Unknown(error)) => Some(error.clone()),
        };
        if let Some(error) = &error {
            tracing::warn!(
                action = action.name(),
                members = names_text,
                error,
                "autopilot's change may not have been made"
            );
        }
        api::autopilot_actions(action.name()).increment(1);
        let mut decisions = self.decisions.lock();
        decisions.truncate(DECISIONS_MAX - 1);
        decisions.push_front(Decision {
            at: SystemTime::now(),
            action,
            names,
            error,
        });
        done
    }
}

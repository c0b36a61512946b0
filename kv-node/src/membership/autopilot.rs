//! What the leader changes of its own accord: decided from what it sees, without I/O and without a clock.
//!
//! Laws, which the property tests hold it to:
//! - One action at a time, and none that takes a voter away while the quorum is in doubt: every voter must answer, or
//!   be as long gone as the one in question, and those that answer must be a quorum before and after.
//! - A voter that answers keeps its vote.
//! - A voter that is gone is replaced in one step by a learner that has caught up. Where there is none it is removed,
//!   unless fewer than `min_voters` would be left. Either way no fewer voters may fail afterwards than before.
//! - A member that lost its data and came back under another id replaces its dead double at once.
//! - Learners that joined by themselves get votes while there is room, so that the number of voters is odd, those of
//!   zones with the fewest votes first.
//! - What a client has added and nobody has started yet is left alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::rules::{Place, Refusal, Roster, quorum};
use crate::raft::types::Standing;

/// A member that came back under another id replaces its double when that one has been silent for so long: longer
/// than a pause of a live one under load.
const DOUBLE_SILENCE: Duration = Duration::from_secs(5);

/// What a cluster wants of its membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// No voter is removed without replacement if fewer would be left.
    pub min_voters: usize,
    /// Learners that joined by themselves become voters up to so many.
    pub max_voters: usize,
    /// How long a member must be silent to count as gone; `None`: it never does.
    pub reap_after: Option<Duration>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            min_voters: 3,
            max_voters: 5,
            reap_after: Some(Duration::from_secs(600)),
        }
    }
}

/// A change of the membership that the leader makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Learners become voters.
    Promote {
        /// Which ones.
        ids: BTreeSet<u64>,
    },
    /// A learner becomes a voter in the place of one that is removed.
    Replace {
        /// The voter to remove.
        id: u64,
        /// The learner.
        by: u64,
    },
    /// A member is removed.
    Remove {
        /// Which one.
        id: u64,
    },
}

/// Why a member that is gone is still one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// Nothing replaces it, and removing it would leave too few.
    #[error("no learner has caught up, and fewer than --min-voters would be left")]
    TooFewVoters,
    /// Other voters do not answer, for a shorter time.
    #[error("the quorum is in doubt: not all other voters answer")]
    QuorumInDoubt,
    /// A client added it, and it has no vote: it is the client's affair.
    #[error("a client added it as a learner, or has not started it yet")]
    OfAClient,
    /// Nobody is reaped.
    #[error("--reap-after is 0")]
    ReapingIsOff,
}

impl Roster {
    /// What to do now.
    pub fn decide(&self) -> Option<Action> {
        let wanted = self.ready(Standing::Voter);
        if !wanted.is_empty() {
            let ids = wanted.into_iter().chain(self.to_promote()).collect();
            return Some(Action::Promote { ids });
        }
        let mut due: Vec<u64> = self
            .places
            .keys()
            .copied()
            .filter(|id| self.is_due(*id))
            .collect();
        due.sort_by_key(|id| std::cmp::Reverse(self.places[id].silent_for()));
        if let Some(action) = due.into_iter().find_map(|id| self.fate(id).ok()) {
            return Some(action);
        }
        let ids = self.to_promote();
        (!ids.is_empty()).then_some(Action::Promote { ids })
    }

    /// Whether a member has been silent for long enough to be given up.
    pub fn is_due(&self, id: u64) -> bool {
        let place = &self.places[&id];
        place.member.is_started()
            && self
                .due_after(id)
                .is_some_and(|after| place.silent_for() >= after)
    }

    /// How long a member must be silent to be given up; `None`: that does not matter.
    pub fn due_after(&self, id: u64) -> Option<Duration> {
        if self.is_doubled(id) {
            return Some(DOUBLE_SILENCE);
        }
        self.policy.reap_after
    }

    /// What becomes of a member that is gone.
    ///
    /// # Errors
    /// Why it stays.
    pub fn fate(&self, id: u64) -> Result<Action, Kept> {
        let place = &self.places[&id];
        if self.due_after(id).is_none() {
            return Err(Kept::ReapingIsOff);
        }
        if !place.member.is_started() || (!place.votes && place.member.standing != Standing::Joined) {
            return Err(Kept::OfAClient);
        }
        if !place.votes {
            return Ok(Action::Remove { id });
        }
        let waited_for = |(other, place): (&u64, &Place)| {
            *other != id && place.votes && !place.answers && !self.is_due(*other)
        };
        if self.places.iter().any(waited_for) || !self.has_quorum(|_| true) {
            return Err(Kept::QuorumInDoubt);
        }
        self.without(id).map_err(|refusal| match refusal {
            Refusal::TooFewVoters => Kept::TooFewVoters,
            _ => Kept::QuorumInDoubt,
        })
    }

    /// How a member that wants to go is let go.
    ///
    /// # Errors
    /// When it is none, or too few voters would be left, or too few of those answer.
    pub fn leave(&self, id: u64) -> Result<Action, Refusal> {
        let place = self.places.get(&id).ok_or(Refusal::NotFound)?;
        if !place.votes {
            return Ok(Action::Remove { id });
        }
        self.without(id)
    }

    /// How a member goes that a client removes: what would be promoted soon after takes its place at once.
    pub fn removal(&self, id: u64) -> Action {
        let votes = self.places.get(&id).is_some_and(|place| place.votes);
        match self.replacement(id).filter(|_| votes) {
            Some(by) => Action::Replace { id, by },
            None => Action::Remove { id },
        }
    }

    /// How a voter goes: a learner takes its place, or enough are left without it.
    fn without(&self, id: u64) -> Result<Action, Refusal> {
        let others = self.voters().filter(|(other, _)| *other != id).count();
        let (action, by) = match self.replacement(id) {
            Some(by) => (Action::Replace { id, by }, Some(by)),
            None if others < self.policy.min_voters.max(1) => return Err(Refusal::TooFewVoters),
            None => (Action::Remove { id }, None),
        };
        let answering = self
            .voters()
            .filter(|(other, place)| *other != id && place.answers);
        let joining = usize::from(by.is_some());
        if answering.count() + joining < quorum(others + joining) {
            return Err(Refusal::Unhealthy);
        }
        Ok(action)
    }

    fn voters(&self) -> impl Iterator<Item = (u64, &Place)> {
        let places = self.places.iter().map(|(id, place)| (*id, place));
        places.filter(|(_, place)| place.votes)
    }

    /// Whether a quorum of the voters for which that holds answers.
    fn has_quorum(&self, counts: impl Fn(u64) -> bool) -> bool {
        let voters: Vec<&Place> = self
            .voters()
            .filter(|(id, _)| counts(*id))
            .map(|(_, place)| place)
            .collect();
        voters.iter().filter(|place| place.answers).count() >= quorum(voters.len())
    }

    /// How many more voters may fail before there is no quorum; negative where there is none.
    pub fn failure_tolerance(&self) -> i64 {
        let answering = self.voters().filter(|(_, place)| place.answers).count();
        answering as i64 - quorum(self.voters().count()) as i64
    }

    /// Learners of a standing that have the log and answer: a dead one must not become a voter.
    fn ready(&self, standing: Standing) -> Vec<u64> {
        let is_ready = |place: &Place| {
            !place.votes && place.member.standing == standing && place.is_in_sync && place.answers
        };
        let places = self.places.iter().filter(|(_, place)| is_ready(place));
        places.map(|(id, _)| *id).collect()
    }

    /// Whether two members are one machine: a node that lost its data is let in under a new id.
    fn is_double(&self, a: u64, b: u64) -> bool {
        let (one, other) = (&self.places[&a].member, &self.places[&b].member);
        a != b
            && one.is_started()
            && other.is_started()
            && (one.name == other.name || one.shares_url(&other.peer_urls))
    }

    /// Whether a member is silent and has come back under another id, which can take its place.
    fn is_doubled(&self, id: u64) -> bool {
        let place = &self.places[&id];
        let ready = self.ready(Standing::Joined);
        !place.answers && ready.into_iter().any(|other| self.is_double(id, other))
    }

    /// The learner that takes the place of a voter.
    fn replacement(&self, gone: u64) -> Option<u64> {
        let remaining: BTreeSet<u64> = self.voters().map(|(id, _)| id).filter(|id| *id != gone).collect();
        let is_free = |id: &u64| !remaining.iter().any(|voter| self.is_double(*id, *voter));
        let ready = self.ready(Standing::Joined).into_iter().filter(is_free);
        let (doubles, others): (Vec<u64>, Vec<u64>) = ready.partition(|id| self.is_double(*id, gone));
        let candidates = if doubles.is_empty() { others } else { doubles };
        self.most_spread(&remaining, &candidates)
    }

    /// The candidate whose zone has the fewest of these voters.
    fn most_spread(&self, voters: &BTreeSet<u64>, candidates: &[u64]) -> Option<u64> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for voter in voters {
            *votes.entry(&self.places[voter].member.zone).or_default() += 1;
        }
        let in_its_zone = |id: &&u64| votes.get(self.places[id].member.zone.as_str()).copied();
        candidates.iter().min_by_key(in_its_zone).copied()
    }

    /// Learners that joined by themselves and get a vote: as many as fit, leaving the number of voters odd. A double of
    /// a voter waits until that one is removed: its vote would count twice, once for the dead.
    fn to_promote(&self) -> BTreeSet<u64> {
        let mut voters: BTreeSet<u64> = self.voters().map(|(id, _)| id).collect();
        voters.extend(self.ready(Standing::Voter));
        let is_free = |id: &u64| !self.voters().any(|(voter, _)| self.is_double(*id, voter));
        let mut candidates: Vec<u64> = self.ready(Standing::Joined).into_iter().filter(is_free).collect();
        let mut chosen = BTreeSet::new();
        for _ in 0..room(voters.len(), candidates.len(), self.policy.max_voters) {
            let Some(next) = self.most_spread(&voters, &candidates) else {
                break;
            };
            candidates.retain(|id| *id != next);
            voters.insert(next);
            chosen.insert(next);
        }
        chosen
    }
}

/// How many of the learners become voters under `max_voters`.
fn room(voters: usize, learners: usize, max_voters: usize) -> usize {
    let room = max_voters.saturating_sub(voters).min(learners);
    if (voters + room) % 2 == 1 {
        room
    } else {
        room.saturating_sub(1)
    }
}

#[cfg(test)]
#[path = "autopilot_tests.rs"]
mod tests;

//! What may change in a membership: decided from what the leader sees, without I/O.
//!
//! The checks are etcd's, with its texts, where `--strict-reconfig-check` is on, as it is by default. One
//! thing differs below them: a voter that was added waits as a learner until it has caught up, so that adding
//! one never costs the cluster its quorum. To the checks it counts as what it was added as.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::autopilot::Policy;
use crate::raft::types::{Member, Standing};

/// A change that a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A member that will be started.
    Add {
        /// Where peers will reach it.
        peer_urls: Vec<String>,
        /// Whether it is to stay a learner until it is promoted.
        is_learner: bool,
    },
    /// The member is no longer one, and its id is never used again.
    Remove {
        /// Which one.
        id: u64,
    },
    /// The member is reached elsewhere.
    Update {
        /// Which one.
        id: u64,
        /// Where peers reach it.
        peer_urls: Vec<String>,
    },
    /// The learner becomes a voter.
    Promote {
        /// Which one.
        id: u64,
    },
    /// The member goes for good, of its own accord, and a learner takes its place where there is one.
    Leave {
        /// Which one.
        id: u64,
    },
}

/// Why a membership stays as it is. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// Another member has one of these URLs.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlsExist,
    /// The URLs are none, or malformed.
    #[error("etcdserver: given member URLs are invalid")]
    BadUrls,
    /// The id drawn for a new member is taken.
    #[error("etcdserver: member ID already exist")]
    IdExists,
    /// There is no such member.
    #[error("etcdserver: member not found")]
    NotFound,
    /// Only learners are promoted.
    #[error("etcdserver: can only promote a learner member")]
    NotLearner,
    /// The learner is behind, or does not answer.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// As many learners as may be were added.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// The change would leave fewer started voters than a quorum.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// The change needs voters that do not answer.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    /// A member that wants to leave is needed.
    #[error("fewer voters than --min-voters would be left, and no learner can take this one's place")]
    TooFewVoters,
}

/// A member as the leader sees it.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// What the membership says.
    pub member: Member,
    /// Whether it has a vote in Raft.
    pub votes: bool,
    /// Whether it answered the leader just now; of the leader itself, always.
    pub answers: bool,
    /// Whether it has (nearly) all that the leader has.
    pub is_in_sync: bool,
    /// For how long it has been answering, or silent, since this leader leads.
    pub same_for: Duration,
}

impl Place {
    /// Whether it is a voter to clients: it has a vote, or was added to get one.
    pub fn is_voting(&self) -> bool {
        self.votes || self.member.standing == Standing::Voter
    }

    /// For how long it has been silent.
    pub fn silent_for(&self) -> Duration {
        if self.answers {
            Duration::ZERO
        } else {
            self.same_for
        }
    }
}

/// All members as the leader sees them.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    /// By id.
    pub places: BTreeMap<u64, Place>,
    /// Most learners that clients may add.
    pub learners_max: usize,
    /// What the leader does of its own accord.
    pub policy: Policy,
}

/// How many make a quorum of that many voters.
pub(super) fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

impl Roster {
    /// Whether a change may be made now. `new_id` is the id that a new member would get.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, change: &Change, new_id: u64) -> Result<(), Refusal> {
        match change {
            Change::Add {
                peer_urls,
                is_learner,
            } => self.check_add(peer_urls, *is_learner, new_id),
            Change::Remove { id } => self.check_remove(*id),
            Change::Update { id, peer_urls } => {
                self.places.get(id).ok_or(Refusal::NotFound)?;
                check_urls(peer_urls)?;
                self.check_free(peer_urls, Some(*id))
            }
            Change::Promote { id } => self.check_promote(*id),
            Change::Leave { id } => self.leave(*id).map(|_| ()),
        }
    }

    fn check_add(&self, peer_urls: &[String], is_learner: bool, new_id: u64) -> Result<(), Refusal> {
        check_urls(peer_urls)?;
        if !is_learner {
            let (voting, started) = self.voting(None);
            // The second member of a cluster of one could not be added otherwise.
            let is_second = started == 1 && voting == 1;
            if !is_second && started < quorum(voting + 1) {
                return Err(Refusal::NotEnoughStarted);
            }
            if self
                .places
                .values()
                .any(|place| place.is_voting() && !place.answers)
            {
                return Err(Refusal::Unhealthy);
            }
        }
        if self.places.contains_key(&new_id) {
            return Err(Refusal::IdExists);
        }
        self.check_free(peer_urls, None)?;
        let added = |place: &&Place| !place.votes && place.member.standing == Standing::Learner;
        if is_learner && self.places.values().filter(added).count() >= self.learners_max {
            return Err(Refusal::TooManyLearners);
        }
        Ok(())
    }

    fn check_remove(&self, id: u64) -> Result<(), Refusal> {
        let place = self.places.get(&id).ok_or(Refusal::NotFound)?;
        if !place.is_voting() {
            return Ok(());
        }
        let (voting, started) = self.voting(Some(id));
        if started < quorum(voting) {
            return Err(Refusal::NotEnoughStarted);
        }
        // One that is down takes nothing with it.
        if !place.votes || !place.answers {
            return Ok(());
        }
        let others = self.places.iter().filter(|(other, _)| **other != id);
        let voters: Vec<&Place> = others
            .map(|(_, place)| place)
            .filter(|place| place.votes)
            .collect();
        let answering = voters.iter().filter(|place| place.answers).count();
        if answering < quorum(voters.len()) {
            return Err(Refusal::Unhealthy);
        }
        Ok(())
    }

    fn check_promote(&self, id: u64) -> Result<(), Refusal> {
        let place = self.places.get(&id).ok_or(Refusal::NotFound)?;
        if place.is_voting() {
            return Err(Refusal::NotLearner);
        }
        if !place.is_in_sync || !place.answers {
            return Err(Refusal::LearnerNotReady);
        }
        let (voting, started) = self.voting(None);
        if started + 1 < quorum(voting + 1) {
            return Err(Refusal::NotEnoughStarted);
        }
        Ok(())
    }

    fn check_free(&self, peer_urls: &[String], except: Option<u64>) -> Result<(), Refusal> {
        let others = self.places.iter().filter(|(id, _)| Some(**id) != except);
        let mut taken = others.flat_map(|(_, place)| &place.member.peer_urls);
        if taken.any(|url| peer_urls.contains(url)) {
            return Err(Refusal::PeerUrlsExist);
        }
        Ok(())
    }

    /// How many voters there are to clients, and how many of them have been started; `without` one of them.
    fn voting(&self, without: Option<u64>) -> (usize, usize) {
        let others = self.places.iter().filter(|(id, _)| Some(**id) != without);
        let voting: Vec<&Place> = others
            .map(|(_, place)| place)
            .filter(|place| place.is_voting())
            .collect();
        let started = voting.iter().filter(|place| place.member.is_started()).count();
        (voting.len(), started)
    }
}

/// etcd's rule: a scheme, a host and a port, nothing behind them.
fn check_urls(urls: &[String]) -> Result<(), Refusal> {
    let is_valid = |url: &String| {
        let host = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"));
        let named = host.and_then(|host| host.rsplit_once(':'));
        named.is_some_and(|(name, port)| {
            !name.is_empty() && !name.contains(['/', '?', '#', ' ']) && port.parse::<u16>().is_ok()
        })
    };
    if urls.is_empty() || !urls.iter().all(is_valid) {
        return Err(Refusal::BadUrls);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(id: u64) -> Vec<String> {
        vec![format!("http://n{id}:2380")]
    }

    /// `v`: voter, `d`: dead voter, `p`: voter that was added and not started, `w`: that waits for its vote,
    /// `l`: learner, `b`: one that is behind, `j`: one that joined by itself.
    fn roster(kinds: &str) -> Roster {
        let place = |(id, kind): (usize, char)| {
            let standing = match kind {
                'p' | 'w' => Standing::Voter,
                'l' | 'b' => Standing::Learner,
                _ => Standing::Joined,
            };
            let name = if kind == 'p' {
                String::new()
            } else {
                format!("n{id}")
            };
            let member = Member {
                name,
                peer_urls: url(id as u64),
                standing,
                ..Member::default()
            };
            let place = Place {
                member,
                votes: matches!(kind, 'v' | 'd'),
                answers: !matches!(kind, 'd' | 'p'),
                is_in_sync: kind != 'b',
                ..Place::default()
            };
            (id as u64, place)
        };
        Roster {
            places: kinds.chars().enumerate().map(place).collect(),
            learners_max: 1,
            policy: Policy::default(),
        }
    }

    fn add(is_learner: bool) -> Change {
        Change::Add {
            peer_urls: url(99),
            is_learner,
        }
    }

    #[test]
    fn etcds_answers() {
        use Refusal::*;
        let (voter, learner) = (add(false), add(true));
        let promote = |id| Change::Promote { id };
        let remove = |id| Change::Remove { id };
        let update = |id, of| Change::Update {
            id,
            peer_urls: url(of),
        };
        for (kinds, change, expected) in [
            ("v", voter.clone(), Ok(())),
            ("vp", voter.clone(), Err(NotEnoughStarted)),
            ("vvp", voter.clone(), Err(NotEnoughStarted)),
            ("vvvp", voter.clone(), Err(Unhealthy)),
            ("vvd", voter.clone(), Err(Unhealthy)),
            ("vvd", learner.clone(), Ok(())),
            ("vvvj", voter.clone(), Ok(())),
            ("vl", learner.clone(), Err(TooManyLearners)),
            ("vjj", learner.clone(), Ok(())),
            ("v", update(0, 1), Ok(())),
            ("vv", update(0, 1), Err(PeerUrlsExist)),
            ("vv", update(0, 0), Ok(())),
            ("v", update(7, 7), Err(NotFound)),
            ("v", remove(0), Err(NotEnoughStarted)),
            ("v", remove(7), Err(NotFound)),
            ("vp", remove(0), Err(NotEnoughStarted)),
            ("vp", remove(1), Ok(())),
            ("vw", remove(1), Ok(())),
            ("vl", remove(1), Ok(())),
            ("vvd", remove(2), Ok(())),
            ("vvd", remove(1), Err(Unhealthy)),
            ("vvv", remove(0), Ok(())),
            ("vl", promote(1), Ok(())),
            ("vj", promote(1), Ok(())),
            ("vb", promote(1), Err(LearnerNotReady)),
            ("vw", promote(1), Err(NotLearner)),
            ("vv", promote(1), Err(NotLearner)),
            ("v", promote(1), Err(NotFound)),
            ("vppl", promote(3), Err(NotEnoughStarted)),
        ] {
            assert_eq!(roster(kinds).check(&change, 98), expected, "{kinds}: {change:?}");
        }
        assert_eq!(roster("v").check(&voter, 0), Err(IdExists));
        let taken = Change::Add {
            peer_urls: url(0),
            is_learner: false,
        };
        assert_eq!(roster("v").check(&taken, 98), Err(PeerUrlsExist));
    }

    #[test]
    fn malformed_urls_are_refused() {
        for bad in [
            "",
            "n1:2380",
            "http://n1",
            "http://:2380",
            "http://n1:2380/",
            "ftp://n1:1",
            "http://n1:99999",
        ] {
            assert_eq!(check_urls(&[bad.to_owned()]), Err(Refusal::BadUrls), "{bad}");
        }
        assert_eq!(check_urls(&[]), Err(Refusal::BadUrls));
        assert_eq!(check_urls(&["https://[::1]:2380".to_owned()]), Ok(()));
    }

    proptest! {
        /// What is allowed to be removed leaves voters of whom a quorum answers, if there was one before.
        #[test]
        fn a_removal_never_costs_the_quorum(kinds in "[vdpwljb]{1,7}", id in 0u64..7) {
            let before = roster(&kinds);
            let has_quorum = |roster: &Roster| {
                let voters: Vec<&Place> = roster.places.values().filter(|place| place.votes).collect();
                voters.iter().filter(|place| place.answers).count() >= quorum(voters.len())
            };
            if has_quorum(&before) && before.check(&Change::Remove { id }, 99).is_ok() {
                let mut after = before.clone();
                after.places.remove(&id);
                prop_assert!(has_quorum(&after), "{kinds} without {id}");
            }
        }
    }
}

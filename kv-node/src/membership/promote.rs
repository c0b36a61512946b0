//! Learners that become voters: those that joined by themselves while there is room, and those that a client
//! added as voters, once they have caught up.

use std::{collections::BTreeSet, time::Duration};

use openraft::ChangeMembers;

use super::{
    Membership, Undone,
    rules::{Place, Roster},
};
use crate::raft::{
    leader::Leader,
    types::{Member, Standing},
};

/// How often the leader looks for learners to promote.
const PROMOTE_INTERVAL: Duration = Duration::from_millis(250);

impl Membership {
    /// Promotes learners while this node leads. Those that joined by themselves: up to `max_voters`, keeping
    /// the number of voters odd.
    pub async fn promote(self, max_voters: usize) {
        loop {
            tokio::time::sleep(PROMOTE_INTERVAL).await;
            let is_due = self.is_joint() || !to_promote(&self.roster(), max_voters).is_empty();
            if is_due && self.leadership.current() == Leader::Here {
                self.promote_once(max_voters).await;
            }
        }
    }

    async fn promote_once(&self, max_voters: usize) {
        let Some(_one) = self.begin().await else { return };
        let promoted = to_promote(&self.roster(), max_voters);
        if promoted.is_empty() {
            return;
        }
        let ids: Vec<String> = promoted.iter().map(|id| format!("{id:x}")).collect();
        tracing::info!(
            learners = ids.join(","),
            "learners have caught up and become voters"
        );
        if let Err(Undone::Unknown(error)) = self.change(ChangeMembers::AddVoterIds(promoted)).await {
            tracing::warn!(error, "learners not promoted");
        }
    }
}

/// The learners to promote now. They must have the log and answer: a dead one must not become a voter.
fn to_promote(roster: &Roster, max_voters: usize) -> BTreeSet<u64> {
    let voters: Vec<&Place> = roster.places.values().filter(|place| place.votes).collect();
    let ready = |standing: Standing| {
        let places = roster.places.iter();
        places.filter(move |(_, place)| {
            !place.votes && place.member.standing == standing && place.is_in_sync && place.answers
        })
    };
    // A member that lost its data and came back under a new id: until the old one is removed, its vote would
    // be counted twice, once for the dead.
    let doubles = |member: &Member| {
        voters
            .iter()
            .any(|voter| voter.member.name == member.name || voter.member.peer_urls == member.peer_urls)
    };
    let mut promoted: BTreeSet<u64> = ready(Standing::Voter).map(|(id, _)| *id).collect();
    let joined = ready(Standing::Joined).filter(|(_, place)| !doubles(&place.member));
    let joined: Vec<u64> = joined.map(|(id, _)| *id).collect();
    promoted.extend(choose(voters.len() + promoted.len(), &joined, max_voters));
    promoted
}

/// Which of those that joined by themselves: as many as fit under `max_voters` and leave the number of voters odd.
fn choose(voters: usize, caught_up: &[u64], max_voters: usize) -> BTreeSet<u64> {
    let room = max_voters.saturating_sub(voters).min(caught_up.len());
    let take = if (voters + room) % 2 == 1 {
        room
    } else {
        room.saturating_sub(1)
    };
    caught_up.iter().take(take).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_number_of_voters_odd() {
        let chosen = |voters, learners: &[u64], max| choose(voters, learners, max).len();
        assert_eq!(chosen(3, &[4], 5), 0);
        assert_eq!(chosen(3, &[4, 5], 5), 2);
        assert_eq!(chosen(3, &[4, 5, 6], 5), 2);
        assert_eq!(chosen(1, &[2], 5), 0);
        assert_eq!(chosen(1, &[2, 3], 5), 2);
        assert_eq!(chosen(2, &[3], 5), 1);
        assert_eq!(chosen(5, &[6, 7], 5), 0);
        assert_eq!(chosen(4, &[5, 6], 5), 1);
    }
}

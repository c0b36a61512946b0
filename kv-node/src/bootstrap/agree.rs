//! How the first N nodes found one cluster, and never two: decisions alone, no I/O.
//!
//! Each node knows some addresses and no membership. One of them writes a [`Ballot`]: a new cluster
//! id and the N founders. A founder stores the ballot before it says that it agrees. The cluster is
//! founded by a node that has seen *all* N founders agree to the same ballot; each of them may then
//! write the same first entry of the log.
//!
//! Promise: of two ballots that share a founder at most one is ever founded.
//! 1. A node agrees to one ballot at a time, and never to one that is higher (by author) than any it
//!    agreed to before: its *floor*. The floor is stored with the ballot and outlives it.
//! 2. It lets go of a ballot only when that is dead: one of its founders has a lower floor, or belongs to
//!    another cluster. Such a founder will never agree to it. Nor has it been agreed to by all: of the
//!    founders that let go of a ballot, consider the first; the founder that was its witness had not let
//!    go of it, so it had never agreed.
//! 3. A member of a cluster agrees to nothing more.
//!
//! Progress, once all nodes reach each other: of the ballots that are held, the highest is founded, or has
//! a founder with a lower floor and is let go of, or a founder that is free and agrees. Without ballots,
//! the node with the lowest id writes one, and no floor is in its way.
//!
//! A ballot whose founders do not all come back is never founded: the remaining nodes wait, and say
//! for whom. Waiting is the price of never having two clusters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::raft::types::Member;

/// A proposal to found a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// The node that wrote it. Ballots are ordered by author.
    pub author: u64,
    /// The id of the cluster to be.
    pub cluster_id: u64,
    /// The first voters.
    pub founders: BTreeMap<u64, Member>,
}

/// What another node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its id.
    pub node_id: u64,
    /// Its name and addresses.
    pub member: Member,
    /// The cluster it has founded or joined.
    pub cluster_id: Option<u64>,
    /// The ballot it agrees to.
    pub ballot: Option<Ballot>,
    /// The lowest author of a ballot it has ever agreed to; `None` if it never did.
    pub floor: Option<u64>,
}

impl Seen {
    /// Whether its floor allows it to agree to a ballot of `author`, now or ever again.
    fn may_follow(&self, author: u64) -> bool {
        self.floor.is_none_or(|floor| author <= floor)
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// There is a cluster: join it.
    Join {
        /// Its id.
        cluster_id: u64,
    },
    /// Store this ballot, then ask its founders to agree.
    Write(BTreeMap<u64, Member>),
    /// Ask these founders to agree to the ballot that is stored.
    Ask(Vec<u64>),
    /// The ballot is dead: forget it, not the floor.
    LetGo,
    /// All founders agree: found the cluster.
    Found,
    /// Wait; the text says for what.
    Wait(String),
}

/// Decides the next step of `own` node, which belongs to no cluster yet, from what it `seen` of others
/// just now. `expect` is the number of founders.
pub fn next_step(own: &Seen, seen: &BTreeMap<u64, Seen>, expect: usize) -> Step {
    assert!(
        own.cluster_id.is_none(),
        "a member of a cluster does not bootstrap"
    );
    let Some(ballot) = &own.ballot else {
        return without_ballot(own, seen, expect);
    };
    let elsewhere = |id: &u64| {
        seen.get(id)
            .and_then(|other| other.cluster_id)
            .filter(|id| *id != ballot.cluster_id)
    };
    if let Some(cluster_id) = ballot.founders.keys().find_map(elsewhere) {
        return Step::Join { cluster_id };
    }
    // Whoever founded it has seen all agree.
    let is_founded = |other: &Seen| other.cluster_id == Some(ballot.cluster_id);
    if seen.values().any(is_founded) {
        return Step::Found;
    }
    let never_agrees = |id: &u64| seen.get(id).is_some_and(|other| !other.may_follow(ballot.author));
    if ballot.founders.keys().any(never_agrees) {
        return Step::LetGo;
    }
    let agrees = |id: &u64| {
        *id == own.node_id
            || seen
                .get(id)
                .is_some_and(|other| other.ballot.as_ref() == Some(ballot))
    };
    let missing: Vec<u64> = ballot.founders.keys().filter(|id| !agrees(id)).copied().collect();
    if missing.is_empty() {
        return Step::Found;
    }
    let reachable: Vec<u64> = missing
        .iter()
        .filter(|id| seen.contains_key(id))
        .copied()
        .collect();
    if reachable.is_empty() {
        let names: Vec<&str> = missing
            .iter()
            .map(|id| ballot.founders[id].name.as_str())
            .collect();
        return Step::Wait(format!("waiting for {} to come back and agree", names.join(", ")));
    }
    Step::Ask(reachable)
}

fn without_ballot(own: &Seen, seen: &BTreeMap<u64, Seen>, expect: usize) -> Step {
    if let Some(cluster_id) = seen.values().find_map(|other| other.cluster_id) {
        return Step::Join { cluster_id };
    }
    if let Some(founders) = seen
        .values()
        .find_map(|other| other.ballot.as_ref().map(|ballot| &ballot.founders))
    {
        let names: Vec<&str> = founders.values().map(|founder| founder.name.as_str()).collect();
        return Step::Wait(format!("waiting for {} to found a cluster", names.join(", ")));
    }
    let mut free: BTreeMap<u64, Member> = seen.values().map(|o| (o.node_id, o.member.clone())).collect();
    free.insert(own.node_id, own.member.clone());
    if free.len() < expect {
        return Step::Wait(format!("{} of {expect} nodes found", free.len()));
    }
    let founders: BTreeMap<u64, Member> = free.into_iter().take(expect).collect();
    if founders.keys().next() == Some(&own.node_id) && own.may_follow(own.node_id) {
        Step::Write(founders)
    } else {
        Step::Wait("waiting for the ballot of the node with the lowest id".to_owned())
    }
}

/// Whether a node that has said `own` of itself may agree to `asked` now. The caller stores ballot and
/// floor before it answers.
pub fn may_agree(own: &Seen, asked: &Ballot) -> bool {
    own.cluster_id.is_none()
        && asked.founders.contains_key(&own.node_id)
        && own.may_follow(asked.author)
        && own.ballot.as_ref().is_none_or(|current| current == asked)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(id: u64) -> Member {
        Member {
            name: format!("n{id}"),
            ..Member::default()
        }
    }

    fn fresh(id: u64) -> Seen {
        Seen {
            node_id: id,
            member: member(id),
            cluster_id: None,
            ballot: None,
            floor: None,
        }
    }

    fn hold(node: &mut Seen, ballot: Ballot) {
        node.floor = Some(ballot.author);
        node.ballot = Some(ballot);
    }

    /// Runs one step of one node against what it can reach.
    fn act(
        nodes: &mut BTreeMap<u64, Seen>,
        id: u64,
        reachable: &[u64],
        expect: usize,
        next_cluster: &mut u64,
    ) {
        let own = nodes[&id].clone();
        if own.cluster_id.is_some() {
            return;
        }
        let seen = reachable
            .iter()
            .filter(|other| **other != id)
            .map(|other| (*other, nodes[other].clone()));
        let seen: BTreeMap<u64, Seen> = seen.collect();
        match next_step(&own, &seen, expect) {
            Step::Join { cluster_id } => {
                let own = nodes.get_mut(&id).unwrap();
                (own.cluster_id, own.ballot) = (Some(cluster_id), None);
            }
            Step::Write(founders) => {
                *next_cluster += 1;
                let ballot = Ballot {
                    author: id,
                    cluster_id: *next_cluster,
                    founders,
                };
                hold(nodes.get_mut(&id).unwrap(), ballot);
            }
            Step::Ask(ids) => {
                for other in ids {
                    let asked = own.ballot.clone().unwrap();
                    let other = nodes.get_mut(&other).unwrap();
                    if may_agree(other, &asked) {
                        hold(other, asked);
                    }
                }
            }
            Step::LetGo => nodes.get_mut(&id).unwrap().ballot = None,
            Step::Found => {
                let own = nodes.get_mut(&id).unwrap();
                own.cluster_id = own.ballot.as_ref().map(|ballot| ballot.cluster_id);
            }
            Step::Wait(_) => {}
        }
    }

    proptest! {
        /// Nodes act in any order and see any part of each other: all that end up in a cluster share it.
        #[test]
        fn never_founds_two_clusters(
            steps in prop::collection::vec((0u64..6, prop::collection::vec(0u64..6, 0..6)), 0..120),
            expect in 2usize..4,
        ) {
            // With fewer founders than half of the nodes, disjoint halves that never see each other
            // could each found one; that is what --bootstrap-expect must prevent.
            let count = (2 * expect - 1) as u64;
            let mut nodes: BTreeMap<u64, Seen> = (0..count).map(|id| (id, fresh(id))).collect();
            let mut next_cluster = 100;
            for (id, reachable) in steps {
                let reachable: Vec<u64> = reachable.into_iter().map(|other| other % count).collect();
                act(&mut nodes, id % count, &reachable, expect, &mut next_cluster);
                let clusters: std::collections::BTreeSet<u64> =
                    nodes.values().filter_map(|node| node.cluster_id).collect();
                prop_assert!(clusters.len() <= 1, "{nodes:?}");
            }
        }

        /// A founder that has seen all agree is enough for the others, even if one of them is gone.
        #[test]
        fn the_founding_of_one_is_known_to_all(gone in 0u64..3) {
            let mut nodes: BTreeMap<u64, Seen> = (0..3).map(|id| (id, fresh(id))).collect();
            let (everyone, mut next_cluster) = (vec![0, 1, 2], 100);
            while nodes.values().all(|node| node.cluster_id.is_none()) {
                for id in &everyone {
                    act(&mut nodes, *id, &everyone, 3, &mut next_cluster);
                    if nodes[id].cluster_id.is_some() {
                        break;
                    }
                }
            }
            let left: Vec<u64> = everyone.into_iter().filter(|id| *id != gone).collect();
            prop_assume!(left.iter().any(|id| nodes[id].cluster_id.is_some()));
            for id in &left {
                act(&mut nodes, *id, &left, 3, &mut next_cluster);
            }
            prop_assert!(left.iter().all(|id| nodes[id].cluster_id.is_some()), "{nodes:?}");
        }

        /// Once everyone sees everyone, everyone ends up in one cluster, whatever happened before.
        #[test]
        fn always_ends_in_one_cluster_when_all_are_reachable(
            steps in prop::collection::vec((0u64..5, prop::collection::vec(0u64..5, 0..5)), 0..60),
        ) {
            let mut nodes: BTreeMap<u64, Seen> = (0..5).map(|id| (id, fresh(id))).collect();
            let mut next_cluster = 100;
            for (id, reachable) in steps {
                act(&mut nodes, id, &reachable, 3, &mut next_cluster);
            }
            let everyone: Vec<u64> = nodes.keys().copied().collect();
            for _ in 0..20 {
                for id in &everyone {
                    act(&mut nodes, *id, &everyone, 3, &mut next_cluster);
                }
            }
            let clusters: std::collections::BTreeSet<_> = nodes.values().map(|node| node.cluster_id).collect();
            prop_assert_eq!(clusters.len(), 1, "{:?}", nodes);
            prop_assert!(nodes.values().all(|node| node.cluster_id.is_some()));
        }
    }
}

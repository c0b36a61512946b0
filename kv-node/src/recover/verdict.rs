//! Which survivor is the best, and what may be lost with the others.

use std::collections::BTreeSet;

use super::survivor::Survivor;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Which of the survivors.
    pub(super) best: usize,
    /// With what loss.
    pub(super) loss: Loss,
}

/// What may be lost, or be more than it was.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Loss {
    /// The names of the lost members that could acknowledge writes without any of the survivors; none: nothing is lost.
    pub(super) deciders: Vec<String>,
    /// Entries behind the last one that the survivor knew to be committed.
    pub(super) unacknowledged: u64,
    /// The names of voters whose directories were not given, and that are not said to be lost.
    pub(super) unseen: Vec<String>,
}

/// Why there is nothing to recover, or not so.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the directories belong to different clusters, {0:x} and {1:x}: give those of one")]
    OtherCluster(u64, u64),
    #[error("{0} is given twice")]
    Twice(String),
    #[error("--lost {0}: there is no such member; the voters are {1}")]
    Unknown(String, String),
    #[error("--lost {0}: its data directory is given, so it is not lost")]
    NotLost(String),
    #[error(
        "a quorum could still come back: {0} are enough of the voters ({1}). Start them: nothing is lost then. If some are \
         gone for good, say so with --lost"
    )]
    QuorumPossible(String, String),
}

/// Judges by Raft's own rule: of two logs the one with the later last term has more, then the longer one. It holds every
/// entry committed that any of the survivors holds.
pub(super) fn judge(survivors: &[&Survivor], lost: &BTreeSet<String>) -> Result<Verdict, Refusal> {
    let first = survivors[0];
    if let Some(other) = survivors
        .iter()
        .find(|other| other.cluster_id != first.cluster_id)
    {
        return Err(Refusal::OtherCluster(first.cluster_id, other.cluster_id));
    }
    let mut given = BTreeSet::new();
    for survivor in survivors {
        if !given.insert(survivor.node_id) {
            return Err(Refusal::Twice(survivor.name.clone()));
        }
    }
    let (best, chosen) = survivors
        .iter()
        .enumerate()
        .max_by_key(|(_, survivor)| (survivor.last, survivor.applied))
        .map_or((0, first), |(best, survivor)| (best, *survivor));
    let name = |id: &u64| match chosen.members.get(id) {
        Some(member) if member.is_started() => member.name.clone(),
        _ => format!("{id:x}"),
    };
    let names = |ids: &BTreeSet<u64>| {
        let mut names: Vec<String> = ids.iter().map(name).collect();
        names.sort();
        names
    };
    let voters: BTreeSet<u64> = chosen.configs.iter().flatten().copied().collect();
    let mut gone = BTreeSet::new();
    for lost in lost {
        let id = chosen
            .members
            .keys()
            .find(|id| name(id) == *lost || format!("{id:x}") == *lost);
        match id {
            None => return Err(Refusal::Unknown(lost.clone(), names(&voters).join(", "))),
            Some(id) if given.contains(id) => return Err(Refusal::NotLost(lost.clone())),
            Some(id) => drop(gone.insert(*id)),
        }
    }
    let back: BTreeSet<u64> = voters.difference(&gone).copied().collect();
    let is_quorum = |ids: &BTreeSet<u64>| {
        let counts = |config: &BTreeSet<u64>| config.intersection(ids).count() > config.len() / 2;
        chosen.configs.iter().all(counts)
    };
    if is_quorum(&back) {
        return Err(Refusal::QuorumPossible(
            names(&back).join(", "),
            names(&voters).join(", "),
        ));
    }
    let others: BTreeSet<u64> = voters.difference(&given).copied().collect();
    let unseen: BTreeSet<u64> = others.difference(&gone).copied().collect();
    let deciders = if is_quorum(&others) {
        names(&others)
    } else {
        Vec::new()
    };
    Ok(Verdict {
        best,
        loss: Loss {
            deciders,
            unacknowledged: chosen.last.index.saturating_sub(chosen.applied),
            unseen: names(&unseen),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::PathBuf, time::SystemTime};

    use kv_wal::Position;

    use super::*;
    use crate::raft::types::Member;

    fn survivor(node_id: u64, term: u64, index: u64, configs: &[&[u64]]) -> Survivor {
        let member = |id: &u64| {
            let name = format!("n{id}");
            (
                *id,
                Member {
                    name,
                    ..Member::default()
                },
            )
        };
        Survivor {
            path: PathBuf::from(format!("/n{node_id}")),
            name: format!("n{node_id}"),
            node_id,
            cluster_id: 7,
            term,
            last: Position { term, index },
            applied: 90,
            revision: 5,
            written: SystemTime::UNIX_EPOCH,
            configs: configs
                .iter()
                .map(|config| config.iter().copied().collect())
                .collect(),
            members: configs
                .iter()
                .flat_map(|config| config.iter().map(member))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    fn judged(survivors: &[Survivor], lost: &[&str]) -> Result<Verdict, String> {
        let survivors: Vec<&Survivor> = survivors.iter().collect();
        let lost = lost.iter().map(|name| (*name).to_owned()).collect();
        judge(&survivors, &lost).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn the_most_advanced_log_is_the_best() {
        const FIVE: &[&[u64]] = &[&[1, 2, 3, 4, 5]];
        let of = |ends: [(u64, u64); 2]| {
            let [one, two] = ends;
            let survivors = [survivor(1, one.0, one.1, FIVE), survivor(2, two.0, two.1, FIVE)];
            judged(&survivors, &["n3", "n4", "n5"]).unwrap()
        };
        assert_eq!(of([(3, 100), (3, 120)]).best, 1);
        assert_eq!(of([(4, 95), (3, 120)]).best, 0, "the term counts first");
        let verdict = of([(3, 100), (3, 120)]);
        assert_eq!(verdict.loss.unacknowledged, 30);
        assert_eq!(verdict.loss.deciders, ["n3", "n4", "n5"]);
        assert!(verdict.loss.unseen.is_empty());
    }

    #[test]
    fn refuses_while_a_quorum_could_come_back() {
        const THREE: &[&[u64]] = &[&[1, 2, 3]];
        let (one, two) = (survivor(1, 3, 100, THREE), survivor(2, 3, 100, THREE));
        let alone = std::slice::from_ref(&one);
        let refused = judged(alone, &[]).unwrap_err();
        assert!(
            refused.contains("n1, n2, n3 are enough of the voters"),
            "{refused}"
        );
        let refused = judged(alone, &["n2"]).unwrap_err();
        assert!(refused.contains("n1, n3 are enough of the voters"), "{refused}");
        let refused = judged(&[one.clone(), two.clone()], &["n3"]).unwrap_err();
        assert!(refused.contains("Start them"), "{refused}");
        assert_eq!(judged(alone, &["n2", "n3"]).unwrap().loss.deciders, ["n2", "n3"]);
        assert_eq!(
            judged(alone, &["2", "n3"]).unwrap().best,
            0,
            "an id is a name, too"
        );

        let refused = judged(alone, &["n9"]).unwrap_err();
        assert!(
            refused.contains("no such member; the voters are n1, n2, n3"),
            "{refused}"
        );
        let refused = judged(alone, &["n1", "n2"]).unwrap_err();
        assert!(refused.contains("it is not lost"), "{refused}");
        let stranger = Survivor { cluster_id: 8, ..two };
        let refused = judged(&[one.clone(), stranger], &["n3"]).unwrap_err();
        assert!(refused.contains("different clusters"), "{refused}");
        let refused = judged(&[one.clone(), one.clone()], &["n3"]).unwrap_err();
        assert!(refused.contains("given twice"), "{refused}");
    }

    #[test]
    fn half_of_an_even_cluster_loses_nothing() {
        const FOUR: &[&[u64]] = &[&[1, 2, 3, 4]];
        let half = [survivor(1, 3, 100, FOUR), survivor(2, 3, 90, FOUR)];
        let verdict = judged(&half, &["n3", "n4"]).unwrap();
        assert!(
            verdict.loss.deciders.is_empty(),
            "two of four acknowledge nothing alone"
        );
        let five = [survivor(1, 3, 100, &[&[1, 2, 3, 4, 5]])];
        let verdict = judged(&five, &["n3", "n4", "n5"]).unwrap();
        assert_eq!(verdict.loss.unseen, ["n2"]);
    }

    #[test]
    fn both_sets_of_a_change_count() {
        let joint = [survivor(1, 3, 100, &[&[1, 2, 3], &[1, 4, 5]])];
        // 1 and 2 are a quorum of the first set, and none of the second.
        assert!(judged(&joint, &["n3", "n4", "n5"]).is_ok());
        assert!(judged(&joint, &["n3", "n5"]).unwrap_err().contains("n1, n2, n4"));
    }
}

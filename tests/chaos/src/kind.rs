//! Which fault comes next: a choice that follows from a seed and from who leads, and touches nothing.

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::cluster::Part;
use crate::fault::{Fault, Victim, What};
use crate::partition::Shape;

/// How long a node that is killed stays down.
const DOWN_MS: std::ops::RangeInclusive<u64> = 500..=1_500;
/// How long other faults last: longer than an election, longer than a client's patience.
const LASTS_MS: std::ops::RangeInclusive<u64> = 2_000..=6_000;
/// How long clocks are wrong: leases of this workload run out in that time.
const CLOCK_MS: std::ops::RangeInclusive<u64> = 6_000..=10_000;
/// By how much.
const CLOCK_OFFSET_S: i64 = 3_600;
/// How many of a hundred packets are lost.
const LOSS_PERCENT: u8 = 20;
/// Flipped bits of one fault.
const BITS: std::ops::RangeInclusive<u32> = 1..=3;

/// What a person can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Kill the leader with SIGKILL, and start it again
    KillLeader,
    /// Kill any node with SIGKILL, and start it again
    KillRandom,
    /// Add a node to the cluster, and remove it again
    AddNode,
    /// Remove a node from the cluster, and add an empty one in its place
    RemoveNode,
    /// Stop the leader where it is (SIGSTOP), and let it go on
    Pause,
    /// Cut nodes off from each other, in the --shape that is asked for
    Partition,
    /// Lose 20 % of all packets between nodes
    Loss,
    /// Move the wall clock of a node by an hour, once or to and fro
    Clock,
    /// Let every write to a node's disk wait, for moments or all the time
    SlowDisk,
    /// Leave no room on a node's disk
    FullDisk,
    /// Kill a node and flip bits in its log or its store
    Corrupt,
    /// Ask all nodes to stop, one after the other, and start each again
    RollingRestart,
    /// All of these at random
    Soak,
}

/// What of a cluster's network can be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Cutting {
    /// Nothing.
    #[default]
    Nothing,
    /// A node from everybody, clients too.
    Nodes,
    /// Packets from one node to another.
    Packets,
}

/// What a fault needs a cluster to be able to, and what one is able to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Abilities {
    /// Cut connections.
    pub(crate) cutting: Cutting,
    /// Fill and hold disks.
    pub(crate) disks: bool,
    /// Move clocks.
    pub(crate) clocks: bool,
    /// Change the files of a node.
    pub(crate) files: bool,
    /// Add and remove members.
    pub(crate) members: bool,
}

impl Abilities {
    /// Whether they are enough for what is needed.
    pub(crate) fn cover(self, needs: Abilities) -> bool {
        self.cutting >= needs.cutting
            && (self.disks || !needs.disks)
            && (self.clocks || !needs.clocks)
            && (self.files || !needs.files)
            && (self.members || !needs.members)
    }
}

/// What the choice of a fault depends on.
pub(crate) struct View {
    /// All nodes.
    pub(crate) nodes: Vec<String>,
    /// The one that leads.
    pub(crate) leader: String,
}

impl Kind {
    /// All that a soak does.
    const EACH: [Kind; 12] = [
        Kind::KillLeader,
        Kind::KillRandom,
        Kind::AddNode,
        Kind::RemoveNode,
        Kind::Pause,
        Kind::Partition,
        Kind::Loss,
        Kind::Clock,
        Kind::SlowDisk,
        Kind::FullDisk,
        Kind::Corrupt,
        Kind::RollingRestart,
    ];

    /// What its faults need.
    pub(crate) fn needs(self) -> Abilities {
        let none = Abilities::default();
        match self {
            Kind::Partition => Abilities {
                cutting: Cutting::Nodes,
                ..none
            },
            Kind::Loss => Abilities {
                cutting: Cutting::Packets,
                ..none
            },
            Kind::SlowDisk | Kind::FullDisk => Abilities { disks: true, ..none },
            Kind::Clock => Abilities { clocks: true, ..none },
            Kind::Corrupt => Abilities { files: true, ..none },
            Kind::AddNode | Kind::RemoveNode => Abilities {
                members: true,
                ..none
            },
            Kind::KillLeader | Kind::KillRandom | Kind::Pause | Kind::RollingRestart | Kind::Soak => none,
        }
    }

    /// The kinds that a soak chooses from on such a cluster.
    pub(crate) fn possible(with: Abilities) -> Vec<Kind> {
        Kind::EACH
            .into_iter()
            .filter(|kind| with.cover(kind.needs()))
            .collect()
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self);
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Decides on one fault of this kind; a partition is of this shape, or of any.
    pub(crate) fn decide(
        self,
        view: &View,
        with: Abilities,
        shape: Option<Shape>,
        rng: &mut StdRng,
    ) -> Fault {
        let leader = Victim {
            node: view.leader.clone(),
            leads: true,
        };
        let any = any_node(view, rng);
        let (what, lasts_ms) = match self {
            Kind::KillLeader => (What::Kill(leader), DOWN_MS),
            Kind::KillRandom => (What::Kill(any), DOWN_MS),
            Kind::AddNode => (What::AddNode, DOWN_MS),
            Kind::RemoveNode => (What::RemoveNode(any), DOWN_MS),
            Kind::Pause => (What::Pause(leader), LASTS_MS),
            Kind::Partition if with.cutting == Cutting::Nodes => (What::Disconnect(leader), LASTS_MS),
            Kind::Partition => {
                let shape = shape.unwrap_or_else(|| Shape::any(view.nodes.len(), rng));
                (shape.between(view, rng), LASTS_MS)
            }
            Kind::Loss => {
                let percent = LOSS_PERCENT;
                (What::Loss { percent }, LASTS_MS)
            }
            Kind::Clock => (clock(any, rng), CLOCK_MS),
            Kind::SlowDisk => (slow_disk(any, rng), LASTS_MS),
            Kind::FullDisk => (What::FullDisk(any), LASTS_MS),
            Kind::Corrupt => (corrupt(any, rng), DOWN_MS),
            Kind::RollingRestart => (What::RollingRestart, DOWN_MS),
            Kind::Soak => {
                let possible = Kind::possible(with);
                let kind = possible.choose(rng).copied().unwrap_or(Kind::KillRandom);
                return kind.decide(view, with, shape, rng);
            }
        };
        let hold_ms = rng.random_range(lasts_ms);
        Fault { what, hold_ms }
    }
}

fn any_node(view: &View, rng: &mut StdRng) -> Victim {
    let node = view.nodes.choose(rng).unwrap_or(&view.leader).clone();
    Victim {
        leads: node == view.leader,
        node,
    }
}

fn clock(victim: Victim, rng: &mut StdRng) -> What {
    What::Clock {
        victim,
        offset_s: if rng.random() {
            CLOCK_OFFSET_S
        } else {
            -CLOCK_OFFSET_S
        },
        strobe: rng.random(),
    }
}

/// Slow for the most part, and now and then stuck altogether.
fn slow_disk(victim: Victim, rng: &mut StdRng) -> What {
    let (frozen_ms, thawed_ms) = match rng.random_range(0..3) {
        0 => (3_000, 500),
        1 => (500, 100),
        _ => (100, 50),
    };
    What::SlowDisk {
        victim,
        frozen_ms,
        thawed_ms,
    }
}

fn corrupt(victim: Victim, rng: &mut StdRng) -> What {
    What::Corrupt {
        victim,
        part: if rng.random() { Part::Log } else { Part::Store },
        bits: rng.random_range(BITS),
        seed: rng.random(),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn view() -> View {
        View {
            nodes: ["n1", "n2", "n3"].map(str::to_owned).to_vec(),
            leader: "n2".to_owned(),
        }
    }

    const ALL: Abilities = Abilities {
        cutting: Cutting::Packets,
        disks: true,
        clocks: true,
        files: true,
        members: true,
    };

    #[test]
    fn a_seed_repeats_the_choices() {
        let soak = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            let choices = (0..50).map(|_| Kind::Soak.decide(&view(), ALL, None, &mut rng));
            choices.collect::<Vec<_>>()
        };
        assert_eq!(soak(1), soak(1));
        assert_ne!(soak(1), soak(2));
    }

    #[test]
    fn a_soak_does_only_what_the_cluster_is_able_to() {
        assert_eq!(Kind::possible(ALL), Kind::EACH);
        let few = Kind::possible(Abilities::default());
        assert_eq!(few.len(), 4, "{few:?}");
        let containers = Abilities {
            cutting: Cutting::Nodes,
            members: true,
            ..Abilities::default()
        };
        let more = Kind::possible(containers);
        assert!(
            more.contains(&Kind::Partition) && !more.contains(&Kind::Loss),
            "{more:?}"
        );
    }
}

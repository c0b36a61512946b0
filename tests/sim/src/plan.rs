//! What a seed stands for: settings of the cluster, and faults, each at its time. Plain data, so that a schedule
//! can be shortened and kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{net::Weather, random::Random};

/// Everything that is drawn before a run begins.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// What is drawn during the run comes from here as well.
    pub seed: u64,
    /// How long faults and load go on, in seconds of simulated time.
    pub duration_s: u64,
    /// The cluster.
    pub cluster: Cluster,
    /// The clients.
    pub load: Load,
    /// In order of time.
    pub faults: Vec<Scheduled>,
}

/// How the cluster is set up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cluster {
    /// Founders.
    pub nodes: usize,
    /// As the flag.
    pub heartbeat_ms: u64,
    /// As the flag.
    pub election_ms: u64,
    /// Entries between two snapshots.
    pub snapshot_count: u64,
    /// Time that a sync takes at most, in milliseconds.
    pub sync_ms_max: u64,
    /// By how many millionths the clock of each node is fast.
    pub drift_ppm: Vec<i64>,
    /// The network without faults.
    pub weather: Weather,
}

/// What clients do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Load {
    /// How many there are.
    pub clients: usize,
    /// Clients that watch.
    pub watchers: u64,
    /// Clients with leases and locks.
    pub tenants: u64,
    /// Keys that they share.
    pub keys: u64,
    /// Time between two operations of one, at most, in milliseconds.
    pub pause_ms_max: u64,
    /// Time between two compactions, at most, in milliseconds; 0: there are none.
    #[serde(default)]
    pub compaction_ms_max: u64,
}

/// A fault and when it begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scheduled {
    /// Milliseconds after the start of the load.
    pub at_ms: u64,
    /// What.
    pub fault: Fault,
}

/// What may go wrong. Each ends by itself, so that any of them can be left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Links are cut, each in its direction.
    Cut {
        /// From whom to whom.
        links: Vec<(usize, usize)>,
        /// How long.
        for_ms: u64,
    },
    /// A process dies; what the kernel has stays.
    Kill {
        /// Whose.
        node: usize,
        /// How long it is down.
        for_ms: u64,
    },
    /// The power fails: writes that were not synced are lost or torn.
    PowerCut {
        /// Where.
        nodes: Vec<usize>,
        /// How long they are down.
        for_ms: u64,
        /// What becomes of the writes.
        chance: u64,
        /// It fails when a client has just heard that a write is done, if that is soon.
        #[serde(default)]
        after_write: bool,
    },
    /// A node stops as an operator stops it, and starts again.
    Restart {
        /// Which.
        node: usize,
        /// How long it is down.
        for_ms: u64,
    },
    /// Nothing goes in or out of a node, neither network nor disk.
    Freeze {
        /// Which.
        node: usize,
        /// How long.
        for_ms: u64,
    },
    /// Syncs take longer.
    SlowDisk {
        /// Where.
        node: usize,
        /// By how much at most, in milliseconds.
        by_ms: u64,
        /// How long.
        for_ms: u64,
    },
    /// The network is slow and loses packets.
    Weather {
        /// How it is.
        weather: Weather,
        /// How long.
        for_ms: u64,
    },
    /// The connections of a node break.
    Reset {
        /// Whose.
        node: usize,
    },
    /// The leader is asked to hand over.
    Transfer {
        /// To which node, if it is a voter.
        to: usize,
    },
    /// A node that was not there joins, as a learner first.
    Join {
        /// Which: a number that no node has had.
        node: usize,
    },
    /// A member is removed for good.
    Remove {
        /// Which.
        node: usize,
    },
}

impl Plan {
    /// Nothing is to be seen long after the last fault.
    pub fn end_after_the_last(&mut self) {
        let end_ms = |scheduled: &Scheduled| scheduled.at_ms + scheduled.fault.duration().as_millis() as u64;
        let last_ms = self.faults.iter().map(end_ms).max().unwrap_or(0);
        self.duration_s = self.duration_s.min(last_ms / 1000 + 30);
    }

    /// The plan of a seed.
    pub fn of(seed: u64, duration_s: u64) -> Plan {
        let mut random = Random::of(seed, "plan");
        let cluster = Cluster::draw(&mut random);
        let load = Load {
            clients: random.among(3..7) as usize,
            // Without one that watches all, too little may be known of what was done with an unknown outcome.
            watchers: random.among(1..5),
            tenants: random.below(4),
            keys: random.among(1..6),
            pause_ms_max: *random.pick(&[100, 300, 1000, 3000, 8000]),
            compaction_ms_max: *random.pick(&[0, 2_000, 20_000]),
        };
        let faults = faults(&mut random, &cluster, duration_s * 1000);
        Plan {
            seed,
            duration_s,
            cluster,
            load,
            faults,
        }
    }
}

impl Cluster {
    fn draw(random: &mut Random) -> Cluster {
        let nodes = *random.pick(&[3, 3, 3, 5]);
        // Slower clusters do the same in more of the simulated time.
        let heartbeat_ms = *random.pick(&[100, 200, 400]);
        let election_ms = heartbeat_ms * random.among(3..8);
        let delay_ms_min = random.among(0..4);
        Cluster {
            nodes,
            heartbeat_ms,
            election_ms,
            snapshot_count: *random.pick(&[20, 50, 100, 400]),
            sync_ms_max: *random.pick(&[1, 2, 5, 20, heartbeat_ms / 2]),
            drift_ppm: (0..nodes + JOINERS_MAX)
                .map(|_| random.below(SLOW_PPM_MAX + FAST_PPM_MAX).cast_signed() - SLOW_PPM_MAX.cast_signed())
                .collect(),
            weather: Weather {
                delay_ms_min,
                delay_ms_max: delay_ms_min + random.among(1..heartbeat_ms / 10),
                lost_percent: *random.pick(&[0, 0, 1]),
            },
        }
    }
}

/// Nodes that join during a run, at most.
pub const JOINERS_MAX: usize = 3;
/// How many millionths a clock is slow, at most: a bad quartz.
const SLOW_PPM_MAX: u64 = 500;
/// How many it is fast, at most. What is promised of leases holds as far as clocks are right, and the checker allows
/// for nothing.
const FAST_PPM_MAX: u64 = 20;

/// Draws which kinds of faults there are in this run, how often, and when.
fn faults(random: &mut Random, cluster: &Cluster, duration_ms: u64) -> Vec<Scheduled> {
    let kinds: Vec<u64> = (0..KINDS).filter(|_| random.percent(40)).collect();
    if kinds.is_empty() {
        return Vec::new();
    }
    let pause_ms = *random.pick(&[2_000, 5_000, 15_000, 30_000]);
    let longest_ms = *random.pick(&[1_000, 5_000, 20_000]);
    let mut joined = cluster.nodes;
    let mut faults = Vec::new();
    let mut at_ms = random.among(1..pause_ms);
    while at_ms < duration_ms {
        let kind = *random.pick(&kinds);
        let for_ms = random.among(50..longest_ms);
        if let Some(fault) = fault(random, kind, cluster, &mut joined, for_ms) {
            faults.push(Scheduled { at_ms, fault });
        }
        at_ms += random.among(1..2 * pause_ms);
    }
    faults
}

const KINDS: u64 = 15;

fn fault(
    random: &mut Random,
    kind: u64,
    cluster: &Cluster,
    joined: &mut usize,
    for_ms: u64,
) -> Option<Fault> {
    let nodes = *joined;
    let node = random.below(nodes as u64) as usize;
    Some(match kind {
        0 => Fault::Cut {
            links: split(nodes, &some_of(random, nodes), true),
            for_ms,
        },
        1 => Fault::Cut {
            links: split(nodes, &some_of(random, nodes), false),
            for_ms,
        },
        2 => Fault::Cut {
            links: bridge(nodes, node),
            for_ms,
        },
        3 => Fault::Cut {
            links: split(nodes, &[node], true),
            for_ms,
        },
        4 | 5 => Fault::Kill { node, for_ms },
        6 => Fault::PowerCut {
            nodes: vec![node],
            for_ms,
            chance: random.next(),
            after_write: random.percent(50),
        },
        7 => Fault::PowerCut {
            nodes: (0..nodes).collect(),
            for_ms: for_ms / 4,
            chance: random.next(),
            after_write: random.percent(50),
        },
        8 => Fault::Restart { node, for_ms },
        9 => Fault::Freeze { node, for_ms },
        10 => Fault::SlowDisk {
            node,
            by_ms: *random.pick(&[20, 100, 1000]),
            for_ms,
        },
        11 => Fault::Weather {
            weather: Weather {
                delay_ms_min: 0,
                delay_ms_max: *random.pick(&[20, 100, 500]),
                lost_percent: *random.pick(&[0, 5, 20]),
            },
            for_ms,
        },
        12 => Fault::Reset { node },
        13 => Fault::Transfer { to: node },
        _ if nodes < cluster.nodes + JOINERS_MAX && random.percent(60) => {
            *joined += 1;
            Fault::Join { node: nodes }
        }
        _ => Fault::Remove { node },
    })
}

/// Between one and all but one.
fn some_of(random: &mut Random, nodes: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..nodes).collect();
    let count = random.among(1..nodes as u64) as usize;
    (0..count)
        .map(|_| all.swap_remove(random.below(all.len() as u64) as usize))
        .collect()
}

/// The links from the side to the others, and back.
fn split(nodes: usize, side: &[usize], both: bool) -> Vec<(usize, usize)> {
    let mut links = Vec::new();
    for &from in side {
        for to in (0..nodes).filter(|node| !side.contains(node)) {
            links.push((from, to));
            if both {
                links.push((to, from));
            }
        }
    }
    links
}

/// Two halves that only one node sees both of.
fn bridge(nodes: usize, seen_by: usize) -> Vec<(usize, usize)> {
    let others: Vec<usize> = (0..nodes).filter(|node| *node != seen_by).collect();
    let (left, right) = others.split_at(others.len() / 2);
    let pairs = left.iter().flat_map(|a| right.iter().map(move |b| (*a, *b)));
    pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
}

impl Fault {
    /// How long it lasts.
    pub fn duration(&self) -> Duration {
        Duration::from_millis(match self {
            Fault::Cut { for_ms, .. }
            | Fault::Kill { for_ms, .. }
            | Fault::PowerCut { for_ms, .. }
            | Fault::Restart { for_ms, .. }
            | Fault::Freeze { for_ms, .. }
            | Fault::SlowDisk { for_ms, .. }
            | Fault::Weather { for_ms, .. } => *for_ms,
            Fault::Reset { .. } | Fault::Transfer { .. } | Fault::Join { .. } | Fault::Remove { .. } => 0,
        })
    }
}

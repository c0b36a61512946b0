//! Faults as data: what is done to whom for how long. Doing one and undoing it are steps of their own, so that a history
//! can be held against the time in between.

use std::fmt;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, Part};

/// How long a wall clock that jumps to and fro stays where it is.
const STROBE: Duration = Duration::from_secs(2);

/// A node that a fault is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Victim {
    /// Its name.
    pub(crate) node: String,
    /// Whether it led.
    pub(crate) leads: bool,
}

/// A fault that was decided on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// What is done.
    #[serde(flatten)]
    pub(crate) what: What,
    /// For how long, in milliseconds.
    pub(crate) hold_ms: u64,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum What {
    /// SIGKILL, and started again.
    Kill(Victim),
    /// SIGSTOP, and SIGCONT.
    Pause(Victim),
    /// A new member, removed again.
    AddNode,
    /// A member removed, and an empty one added.
    RemoveNode(Victim),
    /// Packets between some nodes are lost, each from the first to the second.
    Partition {
        /// Which partition this is, in words.
        shape: String,
        /// The pairs.
        silences: Vec<(String, String)>,
    },
    /// A node cut off from everybody, clients too.
    Disconnect(Victim),
    /// A part of all packets is lost.
    Loss {
        /// How many of a hundred.
        percent: u8,
    },
    /// A wall clock is moved.
    Clock {
        /// Whose.
        victim: Victim,
        /// By how much.
        offset_s: i64,
        /// Whether it jumps to and fro.
        strobe: bool,
    },
    /// Writes to a disk wait, again and again.
    SlowDisk {
        /// Whose.
        victim: Victim,
        /// How long they wait …
        frozen_ms: u64,
        /// … and how long they do not, in between.
        thawed_ms: u64,
    },
    /// A disk has no room.
    FullDisk(Victim),
    /// Killed, and bits flipped in its files before it starts again.
    Corrupt {
        /// Whose.
        victim: Victim,
        /// In which.
        part: Part,
        /// How many.
        bits: u32,
        /// Which ones, is decided by this.
        seed: u64,
    },
    /// All nodes stopped when asked and started again, one after the other.
    RollingRestart,
}

impl Fault {
    /// Does it, and returns when it is over and every node serves again; what is worth telling of how that went.
    pub(crate) async fn run(&self, cluster: &mut Cluster) -> anyhow::Result<Option<String>> {
        let hold = Duration::from_millis(self.hold_ms);
        let mut note = None;
        match &self.what {
            What::Kill(victim) => {
                cluster.kill(&victim.node).await?;
                tokio::time::sleep(hold).await;
                cluster.start_node(&victim.node)?;
            }
            What::Pause(victim) => {
                cluster.set_paused(&victim.node, true)?;
                tokio::time::sleep(hold).await;
                cluster.set_paused(&victim.node, false)?;
            }
            What::AddNode => {
                let added = cluster.add_node().await?;
                cluster.serves().await?;
                tokio::time::sleep(hold).await;
                cluster.remove_node(&added).await?;
            }
            What::RemoveNode(victim) => {
                cluster.remove_node(&victim.node).await?;
                tokio::time::sleep(hold).await;
                cluster.add_node().await?;
            }
            What::Partition { silences, .. } => {
                cluster.drop_packets(silences, 0)?;
                tokio::time::sleep(hold).await;
                cluster.drop_packets(&[], 0)?;
            }
            What::Disconnect(victim) => {
                cluster.disconnect(&victim.node)?;
                tokio::time::sleep(hold).await;
                cluster.reconnect(&victim.node)?;
            }
            What::Loss { percent } => {
                cluster.drop_packets(&[], *percent)?;
                tokio::time::sleep(hold).await;
                cluster.drop_packets(&[], 0)?;
            }
            What::Clock {
                victim,
                offset_s,
                strobe,
            } => {
                move_clock(cluster, &victim.node, *offset_s, *strobe, hold).await?;
            }
            What::SlowDisk {
                victim,
                frozen_ms,
                thawed_ms,
            } => {
                let over = Instant::now() + hold;
                while Instant::now() < over {
                    cluster
                        .freeze_disk(&victim.node, Duration::from_millis(*frozen_ms))
                        .await?;
                    tokio::time::sleep(Duration::from_millis(*thawed_ms)).await;
                }
            }
            What::FullDisk(victim) => {
                cluster.set_disk_full(&victim.node, true)?;
                tokio::time::sleep(hold).await;
                cluster.set_disk_full(&victim.node, false)?;
            }
            What::Corrupt {
                victim,
                part,
                bits,
                seed,
            } => {
                cluster.kill(&victim.node).await?;
                let mut rng = StdRng::seed_from_u64(*seed);
                let flipped = cluster.damage(&victim.node, *part, *bits, &mut rng)?;
                tokio::time::sleep(hold).await;
                let after = cluster.start_damaged(&victim.node).await?;
                note = Some(format!("{after} (flipped: {flipped})"));
            }
            What::RollingRestart => {
                for node in cluster.names() {
                    cluster.terminate(&node).await?;
                    cluster.start_node(&node)?;
                    cluster.serves().await?;
                    tokio::time::sleep(hold).await;
                }
            }
        }
        cluster.is_whole().await?;
        Ok(note)
    }
}

async fn move_clock(
    cluster: &mut Cluster,
    node: &str,
    offset_s: i64,
    strobe: bool,
    hold: Duration,
) -> anyhow::Result<()> {
    let over = Instant::now() + hold;
    let mut moved = true;
    while Instant::now() < over {
        cluster.set_clock(node, if moved { offset_s } else { 0 })?;
        tokio::time::sleep(if strobe { STROBE.min(hold) } else { hold }).await;
        moved = !moved;
    }
    cluster.set_clock(node, 0)
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.leads {
            true => write!(f, "{}, the leader,", self.node),
            false => f.write_str(&self.node),
        }
    }
}

/// In a person's words.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = format!("{:.1} s", Duration::from_millis(self.hold_ms).as_secs_f64());
        match &self.what {
            What::Kill(victim) => write!(f, "{victim} killed, back after {seconds}"),
            What::Pause(victim) => write!(f, "{victim} stopped for {seconds}"),
            What::AddNode => write!(f, "a node added, and removed again"),
            What::RemoveNode(victim) => write!(f, "{victim} removed, and an empty node added"),
            What::Partition { shape, .. } => write!(f, "{shape} for {seconds}"),
            What::Disconnect(victim) => write!(f, "{victim} cut off from everybody for {seconds}"),
            What::Loss { percent } => write!(f, "{percent} % of all packets lost for {seconds}"),
            What::Clock {
                victim,
                offset_s,
                strobe,
            } => {
                let how = if *strobe { "moved to and fro" } else { "moved" };
                write!(f, "the clock of {victim} {how} by {offset_s:+} s for {seconds}")
            }
            What::SlowDisk {
                victim,
                frozen_ms,
                thawed_ms,
            } => write!(
                f,
                "writes of {victim} held for {frozen_ms} ms every {} ms for {seconds}",
                frozen_ms + thawed_ms
            ),
            What::FullDisk(victim) => write!(f, "the disk of {victim} full for {seconds}"),
            What::Corrupt {
                victim, part, bits, ..
            } => {
                let part = match part {
                    Part::Log => "log",
                    Part::Store => "store",
                };
                write!(f, "{victim} killed, {bits} bits of its {part} flipped")
            }
            What::RollingRestart => write!(f, "all nodes restarted one after the other"),
        }
    }
}

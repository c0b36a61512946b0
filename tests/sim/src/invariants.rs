//! What must hold inside the cluster at any time, whatever clients see.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kv_node::node::Node;
use parking_lot::Mutex;
use tokio::{sync::Mutex as AsyncMutex, time::sleep};

use crate::{host::Machine, verdict::Verdict};

/// How often the insides are looked at.
const INTERVAL: Duration = Duration::from_millis(500);
/// Revisions with which all of a node's state is looked at half as often, with twice as many a third as often, and so on: so
/// the looks take the same share of a long run as of a short one.
const STATE_REVISIONS: i64 = 250;
/// Log bytes that are compared in one look.
const LOOK_BYTES: usize = 1 << 20;

/// Looks into all nodes. Clones share what was seen.
#[derive(Clone)]
pub struct Invariants {
    cluster: Arc<AsyncMutex<Vec<Machine>>>,
    verdict: Arc<Verdict>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// Who led each term.
    leaders: BTreeMap<u64, u64>,
    /// Term and checksum of each entry that a node has applied.
    entries: BTreeMap<u64, (u64, u32)>,
    /// Up to where a node's entries were compared.
    compared: BTreeMap<u64, u64>,
    /// Checksum of the state by the applied index.
    states: BTreeMap<u64, u32>,
    looks: i64,
}

impl Invariants {
    /// Nothing seen yet.
    pub fn new(cluster: Arc<AsyncMutex<Vec<Machine>>>, verdict: Arc<Verdict>) -> Invariants {
        Invariants {
            cluster,
            verdict,
            seen: Arc::default(),
        }
    }

    /// Looks again and again.
    pub async fn watch(self) {
        loop {
            sleep(INTERVAL).await;
            self.look(false).await;
        }
    }

    /// Looks once: at all of the state only where that is due, unless it is the last time.
    pub async fn look(&self, is_last: bool) {
        let nodes: Vec<Node> = self
            .cluster
            .lock()
            .await
            .iter()
            .filter_map(Machine::node)
            .collect();
        self.seen.lock().looks += 1;
        for node in nodes {
            let found = self.seen.lock().look(&node, is_last);
            if let Err(what) = found {
                self.verdict.violated(what);
            }
        }
    }
}

impl Seen {
    fn look(&mut self, node: &Node, is_last: bool) -> Result<(), String> {
        self.one_leader(node)?;
        self.same_entries(node)?;
        if is_last || self.is_state_due(node) {
            self.same_state(node)?;
        }
        Ok(())
    }

    fn is_state_due(&self, node: &Node) -> bool {
        let kept = node
            .store()
            .with_state(|state| state.revision() - state.compacted());
        self.looks % (1 + kept / STATE_REVISIONS) == 0
    }

    /// At most one leader in a term.
    fn one_leader(&mut self, node: &Node) -> Result<(), String> {
        let Some((term, leader)) = node.led() else {
            return Ok(());
        };
        let first = *self.leaders.entry(term).or_insert(leader);
        if first == leader {
            Ok(())
        } else {
            Err(format!("term {term} is led by {first:x} and by {leader:x}"))
        }
    }

    /// What is applied under an index is the same everywhere and for ever.
    fn same_entries(&mut self, node: &Node) -> Result<(), String> {
        let id = node.identity().member_id;
        let applied = node.store().applied().map_or(0, |point| point.index);
        let from = self.compared.get(&id).map_or(0, |last| last + 1);
        let entries = node.wal().read(from..applied + 1, LOOK_BYTES);
        for entry in entries.map_err(|error| format!("the log of {id:x} cannot be read: {error}"))? {
            let index = entry.position.index;
            let ours = (entry.position.term, crc32c::crc32c(&entry.payload));
            let first = *self.entries.entry(index).or_insert(ours);
            if first != ours {
                return Err(format!("entry {index} is {first:?} and, on {id:x}, {ours:?}"));
            }
            self.compared.insert(id, index);
        }
        Ok(())
    }

    /// Equal states at equal indexes.
    fn same_state(&mut self, node: &Node) -> Result<(), String> {
        let id = node.identity().member_id;
        let Some(point) = node.store().applied() else {
            return Ok(());
        };
        let hashed = node
            .store()
            .hash_kv(0)
            .map_err(|error| format!("{id:x} cannot hash: {error}"))?;
        let facts = node.store().with_state(|state| {
            state.facts().fold(0, |crc, fact| {
                let crc = crc32c::crc32c_append(crc, &fact.key().to_bytes());
                crc32c::crc32c_append(crc, &fact.to_bytes())
            })
        });
        let raft = crc32c::crc32c(&point.raft);
        let ours = hashed.hash
            ^ raft.rotate_left(3)
            ^ facts.rotate_left(7)
            ^ (hashed.revision as u32).rotate_left(13);
        let first = *self.states.entry(point.index).or_insert(ours);
        if first == ours {
            Ok(())
        } else {
            Err(format!(
                "the states at entry {} differ: {first:08x} and, on {id:x}, {ours:08x}",
                point.index
            ))
        }
    }
}

//! The directory: names as programs see them, as they are durable, and the changes between the two.

use std::collections::BTreeMap;
use std::io;

use super::Crash;
use super::random::Random;

#[derive(Clone)]
pub(super) enum NameChange {
    Create { name: String, id: u64 },
    Remove { name: String },
    Rename { from: String, to: String, id: u64 },
}

#[derive(Clone, Default)]
pub(super) struct Names {
    visible: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    unsynced: Vec<NameChange>,
}

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<u64> {
        self.visible.get(name).copied()
    }

    pub(super) fn list(&self) -> Vec<String> {
        self.visible.keys().cloned().collect()
    }

    /// Files that have a name.
    pub(super) fn all(&self) -> impl Iterator<Item = u64> + '_ {
        self.visible.values().copied()
    }

    pub(super) fn apply(&mut self, change: NameChange) -> io::Result<()> {
        if !carry_out(&mut self.visible, &change) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.unsynced.push(change);
        Ok(())
    }

    pub(super) fn sync(&mut self) {
        self.durable = self.visible.clone();
        self.unsynced.clear();
    }

    pub(super) fn crash(&mut self, crash: Crash, random: &mut Random) {
        for change in self.unsynced.drain(..) {
            let kept = match crash {
                Crash::LoseAll => false,
                Crash::KeepAll => true,
                Crash::Random(_) => random.coin(),
            };
            if kept {
                // A change that builds on one which was lost is lost with it.
                carry_out(&mut self.durable, &change);
            }
        }
        self.visible = self.durable.clone();
    }
}

/// `false`: the name that it starts from is not there.
fn carry_out(names: &mut BTreeMap<String, u64>, change: &NameChange) -> bool {
    match change {
        NameChange::Create { name, id } => {
            names.insert(name.clone(), *id);
            true
        }
        NameChange::Remove { name } => names.remove(name).is_some(),
        NameChange::Rename { from, to, id } => {
            // What is renamed is this file, whatever else has the name after a crash.
            if names.get(from) == Some(id) {
                names.remove(from);
            }
            names.insert(to.clone(), *id);
            true
        }
    }
}

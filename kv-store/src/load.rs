//! Reads everything an engine holds: once when a store opens, once when a snapshot has been taken in.
//!
//! Promises: a state is only returned if every checksum holds, the records and facts are what the tallies say, and the
//! applied index is not below what was made durable. sled cuts its own log at the first record that it cannot
//! read, wherever that is, and opens with what came before; the last check is what finds that.

use std::{
    ops::Bound,
    time::{Duration, Instant},
};

use kv_core::{Fact, Restorer, Revision, State};

use crate::{
    block::Block,
    codec::{self, Damage, Key},
    engine::{Engine, EngineError},
    meta::{FactTally, Meta, Tally},
    record::View,
};

/// The largest log index that is taken for one: from here there is room to count on without an end.
const INDEX_MAX: u64 = u64::MAX / 2;

/// What opening a store found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Keys that exist.
    pub keys: usize,
    /// Records read, superseded ones included.
    pub records: u64,
    /// How long reading took.
    pub duration: Duration,
}

/// Why an engine's content is no state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{0}")]
    Damaged(String),
}

impl From<Damage> for LoadError {
    fn from(damage: Damage) -> Self {
        LoadError::Damaged(damage.to_string())
    }
}

/// Builds the state from an engine. A new engine gives the empty state.
pub(crate) fn load(engine: &dyn Engine, durable_index: u64) -> Result<(State, Meta, Loaded), LoadError> {
    let start = Instant::now();
    let meta = match engine.get(&Key::Meta.to_bytes())? {
        Some(value) => Meta::decode(&value)?,
        None => Meta::empty(None),
    };
    let applied = meta.applied.as_ref().map_or(0, |point| point.index);
    if applied < durable_index {
        return Err(LoadError::Damaged(format!(
            "it ends at log index {applied}, although {durable_index} had been made durable"
        )));
    }
    if applied > INDEX_MAX {
        return Err(Damage("a log index that no cluster comes to").into());
    }
    let mut restorer = Restorer::new();
    let mut tally = Tally::default();
    let mut last = Revision::default();
    let (from, to) = (Key::FIRST_BLOCK.to_bytes(), Key::LAST_BLOCK.to_bytes());
    for pair in engine.scan((Bound::Included(&from), Bound::Included(&to))) {
        let (key, value) = pair?;
        let block = Block::decode(&key, &value)?;
        // A record is looked for in the last block that begins before it, so each begins behind all before it, and none
        // is left that holds nothing.
        if block.key() <= Key::Block(last) {
            return Err(Damage("a record behind the beginning of the next block").into());
        }
        if block.is_empty() {
            return Err(Damage("a block without records").into());
        }
        for entry in block.records() {
            let (at, encoded) = entry?;
            last = at;
            tally.add(at);
            restorer
                .push(at, View::decode(encoded)?.head())
                .map_err(|error| LoadError::Damaged(error.to_string()))?;
        }
    }
    if tally != meta.tally {
        return Err(LoadError::Damaged(format!(
            "it holds {} records, and should hold {} others",
            tally.records, meta.tally.records
        )));
    }
    load_facts(engine, &meta, &mut restorer)?;
    let state = restorer
        .finish(meta.revision, meta.compacted)
        .map_err(|error| LoadError::Damaged(error.to_string()))?;
    let loaded = Loaded {
        keys: state.keys(),
        records: tally.records,
        duration: start.elapsed(),
    };
    Ok((state, meta, loaded))
}

fn load_facts(engine: &dyn Engine, meta: &Meta, restorer: &mut Restorer) -> Result<(), LoadError> {
    let mut tally = FactTally::default();
    let (from, to) = (Key::FIRST_FACT.to_bytes(), Key::FIRST_BLOCK.to_bytes());
    for pair in engine.scan((Bound::Included(&from), Bound::Excluded(&to))) {
        let (stored, value) = pair?;
        let Key::Fact(key) = Key::from_bytes(&stored)? else {
            return Err(Damage("a key that is no fact's").into());
        };
        let value = codec::unseal(&stored, &value)?;
        tally.add(key, &value);
        let fact = Fact::from_bytes(key, &value).map_err(|error| LoadError::Damaged(error.to_string()))?;
        restorer
            .push_fact(fact)
            .map_err(|error| LoadError::Damaged(error.to_string()))?;
    }
    if tally != meta.facts {
        return Err(LoadError::Damaged(format!(
            "it holds {} facts, and should hold {} others",
            tally.facts, meta.facts.facts
        )));
    }
    Ok(())
}

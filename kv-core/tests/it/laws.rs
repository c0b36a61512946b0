//! Random histories: the state machine and the second model must answer the same, whatever is swept and
//! restarted in between.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kv_core::{Command, Compact, Effects, Fact, Limits, Outcome, Range, Record, State};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use crate::disk::{Disk, Unreadable};
use crate::generate::{self, Step};
use crate::model::Model;

struct World {
    state: State,
    disk: Disk,
    model: Model,
    cursor: Option<Bytes>,
}

impl World {
    fn new() -> World {
        World {
            state: State::new(),
            disk: Disk::default(),
            model: Model::new(),
            cursor: None,
        }
    }

    fn step(&mut self, step: &Step) -> TestCaseResult {
        match step {
            Step::Apply(command) => self.apply(command)?,
            Step::Read(range) => self.read(range)?,
            Step::Sweep(max_keys) => {
                let swept = self.state.sweep(self.cursor.take(), *max_keys);
                self.disk.delete(&swept);
                self.cursor = swept.next;
            }
            Step::CutOff(max_keys, deleted) => {
                let mut swept = self.state.sweep(self.cursor.take(), *max_keys);
                swept.dropped.truncate(*deleted);
                self.disk.delete(&swept);
                self.state = self.disk.restore(&self.state);
            }
            Step::Restart => {
                let restored = self.disk.restore(&self.state);
                prop_assert_eq!(&restored, &self.state);
                self.state = restored;
                self.cursor = None;
            }
        }
        self.check_numbers()
    }

    fn apply(&mut self, command: &Command) -> TestCaseResult {
        self.check_faults(command)?;
        if let Command::Txn(txn) = command
            && txn.is_read_only()
        {
            let outcome = self
                .state
                .read_txn(&self.disk, txn)
                .expect("the disk reads everything");
            prop_assert_eq!(outcome, self.model.clone().apply(command));
        }
        let last = self.disk.records.last_key_value().map(|(at, _)| *at);
        let before = self.model.now().clone();
        let outcome = self.disk.apply(&mut self.state, command);
        prop_assert_eq!(&outcome, &self.model.apply(command));
        let written = self.disk.records.iter().filter(|(at, _)| Some(**at) > last);
        self.check_writes(before, written.map(|(at, record)| (at.main, record)).collect())?;
        prop_assert_eq!(
            bincode::deserialize::<Outcome>(
                &bincode::serialize(&outcome).expect("values of the model encode")
            )
            .expect("values of the model encode"),
            outcome
        );
        let encoded = bincode::serialize(command).expect("values of the model encode");
        prop_assert_eq!(
            &bincode::deserialize::<Command>(&encoded).expect("values of the model encode"),
            command
        );
        Ok(())
    }

    /// The records written turn the content before into the content after.
    fn check_writes(
        &self,
        mut content: crate::model::Content,
        written: Vec<(i64, &Record)>,
    ) -> TestCaseResult {
        let mut last = None;
        for (main, record) in written {
            // Only leases that end have a revision each, and those have nothing but deletions.
            prop_assert!(main <= self.model.revision());
            if let (Some(last), Record::Put(_)) = (last, record) {
                prop_assert_eq!(main, last);
            }
            last = Some(main);
            match record {
                Record::Put(kv) => {
                    prop_assert_eq!(kv.mod_revision, main);
                    content.insert(kv.key.clone(), kv.clone());
                }
                Record::Delete { key } => {
                    prop_assert!(content.remove(key).is_some(), "a missing key was deleted")
                }
            }
        }
        prop_assert_eq!(&content, self.model.now());
        Ok(())
    }

    /// Wherever the disk fails, nothing has changed.
    fn check_faults(&self, command: &Command) -> TestCaseResult {
        for reads in 0.. {
            let (mut state, mut effects) = (self.state.clone(), Effects::default());
            self.disk.reads_left.set(Some(reads));
            let outcome = state.apply(&self.disk, command, &mut effects);
            self.disk.reads_left.set(None);
            match outcome {
                Ok(_) => break,
                Err(Unreadable(_)) => {
                    prop_assert_eq!(&state, &self.state);
                    prop_assert_eq!(effects, Effects::default());
                }
            }
        }
        Ok(())
    }

    fn read(&self, range: &Range) -> TestCaseResult {
        let answer = self.state.plan(range).map(|plan| {
            let header_revision = plan.header_revision;
            (
                header_revision,
                plan.finish(&self.disk).expect("the disk reads everything"),
            )
        });
        prop_assert_eq!(answer, self.model.read(range));
        Ok(())
    }

    fn check_numbers(&self) -> TestCaseResult {
        prop_assert_eq!(self.state.revision(), self.model.revision());
        prop_assert_eq!(self.state.compacted(), self.model.compacted);
        prop_assert_eq!(self.state.keys(), self.model.now().len());
        let bytes = |record: &Record| match record {
            Record::Put(kv) => kv.key.len() + kv.value.len(),
            Record::Delete { key } => key.len(),
        };
        let sum: usize = self.disk.records.values().map(bytes).sum();
        prop_assert_eq!(self.state.live_bytes(), sum as u64);
        self.check_leases()
    }

    /// Leases, their ends and their keys; and what the disk was told of them.
    fn check_leases(&self) -> TestCaseResult {
        let (state, model) = (&self.state, &self.model);
        prop_assert_eq!(state.clock_ms(), model.clock_ms);
        prop_assert_eq!(
            state.leases().collect::<Vec<_>>(),
            model.leases.keys().copied().collect::<Vec<_>>()
        );
        let mut ends = Vec::new();
        for (&id, &(ttl_s, end)) in &model.leases {
            let term = state.lease(id).expect("both have it");
            prop_assert_eq!((term.ttl_s, term.expires_at_ms), (ttl_s, end));
            prop_assert_eq!(state.lease_keys(id).collect::<Vec<_>>(), model.lease_keys(id));
            ends.push((end, id));
        }
        ends.sort_unstable();
        prop_assert_eq!(state.lease_ends().collect::<Vec<_>>(), ends);
        let leased = model.now().values().filter(|kv| kv.lease != 0);
        prop_assert!(leased.into_iter().all(|kv| model.leases.contains_key(&kv.lease)));
        let listed = state
            .facts()
            .map(|fact: Fact| (fact.key().to_bytes(), fact.to_bytes()));
        prop_assert_eq!(listed.collect::<BTreeMap<_, _>>(), self.disk.facts.clone());
        Ok(())
    }

    /// Every revision that may be read answers; what is kept is what a whole sweep leaves; what stood before
    /// a write is what the revision before holds.
    fn check_all(&mut self) -> TestCaseResult {
        for revision in self.model.compacted.max(1)..=self.model.revision() {
            self.read(&Range {
                key: "\0".into(),
                range_end: "\0".into(),
                revision,
                ..Range::default()
            })?;
        }
        let kept: Vec<_> = self
            .disk
            .records
            .iter()
            .filter(|(at, record)| self.state.kept(**at, record.key()))
            .map(|(at, _)| *at)
            .collect();
        self.check_needed(&kept)?;
        self.check_previous()?;
        let mut cursor = None;
        loop {
            let swept = self.state.sweep(cursor, 3);
            self.disk.delete(&swept);
            cursor = swept.next;
            if cursor.is_none() {
                break;
            }
        }
        prop_assert_eq!(self.disk.records.keys().copied().collect::<Vec<_>>(), kept);
        Ok(())
    }

    fn check_needed(&self, kept: &[kv_core::Revision]) -> TestCaseResult {
        let compacted = self.model.compacted;
        let at_compacted = usize::try_from(compacted)
            .ok()
            .map(|revision| &self.model.contents[revision]);
        for (at, record) in &self.disk.records {
            let seen = at_compacted.and_then(|content| content.get(record.key()));
            let needed = at.main >= compacted
                || seen.is_some_and(|seen| {
                    *record == Record::Put(seen.clone()) && !self.written_later(*at, record)
                });
            prop_assert_eq!(
                kept.contains(at),
                needed,
                "{:?} {:?}, compacted at {}",
                at,
                record,
                compacted
            );
        }
        Ok(())
    }

    /// Whether the same transaction wrote the key again (which no validated one does).
    fn written_later(&self, at: kv_core::Revision, record: &Record) -> bool {
        let later = self
            .disk
            .records
            .range(at..)
            .skip(1)
            .take_while(|(next, _)| next.main == at.main);
        later.into_iter().any(|(_, next)| next.key() == record.key())
    }

    fn check_previous(&self) -> TestCaseResult {
        for (at, record) in &self.disk.records {
            if at.main <= self.model.compacted.max(1) || self.written_earlier(*at, record) {
                continue;
            }
            let previous = self.state.previous(record.key(), *at);
            let held = self.model.contents[at.main as usize - 1].get(record.key());
            let stored = previous.map(|previous| self.disk.records[&previous].clone());
            prop_assert_eq!(stored, held.map(|kv| Record::Put(kv.clone())));
        }
        Ok(())
    }

    fn written_earlier(&self, at: kv_core::Revision, record: &Record) -> bool {
        let earlier = self.disk.records.range(
            kv_core::Revision {
                main: at.main,
                sub: 0,
            }..at,
        );
        earlier
            .into_iter()
            .any(|(_, before)| before.key() == record.key())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn answers_as_the_model(steps in generate::steps(60)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step)?;
        }
        world.check_all()?;
        let revision = world.model.revision();
        if world.model.compacted < revision {
            world.step(&Step::Apply(Command::Compact(Compact { revision })))?;
            world.check_all()?;
        }
    }

    /// What passed the checks puts no key twice in one revision.
    #[test]
    fn a_valid_transaction_puts_no_key_twice(steps in generate::steps(30)) {
        let mut world = World::new();
        for step in &steps {
            let Step::Apply(command) = step else { continue };
            if command.validate(&Limits::default()).is_err() {
                continue;
            }
            let revision = world.state.revision();
            world.apply(command)?;
            let written = world.disk.records.iter().filter(|(at, _)| at.main > revision);
            let mut puts = BTreeSet::new();
            for (_, record) in written {
                if let Record::Put(kv) = record {
                    prop_assert!(puts.insert(kv.key.clone()), "{:?} was put twice", kv.key);
                }
            }
        }
    }
}

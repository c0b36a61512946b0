//! A second, plain log in a `BTreeMap`, and random requests that are made of both.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use kv_wal::{Driven, Entry, Options, Position, Wal};

/// Small segments, so that a short run goes through many of them.
pub fn small(segment_bytes: u64) -> Options {
    Options {
        log_id: 0xfeed,
        segment_bytes,
        cache_bytes: 2000,
        max_record_bytes: 2000,
        batch_bytes: 3000,
        full_retry: std::time::Duration::from_millis(1),
        ..Options::default()
    }
}

/// As `small`, driven by the test.
pub fn driven(segment_bytes: u64) -> Options {
    Options {
        drive: kv_wal::Drive::Caller,
        ..small(segment_bytes)
    }
}

/// A callback and where its result arrives.
pub fn reply() -> (
    impl FnOnce(io::Result<()>) + Send + 'static,
    Receiver<io::Result<()>>,
) {
    let (sender, receiver) = channel();
    (
        move |result| sender.send(result).expect("the test waits"),
        receiver,
    )
}

pub fn entry(term: u64, index: u64, payload: &[u8]) -> Entry {
    Entry {
        position: Position::new(term, index),
        payload: Bytes::copy_from_slice(payload),
    }
}

/// Everything that can be read from a log.
pub fn read_all(wal: &Wal) -> io::Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let next = entries.last().map_or(0, |last| last.position.index + 1);
        let more = wal.read(next..u64::MAX, 3000)?;
        if more.is_empty() {
            return Ok(entries);
        }
        entries.extend(more);
    }
}

pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*, seeded away from zero.
        let mut x = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15) | 1;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0 = x;
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % limit
    }
}

/// One change of the log; a crash may come between any two.
#[derive(Debug, Clone)]
pub enum Change {
    Entry(Entry),
    Vote(Bytes),
    Truncate(Option<u64>),
    Purge(Position),
}

/// The log as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    pub entries: BTreeMap<u64, Entry>,
    pub purged: Option<Position>,
    pub vote: Option<Bytes>,
}

impl Model {
    pub fn of(wal: &Wal) -> io::Result<Model> {
        let entries = read_all(wal)?
            .into_iter()
            .map(|entry| (entry.position.index, entry))
            .collect();
        let model = Model {
            entries,
            purged: wal.purged(),
            vote: wal.vote(),
        };
        assert_eq!(wal.last(), model.last());
        for entry in model.entries.values() {
            assert_eq!(wal.position(entry.position.index), Some(entry.position));
        }
        Ok(model)
    }

    pub fn last(&self) -> Option<Position> {
        self.entries
            .values()
            .next_back()
            .map(|entry| entry.position)
            .or(self.purged)
    }

    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Entry(entry) => {
                self.entries.insert(entry.position.index, entry.clone());
            }
            Change::Vote(vote) => self.vote = Some(vote.clone()),
            Change::Truncate(last) => self
                .entries
                .retain(|index, _| last.is_some_and(|last| *index <= last)),
            Change::Purge(upto) => {
                if self.purged.is_none_or(|purged| purged.index < upto.index) {
                    self.entries.retain(|index, _| *index > upto.index);
                    self.purged = Some(*upto);
                }
            }
        }
    }
}

/// A log and its model, fed with the same requests.
pub struct Run {
    pub wal: Wal,
    pub random: Random,
    /// The log after each change; the first is before any.
    pub history: Vec<Model>,
    /// How many changes are acknowledged.
    pub acked: Arc<AtomicUsize>,
    /// For each committed mark: how many changes were asked for before it.
    pub marks: Vec<usize>,
    seed: u64,
    term: u64,
}

impl Run {
    pub fn new(wal: Wal, start: Model, seed: u64) -> Run {
        let term = start.last().map_or(1, |last| last.term);
        let acked = Arc::new(AtomicUsize::new(0));
        Run {
            wal,
            random: Random(seed),
            history: vec![start],
            acked,
            marks: Vec::new(),
            seed,
            term,
        }
    }

    pub fn model(&self) -> &Model {
        &self.history[self.history.len() - 1]
    }

    fn change(&mut self, change: &Change) {
        let mut next = self.model().clone();
        next.apply(change);
        self.history.push(next);
    }

    /// The callback of the request whose last change was made last.
    fn ack(&self) -> impl FnOnce(io::Result<()>) + Send + 'static {
        let (acked, upto) = (Arc::clone(&self.acked), self.history.len() - 1);
        move |result| {
            if result.is_ok() {
                assert!(
                    acked.swap(upto, Ordering::SeqCst) <= upto,
                    "callbacks come in order"
                );
            }
        }
    }

    /// One random request.
    pub fn request(&mut self) {
        match self.random.below(12) {
            0..=5 => self.append(),
            6..=7 => {
                let vote: Bytes = format!("vote {}", self.history.len()).into();
                self.change(&Change::Vote(vote.clone()));
                self.wal.save_vote(vote, self.ack());
            }
            8 => self.truncate(),
            9 => self.purge(),
            _ => {
                self.marks.push(self.history.len() - 1);
                let changes = self.history.len() as u64 - 1;
                let mark = [self.seed.to_le_bytes(), changes.to_le_bytes()].concat().into();
                // Refused only after the power failed.
                self.wal.save_committed(mark).ok();
            }
        }
    }

    fn append(&mut self) {
        let next = self.model().last().map_or(0, |last| last.index + 1);
        let mut entries = Vec::new();
        for index in next..next + self.random.below(6) {
            let bytes = match self.random.below(10) {
                0 => 0,
                1 => 2000,
                _ => self.random.below(600),
            };
            let fill = self.random.below(256) as u8;
            let entry = entry(self.term, index, &vec![fill; bytes as usize]);
            self.change(&Change::Entry(entry.clone()));
            entries.push(entry);
        }
        self.wal.append(entries, self.ack());
    }

    fn truncate(&mut self) {
        let back = self.random.below(10);
        let last = self.model().last().map_or(0, |last| last.index).checked_sub(back);
        self.term += 1;
        self.change(&Change::Truncate(last));
        self.wal.truncate_after(last, self.ack());
    }

    fn purge(&mut self) {
        let Some(last) = self.model().last() else { return };
        let upto = match self.random.below(5) {
            0 => Position::new(self.term, last.index + self.random.below(4)),
            _ => {
                let index = last.index.saturating_sub(self.random.below(20));
                Position::new(
                    self.model()
                        .entries
                        .get(&index)
                        .map_or(1, |entry| entry.position.term),
                    index,
                )
            }
        };
        self.change(&Change::Purge(upto));
        self.wal.purge(upto, self.ack());
    }

    /// Random requests, driven every few of them, until `count` or the log fails.
    pub fn drive(&mut self, count: usize) {
        for _ in 0..count {
            self.request();
            if self.random.below(2) == 0 {
                match self.wal.drive() {
                    Driven::Failed => return,
                    Driven::Full => panic!("the disk is not full"),
                    Driven::Idle | Driven::Worked => {}
                }
            }
        }
        while self.wal.drive() == Driven::Worked {}
    }

    /// What a log opened after a crash must be: all that was acknowledged, then some of what came next, in
    /// order. Returns that.
    pub fn check_recovered(&self, wal: &Wal) -> Model {
        let found = Model::of(wal).expect("what was recovered can be read");
        let acked = self.acked.load(Ordering::SeqCst);
        // Equal states in a row (a vote saved twice, an empty truncation): the last is the most lenient.
        let at = (acked..self.history.len())
            .rev()
            .find(|at| self.history[*at] == found);
        let Some(at) = at else {
            panic!(
                "after {acked} acknowledged changes, found {found:?}, expected {:?}",
                self.history[acked]
            );
        };
        self.check_mark(wal, acked, at);
        found
    }

    /// The committed mark: at least the one before what was acknowledged, at most what is there.
    fn check_mark(&self, wal: &Wal, acked: usize, at: usize) {
        let mark = wal.committed().map(|bytes| {
            let (run, changes) = bytes.split_at(8);
            let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
            (number(run), number(changes) as usize)
        });
        // A mark of an earlier run says nothing about this one.
        let mine = mark
            .filter(|(run, _)| *run == self.seed)
            .map(|(_, changes)| changes);
        assert!(
            mine.is_none_or(|changes| changes <= at),
            "the mark {mine:?} speaks of lost changes: {at}"
        );
        let at_least = self.marks.iter().rev().find(|changes| **changes < acked).copied();
        assert!(mine >= at_least, "the mark {mine:?} is older than {at_least:?}");
    }
}

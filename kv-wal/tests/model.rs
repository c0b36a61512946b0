//! Random requests against a plain model: what can be read is right at once, and after every reopening.

mod support;

use kv_wal::sim::{Crash, SimDisk};
use kv_wal::{Entry, Position, Wal};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use support::{Change, Model, entry, reply, small};

#[derive(Debug, Clone)]
enum Step {
    Append { count: u64, bytes: usize },
    Vote(u8),
    Truncate { back: u64 },
    TruncateAll,
    Purge { back: u64 },
    PurgeBeyond { ahead: u64 },
    Sync,
    Close,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..8u64, prop_oneof![0..50usize, 0..2000usize]).prop_map(|(count, bytes)| Step::Append { count, bytes }),
        2 => any::<u8>().prop_map(Step::Vote),
        2 => (0..12u64).prop_map(|back| Step::Truncate { back }),
        1 => Just(Step::TruncateAll),
        2 => (0..12u64).prop_map(|back| Step::Purge { back }),
        1 => (0..5u64).prop_map(|ahead| Step::PurgeBeyond { ahead }),
        2 => Just(Step::Sync),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
    ]
}

struct Pair {
    disk: SimDisk,
    wal: Wal,
    model: Model,
    term: u64,
}

impl Pair {
    fn new() -> Pair {
        let disk = SimDisk::new();
        let wal = Self::open(&disk);
        Pair {
            disk,
            wal,
            model: Model::default(),
            term: 1,
        }
    }

    fn open(disk: &SimDisk) -> Wal {
        Wal::open(disk.mount(), small(12 << 10)).expect("it opens").0
    }

    fn run(&mut self, step: &Step) {
        let last = self.model.last();
        match step {
            Step::Append { count, bytes } => {
                let next = last.map_or(3, |last| last.index + 1);
                let fill = |index: u64| {
                    vec![(index + self.term) as u8; bytes / 2 + index as usize % (bytes / 2 + 1)]
                };
                let entries: Vec<Entry> = (next..next + count)
                    .map(|index| entry(self.term, index, &fill(index)))
                    .collect();
                for entry in &entries {
                    self.model.apply(&Change::Entry(entry.clone()));
                }
                self.wal.append(entries, good);
            }
            Step::Vote(vote) => {
                let vote = bytes::Bytes::from(vec![*vote; 5]);
                self.model.apply(&Change::Vote(vote.clone()));
                self.wal.save_vote(vote, good);
            }
            Step::Truncate { back } => {
                let upto = last.map_or(0, |last| last.index).checked_sub(*back);
                self.term += 1;
                self.model.apply(&Change::Truncate(upto));
                self.wal.truncate_after(upto, good);
            }
            Step::TruncateAll => {
                self.model.apply(&Change::Truncate(None));
                self.wal.truncate_after(None, good);
            }
            Step::Purge { back } => {
                if let Some(last) = last
                    && let Some(kept) = self.model.entries.get(&last.index.saturating_sub(*back))
                {
                    let upto = kept.position;
                    self.model.apply(&Change::Purge(upto));
                    self.wal.purge(upto, good);
                }
            }
            Step::PurgeBeyond { ahead } => {
                let upto = Position::new(self.term, last.map_or(0, |last| last.index) + ahead);
                self.model.apply(&Change::Purge(upto));
                self.wal.purge(upto, good);
            }
            Step::Sync => self.sync(),
            Step::Close => {
                self.wal.close();
                self.wal = Self::open(&self.disk);
            }
            Step::Kill => {
                self.sync();
                // Kill the old log's thread from under it: its handles are dead from here on.
                self.disk.crash(Crash::LoseAll);
                self.wal = Self::open(&self.disk);
            }
        }
        assert_eq!(
            Model::of(&self.wal).expect("it can be read"),
            self.model,
            "after {step:?}"
        );
    }

    /// Waits until all that was asked for is durable.
    fn sync(&self) {
        let (done, result) = reply();
        self.wal.truncate_after(Some(u64::MAX), done);
        result.recv().expect("an answer").expect("durable");
    }
}

fn good(result: std::io::Result<()>) {
    // Only a log that was killed with requests in its queue may refuse them, and here none is.
    result.expect("acknowledged");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_log_is_its_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.run(step);
        }
        pair.run(&Step::Kill);
    }

    #[test]
    fn a_read_is_the_part_of_the_log_that_was_asked_for(
        steps in prop::collection::vec(step(), 1..30),
        start in 0..60u64,
        count in 0..40u64,
        max_bytes in 0..5000usize,
    ) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.run(step);
        }
        let all: Vec<Entry> = pair.model.entries.range(start..start + count).map(|(_, e)| e.clone()).collect();
        let read = pair.wal.read(start..start + count, max_bytes).expect("it can be read");
        prop_assert_eq!(&read[..], &all[..read.len()]);
        prop_assert_eq!(read.is_empty(), all.is_empty());
        let bytes = |entries: &[Entry]| entries.iter().map(|e| e.payload.len().max(1)).sum::<usize>();
        prop_assert!(read.len() <= 1 || bytes(&read) <= max_bytes + read.len());
        if read.len() < all.len() {
            prop_assert!(bytes(&all[..read.len() + 1]) > max_bytes, "one more would have fitted");
        }
    }
}

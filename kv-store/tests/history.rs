//! What was written is read back in its order, whole revisions at a time, wherever it lies by then.

mod common;

use bytes::Bytes;
use common::{command, options, sweep, transfer};
use kv_core::{Command, KeyValue, Range, Record, Revision};
use kv_store::{HistoryError, HistoryLimits, ReadError, Store};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<Command>),
    Read {
        from: i64,
        limits: (usize, usize),
        letter: u8,
    },
    Sync,
    Sweep,
    Reopen,
    Transfer,
}

fn step() -> impl Strategy<Value = Step> {
    let limits = prop_oneof![Just((usize::MAX, usize::MAX)), (1..200_usize, 1..8_usize)];
    prop_oneof![
        6 => prop::collection::vec(command(), 1..12).prop_map(Step::Apply),
        6 => (0..60_i64, limits, b'0'..=b'9').prop_map(|(from, limits, letter)| Step::Read { from, limits, letter }),
        2 => Just(Step::Sync),
        1 => Just(Step::Sweep),
        1 => Just(Step::Reopen),
        1 => Just(Step::Transfer),
    ]
}

/// All of the history from a revision on, in as many calls as it takes.
fn read_all(store: &Store, from: i64, limits: HistoryLimits, last: u8) -> Option<Vec<(Revision, Record)>> {
    let (mut next, mut read) = (from, Vec::new());
    loop {
        let wanted = |key: &[u8]| key.last().is_some_and(|&letter| letter >= last);
        let history = match store.history(next, wanted, limits) {
            Ok(history) => history,
            Err(HistoryError::Compacted(compacted)) => {
                assert_eq!((compacted, read.len()), (store.compacted(), 0));
                return None;
            }
            Err(fault) => panic!("{fault}"),
        };
        assert!(history.through >= next - 1, "it goes forward");
        let within = |(at, _): &(Revision, Record)| (next..=history.through).contains(&at.main);
        assert!(history.records.iter().all(within));
        read.extend(history.records);
        if history.through >= store.revision() {
            return Some(read);
        }
        next = history.through + 1;
    }
}

/// What a read just before the revision gives.
fn before(store: &Store, key: &Bytes, main: i64) -> Option<KeyValue> {
    let range = Range {
        key: key.clone(),
        revision: main - 1,
        ..Range::default()
    };
    match store.range(&range) {
        Ok(read) if main > 1 => read.result.kvs.into_iter().next(),
        Ok(_) | Err(ReadError::Refused(kv_core::Error::Compacted)) => None,
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn history_is_what_was_written(steps in prop::collection::vec(step(), 1..30), chunk in 1..4_000_usize) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut store = Store::open(dir.path(), options()).expect("opens");
        let (mut on_disk, mut index, mut written) = (true, 0, Vec::new());
        for step in steps {
            match step {
                Step::Apply(commands) => {
                    let entries: Vec<_> = (index + 1..).zip(commands.into_iter().map(Some)).collect();
                    index += entries.len() as u64;
                    written.extend(store.apply(&entries, Bytes::new()).expect("applies").records.iter().cloned());
                }
                Step::Read { from, limits: (bytes_max, records_max), letter } => {
                    let read = read_all(&store, from, HistoryLimits { bytes_max, records_max }, letter);
                    let wanted = |(at, record): &&(Revision, Record)| {
                        at.main >= from && record.key().last().is_some_and(|&last| last >= letter)
                    };
                    let expected: Vec<_> = written.iter().filter(wanted).cloned().collect();
                    prop_assert_eq!(read, (from >= store.compacted()).then_some(expected));
                    let keys = written.iter().filter(|(at, _)| at.main >= from);
                    let asked: Vec<_> = keys.map(|(at, record)| (record.key().clone(), at.main)).collect();
                    let answers = store.previous(asked.iter().map(|(key, main)| (&key[..], *main))).expect("reads");
                    for ((key, main), answer) in asked.iter().zip(answers) {
                        prop_assert_eq!(answer, before(&store, key, *main), "{:?} before {}", key, main);
                    }
                }
                Step::Sync => drop(store.sync().expect("syncs")),
                Step::Sweep => sweep(&store),
                Step::Reopen if on_disk => {
                    drop(store);
                    store = Store::open(dir.path(), options()).expect("opens");
                }
                Step::Reopen => {}
                Step::Transfer => {
                    let copy = Store::in_memory(options()).expect("opens");
                    transfer(&store, &copy, chunk);
                    (store, on_disk) = (copy, false);
                }
            }
        }
    }
}

#[test]
fn history_is_whole_while_records_move_from_the_queue_to_the_engine() {
    let store = Store::in_memory(options()).expect("opens");
    let limits = HistoryLimits {
        bytes_max: 2_000,
        records_max: 1_000,
    };
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let (mut next, mut seen) = (2, 0);
            while seen < 4_000 {
                let history = store.history(next, |_| true, limits).expect("reads");
                let mut expected = next;
                for (at, _) in &history.records {
                    assert_eq!(
                        (at.main, at.sub),
                        (expected, 0),
                        "each revision once and in order"
                    );
                    expected += 1;
                }
                assert_eq!(history.through, expected - 1);
                seen += history.records.len();
                next = history.through + 1;
            }
        });
        for index in 1..=4_000_u64 {
            let put = kv_core::Put {
                key: Bytes::from(format!("k{:02}", index % 50)),
                value: vec![b'v'; 100].into(),
                ..kv_core::Put::default()
            };
            store
                .apply(&[(index, Some(Command::Put(put)))], Bytes::new())
                .expect("applies");
        }
        follower.join().expect("follows");
    });
}

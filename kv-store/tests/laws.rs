//! Laws: the same commands give the same answers on disk, in memory, after a restart, and out of a snapshot.

mod common;

use bytes::Bytes;
use common::{all, command, facts, options, range, sweep, transfer};
use kv_core::{Command, Fact, Range};
use kv_store::{ReadError, Store};
use proptest::{prelude::*, sample::Index};

/// What happens to the stores between two batches of commands.
#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<Command>),
    Read(Range),
    /// On the store on disk alone: what it does must not show.
    SweepSlice,
    Sync,
    Reopen,
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(command(), 1..12).prop_map(Step::Apply),
        4 => range(0..40).prop_map(Step::Read),
        2 => Just(Step::SweepSlice),
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
        1 => Just(Step::Snapshot),
    ]
}

/// An answer that can be compared: stores that fail differently are different.
fn answer(store: &Store, range: &Range) -> Result<kv_store::RangeRead, kv_core::Error> {
    store.range(range).map_err(|error| match error {
        ReadError::Refused(error) => error,
        fault => panic!("{fault}"),
    })
}

fn assert_equal(a: &Store, b: &Store) {
    assert_eq!(a.applied(), b.applied());
    assert_eq!(
        (a.revision(), a.compacted(), a.keys()),
        (b.revision(), b.compacted(), b.keys())
    );
    assert_eq!(answer(a, &all()), answer(b, &all()));
    assert_eq!(facts(a), facts(b));
    for fact in facts(a) {
        let Fact::Lease { id, .. } = fact else { continue };
        let keys = |store: &Store| {
            store.with_state(|state| state.lease_keys(id).map(<[u8]>::to_vec).collect::<Vec<_>>())
        };
        assert_eq!(keys(a), keys(b));
    }
    assert_eq!(a.hash_kv(0).expect("hashes"), b.hash_kv(0).expect("hashes"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn disk_memory_restart_and_snapshot_agree(steps in prop::collection::vec(step(), 1..25), chunk in 1..4_000_usize) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut disk = Store::open(dir.path(), options()).expect("opens");
        let memory = Store::in_memory(options()).expect("opens");
        let mut index = 0;
        for step in steps {
            match step {
                Step::Apply(commands) => {
                    // Every third entry is one of Raft's own.
                    let mut entries = Vec::new();
                    for command in commands {
                        if index % 3 == 2 {
                            index += 1;
                            entries.push((index, None));
                        }
                        index += 1;
                        entries.push((index, Some(command)));
                    }
                    let raft = Bytes::from(format!("raft {index}"));
                    let outcomes = disk.apply(&entries, raft.clone()).expect("applies");
                    prop_assert_eq!(outcomes, memory.apply(&entries, raft).expect("applies"));
                }
                Step::Read(range) => prop_assert_eq!(answer(&disk, &range), answer(&memory, &range)),
                Step::SweepSlice => drop(disk.sweep_step().expect("sweeps")),
                Step::Sync => prop_assert_eq!(disk.sync().expect("syncs"), index),
                Step::Reopen => {
                    drop(disk);
                    disk = Store::open(dir.path(), options()).expect("opens");
                }
                Step::Snapshot => {
                    let copy = Store::in_memory(options()).expect("opens");
                    transfer(&disk, &copy, chunk);
                    if index > 0 {
                        assert_equal(&disk, &copy);
                    }
                }
            }
        }
        assert_equal(&disk, &memory);
        sweep(&disk);
        assert_equal(&disk, &memory);
        drop(disk);
        assert_equal(&Store::open(dir.path(), options()).expect("opens"), &memory);
    }

    #[test]
    fn a_snapshot_that_broke_off_again_and_again_comes_whole(
        commands in prop::collection::vec(command(), 20..60),
        lasts in prop::collection::vec(0..40_usize, 1..6),
        chunk_bytes in 1..400_usize,
    ) {
        let store = Store::in_memory(options()).expect("opens");
        let entries: Vec<_> = (1..).zip(commands.into_iter().map(Some)).collect();
        store.apply(&entries, Bytes::new()).expect("applies");
        let view = store.snapshot().expect("a view");
        let target = Store::in_memory(options()).expect("opens");
        let mut install = target.begin_install(view.header().clone()).expect("begins");
        for lasts in lasts.into_iter().chain([usize::MAX]) {
            let has = install.progress();
            // With the trailer there is nothing left to go on with.
            let Some(rest) = view.chunks_after(&has, chunk_bytes).expect("reads") else { break };
            for chunk in rest.take(lasts) {
                install.push(&chunk.expect("a chunk")).expect("is taken");
            }
        }
        target.install(install.finish().expect("complete")).expect("installs");
        assert_equal(&target, &store);
    }

    #[test]
    fn a_snapshot_that_was_tampered_with_is_refused(
        commands in prop::collection::vec(command(), 20..60),
        tamper in 0..5, at in any::<Index>(), other in any::<Index>(), bit in 0..8_u8,
    ) {
        let store = Store::in_memory(options()).expect("opens");
        let entries: Vec<_> = (1..).zip(commands.into_iter().map(Some)).collect();
        store.apply(&entries, Bytes::new()).expect("applies");
        let view = store.snapshot().expect("a view");
        let sent: Vec<Bytes> = view.chunks(200).map(|chunk| chunk.expect("a chunk")).collect();
        let mut chunks = sent.clone();
        let (at, other) = (at.index(chunks.len()), other.index(chunks.len()));
        match tamper {
            0 => {
                let mut bytes = chunks[at].to_vec();
                let place = other * bytes.len() / chunks.len();
                bytes[place] ^= 1 << bit;
                chunks[at] = bytes.into();
            }
            1 => chunks.truncate(at),
            2 => chunks.swap(at, other),
            3 => drop(chunks.remove(at)),
            _ => chunks.insert(at, chunks[other].clone()),
        }
        let target = Store::in_memory(options()).expect("opens");
        let taken = || {
            let mut install = target.begin_install(view.header().clone())?;
            chunks.iter().try_for_each(|chunk| install.push(chunk))?;
            install.finish()
        };
        prop_assert_eq!(taken().is_err(), chunks != sent);
        prop_assert_eq!(target.applied(), None);
    }
}

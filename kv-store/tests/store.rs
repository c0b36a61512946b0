//! The store as its user sees it: opening, making durable, snapshots, compaction.

mod common;

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use bytes::Bytes;
use common::{all, apply_log, options, sweep, transfer};
use kv_core::{Command, Compact, Put, Range};
use kv_store::{
    AppliedPoint, Fault, Install, OpenError, Options, Progress, ReadError, SledOptions, SnapshotError, Store,
};

fn put(key: &str, value: impl Into<Bytes>) -> Option<Command> {
    Some(Command::Put(Put {
        key: Bytes::from(key.to_owned()),
        value: value.into(),
        ..Put::default()
    }))
}

fn open(dir: &Path) -> Store {
    Store::open(dir, options()).expect("opens")
}

fn generations(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .filter(|name| name.starts_with("generation"))
        .collect();
    names.sort();
    names
}

#[test]
fn an_empty_store_has_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir.path().join("made/on/the/way"));
    assert_eq!(store.applied(), None);
    assert_eq!(
        (
            store.revision(),
            store.compacted(),
            store.keys(),
            store.durable_index()
        ),
        (1, -1, 0, 0)
    );
    assert_eq!(store.range(&all()).expect("reads").result.count, 0);
    assert_eq!(store.sync().expect("syncs"), 0);
    assert!(!store.sweep_step().expect("sweeps"));
}

#[test]
fn applied_and_durable_survive() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let entries = vec![(0, None), (1, put("a", "1")), (2, put("a", "2"))];
    assert_eq!(
        store
            .apply(&entries, Bytes::from_static(b"two"))
            .expect("applies")
            .outcomes
            .len(),
        2
    );
    assert_eq!(store.durable_index(), 0);
    assert_eq!(store.sync().expect("syncs"), 2);
    store
        .apply(&[(3, None)], Bytes::from_static(b"three"))
        .expect("applies");
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.durable_index(), 2);
    assert_eq!(
        store.applied(),
        Some(AppliedPoint {
            index: 3,
            raft: Bytes::from_static(b"three")
        })
    );
    let old = Range {
        key: "a".into(),
        revision: 2,
        ..Range::default()
    };
    assert_eq!(store.range(&old).expect("reads").result.kvs[0].value, "1");
    assert_eq!(store.loaded().records, 2);
}

#[test]
#[should_panic(expected = "entries follow the applied one")]
fn a_gap_in_the_log_stops_the_node() {
    let store = Store::in_memory(options()).expect("opens");
    store.apply(&[(1, None)], Bytes::new()).expect("applies");
    let _ = store.apply(&[(3, None)], Bytes::new());
}

#[test]
fn a_directory_is_open_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let second = Store::open(dir.path(), options());
    assert!(matches!(second, Err(OpenError::Locked { .. })));
    drop(store);
    open(dir.path());
}

#[test]
fn a_store_knows_its_cluster() {
    let dir = tempfile::tempdir().expect("a directory");
    let of = |cluster_id| Options {
        cluster_id: Some(cluster_id),
        ..options()
    };
    let store = Store::open(dir.path(), of(7)).expect("opens");
    apply_log(&store, 10, 10);
    drop(store);
    let other = Store::open(dir.path(), of(8));
    assert!(matches!(
        other,
        Err(OpenError::OtherCluster {
            found: 7,
            expected: 8,
            ..
        })
    ));
    let store = open(dir.path());
    let elsewhere = Store::in_memory(of(8)).expect("opens");
    let refused = elsewhere.begin_install(store.snapshot().expect("a view").header().clone());
    assert!(matches!(
        refused,
        Err(SnapshotError::OtherCluster {
            found: 7,
            expected: 8
        })
    ));
    let unknown = Store::in_memory(options()).expect("opens");
    transfer(&store, &unknown, 1000);
    assert_eq!(unknown.snapshot().expect("a view").header().cluster_id, Some(7));
}

#[test]
fn what_was_durable_and_is_gone_is_damage_and_can_be_set_aside() {
    let parent = tempfile::tempdir().expect("a directory");
    let dir = parent.path().join("store");
    let store = open(&dir);
    apply_log(&store, 50, 10);
    store.sync().expect("syncs");
    drop(store);
    fs::remove_dir_all(dir.join("generation-1")).expect("removes");
    for number in 1..3 {
        let result = Store::open(&dir, options());
        let Err(error @ OpenError::Damaged { .. }) = result else {
            panic!("opened")
        };
        assert!(
            error.to_string().contains("ends at log index 0, although 50"),
            "{error}"
        );
        if number == 1 {
            assert_eq!(
                Store::set_aside(&dir).expect("renames"),
                parent.path().join("store.damaged-1")
            );
            let store = open(&dir);
            apply_log(&store, 60, 10);
            store.sync().expect("syncs");
            drop(store);
            fs::remove_file(dir.join("CURRENT")).expect("removes");
            let error = Store::open(&dir, options()).err().expect("refused");
            assert!(error.to_string().contains("no file CURRENT"), "{error}");
            assert_eq!(
                Store::set_aside(&dir).expect("renames"),
                parent.path().join("store.damaged-2")
            );
            fs::rename(parent.path().join("store.damaged-1"), &dir).expect("renames");
        }
    }
}

#[test]
fn a_path_that_is_no_directory_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    fs::write(&file, "x").expect("writes");
    let error = Store::open(&file, options()).err().expect("refused");
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
}

#[test]
fn a_snapshot_is_of_its_moment_and_replaces_what_was_there() {
    let parent = tempfile::tempdir().expect("a directory");
    let (from, to) = (open(&parent.path().join("from")), open(&parent.path().join("to")));
    apply_log(&from, 400, 32);
    apply_log(&to, 30, 32);
    let (hash, range) = (
        from.hash_kv(0).expect("hashes"),
        from.range(&all()).expect("reads"),
    );
    let view = from.snapshot().expect("a view");
    // Writers go on, and compact everything that the view shows.
    apply_log(&from, 900, 32);
    let compact = Command::Compact(Compact {
        revision: from.revision(),
    });
    from.apply(&[(901, Some(compact))], Bytes::new())
        .expect("applies");
    assert!(
        !from.sweep_step().expect("waits"),
        "nothing is swept while a view exists"
    );

    let old_view = to.snapshot().expect("a view");
    let mut install = to.begin_install(view.header().clone()).expect("begins");
    for chunk in view.chunks(2_000) {
        install.push(&chunk.expect("a chunk")).expect("is taken");
    }
    let prepared = install.finish().expect("complete");
    assert_eq!(
        to.applied().expect("applied").index,
        30,
        "not before it is installed"
    );
    to.install(prepared).expect("installs");
    assert_eq!(
        to.applied().expect("applied"),
        AppliedPoint {
            index: 400,
            raft: "raft 400".into()
        }
    );
    assert_eq!(to.durable_index(), 400);
    assert_eq!(to.hash_kv(0).expect("hashes"), hash);
    assert_eq!(to.range(&all()).expect("reads"), range);

    // A view of the old content stays whole, and its files go with it.
    let mut again = Store::in_memory(options())
        .expect("opens")
        .begin_install(old_view.header().clone())
        .expect("begins");
    old_view
        .chunks(500)
        .for_each(|chunk| again.push(&chunk.expect("a chunk")).expect("is taken"));
    again.finish().expect("complete");
    assert_eq!(
        generations(&parent.path().join("to")),
        ["generation-1", "generation-2"]
    );
    drop(old_view);
    assert_eq!(generations(&parent.path().join("to")), ["generation-2"]);

    // It goes on from there, through a restart.
    drop(view);
    apply_log(&to, 900, 50);
    drop(to);
    let to = open(&parent.path().join("to"));
    to.apply(
        &[(
            901,
            Some(Command::Compact(Compact {
                revision: to.revision(),
            })),
        )],
        Bytes::new(),
    )
    .expect("applies");
    assert_eq!(to.hash_kv(0).expect("hashes"), from.hash_kv(0).expect("hashes"));
    sweep(&from);
    assert_eq!(to.hash_kv(0).expect("hashes"), from.hash_kv(0).expect("hashes"));
}

#[test]
fn an_install_that_is_given_up_leaves_nothing() {
    let parent = tempfile::tempdir().expect("a directory");
    let (from, dir) = (
        Store::in_memory(options()).expect("opens"),
        parent.path().join("to"),
    );
    let to = open(&dir);
    apply_log(&from, 300, 32);
    let view = from.snapshot().expect("a view");
    let mut install = to.begin_install(view.header().clone()).expect("begins");
    install
        .push(&view.chunks(500).next().expect("one").expect("a chunk"))
        .expect("is taken");
    assert!(matches!(install.finish(), Err(SnapshotError::Damaged(_))));
    assert_eq!(generations(&dir), ["generation-1"]);
    // As if the process had died before it could clear up.
    fs::create_dir(dir.join("generation-9")).expect("makes");
    drop(to);
    let to = open(&dir);
    assert_eq!(generations(&dir), ["generation-1"]);
    apply_log(&to, 301, 32);
    let stale = to.begin_install(view.header().clone());
    assert!(matches!(
        stale,
        Err(SnapshotError::Stale {
            snapshot: 300,
            applied: 301
        })
    ));
}

#[test]
fn a_snapshot_goes_on_where_its_transfer_broke_off() {
    const CHUNK_BYTES: usize = 200;
    let (from, to) = (
        Store::in_memory(options()).expect("opens"),
        Store::in_memory(options()).expect("opens"),
    );
    apply_log(&from, 3_000, 32);
    let hash = from.hash_kv(0).expect("hashes");
    let view = from.snapshot().expect("a view");
    let whole = |chunk: Result<_, _>| chunk.expect("a chunk");
    let sent: Vec<_> = view.chunks(CHUNK_BYTES).map(whole).collect();
    assert!(sent.len() > 130, "so few chunks that the view remembers no place");
    assert_eq!(view.made(), sent.len() as u64 - 1);
    // The sender writes on, and compacts.
    apply_log(&from, 3_300, 32);
    let compact = Command::Compact(Compact {
        revision: from.revision(),
    });
    from.apply(&[(3_301, Some(compact))], Bytes::new())
        .expect("applies");
    assert!(
        !from.sweep_step().expect("waits"),
        "nothing is swept while a view exists"
    );

    for taken in [0, 1, 63, 64, 65, 128, sent.len() - 1] {
        let mut install = to.begin_install(view.header().clone()).expect("begins");
        let push = |install: &mut Install, chunks: &[Bytes]| {
            chunks
                .iter()
                .for_each(|chunk| install.push(chunk).expect("is taken"));
        };
        push(&mut install, &sent[..taken]);
        let has = install.progress();
        assert_eq!(has.chunks, taken as u64);
        let rest = view.chunks_after(&has, CHUNK_BYTES).expect("reads");
        let rest: Vec<_> = rest.expect("the same chunks").map(whole).collect();
        assert!(rest == sent[taken..], "other chunks after {taken}");
        assert_eq!(kv_store::chunk_number(&rest[0]).expect("has one"), has.chunks);
        push(&mut install, &rest);
        let prepared = install.finish().expect("complete");
        if taken == 64 {
            to.install(prepared).expect("installs");
            assert_eq!(to.hash_kv(0).expect("hashes"), hash);
        }
    }
    // What somebody else sent, and what was never sent, is not gone on with.
    for (chunks, hash) in [(1, [0; 32]), (10_000, [0; 32])] {
        let has = Progress { chunks, hash };
        assert!(view.chunks_after(&has, CHUNK_BYTES).expect("reads").is_none());
    }
}

#[test]
fn readers_see_the_old_content_or_the_new_one() {
    let parent = tempfile::tempdir().expect("a directory");
    let store = open(&parent.path().join("to"));
    let source = Store::in_memory(options()).expect("opens");
    let generation = |round: u64| (0..50).map(move |n| put(&format!("k{n}"), format!("{round}")));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let result = store.range(&all()).expect("reads").result;
                        assert!(
                            result.kvs.windows(2).all(|two| two[0].value == two[1].value),
                            "a mix"
                        );
                        seen += usize::from(!result.kvs.is_empty());
                    }
                    seen
                })
            })
            .collect();
        for round in 0..15 {
            // All keys of one round in one transaction's worth of revisions, seen only by snapshot.
            let first = source.applied().map_or(1, |point| point.index + 1);
            source
                .apply(
                    &(first..).zip(generation(round)).collect::<Vec<_>>(),
                    Bytes::new(),
                )
                .expect("applies");
            transfer(&source, &store, 700);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(
            readers
                .into_iter()
                .map(|reader| reader.join().expect("no mix"))
                .sum::<usize>()
                > 0
        );
    });
}

#[test]
fn a_full_disk_stops_writes_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    apply_log(&store, 20, 20);
    store.sync().expect("syncs");
    drop(store);
    // A reserve that no disk has.
    let full = Options {
        sled: SledOptions {
            reserve_bytes: 1 << 60,
            ..SledOptions::default()
        },
        ..options()
    };
    let store = Store::open(dir.path(), full).expect("opens");
    let before = store.range(&all()).expect("reads");
    let mut index = 20;
    let fault = loop {
        let value = vec![b'x'; 1 << 20];
        match store.apply(&[(index + 1, put("big", value))], Bytes::new()) {
            Ok(_) => index += 1,
            Err(fault) => break fault,
        }
        assert!(index < 100, "what waits is bounded");
    };
    assert!(matches!(fault, Fault::NoSpace { .. }), "{fault}");
    assert_eq!(
        store.applied().expect("applied").index,
        index,
        "the refused entry is not applied"
    );
    assert!(matches!(store.sync(), Err(Fault::NoSpace { .. })));
    assert!(matches!(store.trouble(), Some(Fault::NoSpace { .. })));
    assert_eq!(store.durable_index(), 20);
    let at_before = Range {
        revision: before.header_revision,
        ..all()
    };
    assert_eq!(store.range(&at_before).expect("reads").result, before.result);
    assert_eq!(
        store.range(&all()).expect("reads").header_revision,
        store.revision()
    );
    drop(store);
    let store = open(dir.path());
    assert_eq!(
        store.applied().expect("applied").index,
        20,
        "the log has the rest"
    );
    assert_eq!(store.range(&all()).expect("reads"), before);
}

#[test]
fn a_sweep_gives_space_back_and_is_taken_up_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let entries: Vec<_> = (1..=3000)
        .map(|index| (index, put(&format!("k{}", index % 10), vec![b'v'; 200])))
        .collect();
    store.apply(&entries, Bytes::new()).expect("applies");
    let compact = Command::Compact(Compact { revision: 2900 });
    store
        .apply(&[(3001, Some(compact))], Bytes::new())
        .expect("applies");
    let (hash, live) = (store.hash_kv(0).expect("hashes"), store.live_bytes());
    let gone = Range {
        revision: 2899,
        ..all()
    };
    assert!(matches!(
        store.range(&gone),
        Err(ReadError::Refused(kv_core::Error::Compacted))
    ));
    assert!(store.sweep_step().expect("sweeps"));
    drop(store);
    let store = open(dir.path());
    assert!(store.loaded().records > 1000, "one slice is not all");
    assert!(store.sweep_step().expect("goes on"));
    sweep(&store);
    assert!(store.live_bytes() < live / 10);
    assert_eq!(store.hash_kv(0).expect("hashes"), hash);
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.hash_kv(0).expect("hashes"), hash);
    assert!(store.loaded().records < 200, "{} records", store.loaded().records);
    assert!(
        !store.sweep_step().expect("nothing"),
        "a finished sweep is remembered"
    );
}

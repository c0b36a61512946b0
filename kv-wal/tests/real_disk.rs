//! The log on a directory of the operating system.

mod support;

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use kv_wal::{Options, Position, RealDisk, Wal};
use support::{Model, Run, entry, reply, small};

fn open(path: &std::path::Path, options: Options) -> (Wal, kv_wal::Recovery) {
    let disk = RealDisk::new(path).expect("a directory");
    Wal::open(Arc::new(disk), options).expect("it opens")
}

#[test]
fn random_requests_survive_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new").join("wal");
    let mut model = Model::default();
    for life in 0..6 {
        let (wal, recovery) = open(&path, small(16 << 10));
        assert_eq!(recovery.created, life == 0);
        assert_eq!(recovery.torn, None);
        assert_eq!(recovery.entries, model.entries.len() as u64);
        let mut run = Run::new(wal, model.clone(), life);
        assert_eq!(run.check_recovered(&run.wal), model);
        for _ in 0..100 {
            run.request();
        }
        run.wal.close();
        assert_eq!(
            run.acked.load(std::sync::atomic::Ordering::SeqCst),
            run.history.len() - 1
        );
        model = run.model().clone();
    }
}

#[test]
fn a_log_of_full_size_is_written_read_and_purged() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = open(
        directory.path(),
        Options {
            cache_bytes: 1 << 20,
            ..Options::default()
        },
    );
    let (sender, receiver) = channel();
    for batch in 0..80u64 {
        let sender = sender.clone();
        let entries = (batch * 10..batch * 10 + 10)
            .map(|i| entry(1, i, &vec![i as u8; 100_000]))
            .collect();
        wal.append(entries, move |result| {
            sender.send(result).expect("the test waits")
        });
    }
    for _ in 0..80 {
        receiver.recv().unwrap().unwrap();
    }
    assert_eq!(wal.stats().segments, 2);
    assert!(wal.stats().cached_bytes <= 1 << 20);
    let old = wal.read(3..9, 350_000).unwrap();
    assert_eq!(
        old.iter()
            .map(|e| (e.position.index, e.payload[99_999]))
            .collect::<Vec<_>>(),
        [(3, 3), (4, 4), (5, 5)]
    );
    let (done, result) = reply();
    wal.purge(Position::new(1, 790), done);
    result.recv().unwrap().unwrap();
    wal.close();
    let (wal, recovery) = open(directory.path(), Options::default());
    assert_eq!((recovery.segments, recovery.entries), (1, 9));
    assert_eq!(wal.read(0..1000, usize::MAX).unwrap().len(), 9);
    let files = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(files, 1, "neither purged segments nor a spare are left");
}

#[test]
fn many_threads_share_syncs() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = open(directory.path(), Options::default());
    thread::scope(|scope| {
        for writer in 0..8u8 {
            let wal = wal.clone();
            scope.spawn(move || {
                for n in 0..50u8 {
                    let (done, result) = reply();
                    wal.save_vote(vec![writer, n].into(), done);
                    result.recv().expect("an answer").expect("durable");
                }
            });
        }
    });
    let vote = wal.vote().unwrap();
    assert!(wal.stats().syncs <= 400);
    drop(wal);
    assert_eq!(open(directory.path(), Options::default()).0.vote(), Some(vote));
}

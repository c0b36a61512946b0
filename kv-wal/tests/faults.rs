//! Full disks, broken disks, bounds, and the end of a log.

mod support;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv_wal::sim::{Crash, Fault, SimDisk};
use kv_wal::{Disk, Drive, Driven, MAX_STATE_BYTES, OpenError, Options, Position, Wal};
use support::{Model, Run, driven, entry, reply, small};

const SEGMENT_BYTES: u64 = 12 << 10;

type Done = Box<dyn FnOnce(std::io::Result<()>) + Send>;

fn open(disk: &SimDisk, options: Options) -> Wal {
    Wal::open(disk.mount(), options).expect("it opens").0
}

#[test]
fn a_full_disk_loses_nothing_and_goes_on_when_there_is_room() {
    for copy_on_write in [false, true] {
        let disk = SimDisk::new();
        let mut run = Run::new(open(&disk, driven(SEGMENT_BYTES)), Model::default(), 3);
        run.drive(10);
        if copy_on_write {
            disk.refuse_writes(true);
        } else {
            disk.set_capacity(Some(2 * SEGMENT_BYTES + 100));
        }
        for _ in 0..150 {
            run.request();
        }
        while run.wal.drive() == Driven::Worked {}
        assert_eq!(run.wal.drive(), Driven::Full);
        assert_eq!(&Model::of(&run.wal).unwrap(), run.model(), "all can be read");
        let acked = run.acked.load(Ordering::SeqCst);
        assert!(acked < run.history.len() - 1, "not all is acknowledged");
        assert!(run.wal.stats().stalled_for.is_some());
        assert!(run.wal.stats().no_room_ahead);
        let spare = disk.contents("spare").is_some();
        assert!(
            !spare || copy_on_write,
            "a failed allocation holds the last free room"
        );

        // A crash here keeps what was acknowledged.
        let crashed = disk.fork();
        crashed.set_capacity(None);
        crashed.refuse_writes(false);
        crashed.crash(Crash::Random(1));
        run.check_recovered(&open(&crashed, driven(SEGMENT_BYTES)));

        disk.set_capacity(None);
        disk.refuse_writes(false);
        while run.wal.drive() == Driven::Worked {}
        assert_eq!(
            run.acked.load(Ordering::SeqCst),
            run.history.len() - 1,
            "all is acknowledged"
        );
        let stats = run.wal.stats();
        assert_eq!(
            (stats.stalled_for, stats.queued_bytes, stats.no_room_ahead),
            (None, 0, false)
        );
        disk.crash(Crash::LoseAll);
        assert_eq!(
            &Model::of(&open(&disk, driven(SEGMENT_BYTES))).unwrap(),
            run.model()
        );
    }
}

#[test]
fn the_thread_waits_for_room_by_itself() {
    let disk = SimDisk::new();
    let wal = open(&disk, small(SEGMENT_BYTES));
    disk.refuse_writes(true);
    let (done, result) = reply();
    wal.append(vec![entry(1, 0, b"waits")], done);
    assert!(
        result.recv_timeout(Duration::from_millis(50)).is_err(),
        "not acknowledged while full"
    );
    disk.refuse_writes(false);
    result.recv().unwrap().unwrap();
    wal.close();
    assert_eq!(
        open(&disk, small(SEGMENT_BYTES)).last(),
        Some(Position::new(1, 0))
    );
}

#[test]
fn closing_on_a_full_disk_tells_those_who_wait() {
    let disk = SimDisk::new();
    let wal = open(&disk, small(SEGMENT_BYTES));
    disk.refuse_writes(true);
    let (done, result) = reply();
    wal.append(vec![entry(1, 0, b"waits")], done);
    wal.close();
    assert_eq!(result.recv().unwrap().unwrap_err().kind(), ErrorKind::StorageFull);
    disk.refuse_writes(false);
    assert_eq!(open(&disk, small(SEGMENT_BYTES)).last(), None);
}

#[test]
fn an_error_at_any_operation_ends_the_log_and_keeps_what_was_acknowledged() {
    let whole = SimDisk::new();
    Run::new(open(&whole, driven(SEGMENT_BYTES)), Model::default(), 9).drive(40);
    let mut failed = 0;
    for operation in 1..=whole.operations() {
        let disk = SimDisk::new();
        disk.fail_at(operation, Fault::Error(ErrorKind::Other));
        let Ok((wal, _)) = Wal::open(disk.mount(), driven(SEGMENT_BYTES)) else {
            continue;
        };
        let mut run = Run::new(wal, Model::default(), 9);
        run.drive(40);
        if run.wal.stats().failed.is_none() {
            // Met while it was closing down, or a spare that could not be removed.
            continue;
        }
        failed += 1;
        let operations = disk.operations();
        let (done, result) = reply();
        run.wal.save_vote(Bytes::from_static(b"late"), done);
        run.wal.drive();
        result.recv().unwrap().unwrap_err();
        run.wal.close();
        assert_eq!(disk.operations(), operations, "nothing is tried again");
        disk.crash(Crash::Random(operation));
        run.check_recovered(&open(&disk, driven(SEGMENT_BYTES)));
    }
    assert!(failed > 50, "{failed}");
}

#[test]
fn after_a_failed_sync_everybody_who_waits_is_told_in_order() {
    let disk = SimDisk::new();
    let wal = open(&disk, driven(SEGMENT_BYTES));
    let (sender, results) = channel();
    for index in 0..5 {
        let sender = sender.clone();
        wal.append(vec![entry(1, index, &[1; 1000])], move |result| {
            sender.send((index, result.is_ok())).unwrap();
        });
    }
    // The first write, then its sync.
    disk.fail_at(disk.operations() + 2, Fault::Error(ErrorKind::Other));
    assert_eq!(wal.drive(), Driven::Failed);
    let told: Vec<(u64, bool)> = results.try_iter().collect();
    assert_eq!(told, (0..5).map(|index| (index, false)).collect::<Vec<_>>());
    assert!(
        wal.stats()
            .failed
            .unwrap()
            .starts_with("the log failed and takes no more writes")
    );
}

#[test]
fn what_only_the_page_cache_had_is_written_again_after_a_restart() {
    let disk = SimDisk::new();
    let wal = open(&disk, driven(SEGMENT_BYTES));
    wal.append(vec![entry(1, 0, b"lost by the disk")], |_| {});
    disk.fail_at(disk.operations() + 2, Fault::Error(ErrorKind::Other));
    assert_eq!(wal.drive(), Driven::Failed);
    drop(wal);
    // The process restarts without a power cut: the entry is visible, though the disk never got it.
    let wal = open(&disk, driven(SEGMENT_BYTES));
    assert_eq!(wal.last(), Some(Position::new(1, 0)));
    disk.crash(Crash::LoseAll);
    assert_eq!(
        open(&disk, driven(SEGMENT_BYTES)).last(),
        Some(Position::new(1, 0)),
        "it counted as durable"
    );
}

#[test]
fn requests_that_do_not_fit_are_refused_and_change_nothing() {
    let disk = SimDisk::new();
    let wal = open(
        &disk,
        Options {
            queue_bytes: 5000,
            ..driven(SEGMENT_BYTES)
        },
    );
    let refused = |request: &dyn Fn(Done)| {
        let (done, result) = reply();
        request(Box::new(done));
        let error = result.try_recv().expect("at once").unwrap_err();
        (error.kind(), error.to_string())
    };
    wal.append(vec![entry(1, 5, b"first")], |_| {});
    let gap = refused(&|done| wal.append(vec![entry(1, 6, b""), entry(1, 8, b"")], done));
    assert_eq!(
        gap,
        (
            ErrorKind::InvalidInput,
            "entry 1/8 would leave a gap: 7 is next".to_string()
        )
    );
    let long = refused(&|done| wal.append(vec![entry(1, 6, &[0; 2001])], done));
    assert_eq!(long.1, "entry 1/6 has 2001 bytes, at most 2000 are allowed");
    let vote = refused(&|done| wal.save_vote(vec![0; MAX_STATE_BYTES + 1].into(), done));
    assert_eq!(vote.1, "the vote has 1025 bytes, at most 1024 fit");
    wal.save_committed(vec![0; MAX_STATE_BYTES + 1].into())
        .unwrap_err();
    let purge = refused(&|done| wal.purge(Position::new(1, 3), done));
    assert_eq!(
        purge.1,
        "a purge up to 1/3 would leave a gap: the first entry is 5"
    );
    let beyond = "entry 1/18446744073709551615 is beyond the last one that a log can have, which is 4611686018427387904";
    let far = refused(&|done| wal.purge(Position::new(1, u64::MAX), done));
    assert_eq!(far, (ErrorKind::InvalidInput, beyond.to_string()));
    assert_eq!(
        (wal.last(), wal.vote(), wal.committed(), wal.purged()),
        (Some(Position::new(1, 5)), None, None, None)
    );

    wal.append(vec![entry(1, 6, &[0; 2000]), entry(1, 7, &[0; 2000])], |_| {});
    let full = refused(&|done| wal.append(vec![entry(1, 8, &[0; 2000])], done));
    assert_eq!(full.0, ErrorKind::QuotaExceeded);
    assert!(wal.queued_bytes() > 4000);
    while wal.drive() == Driven::Worked {}
    assert_eq!(wal.queued_bytes(), 0);

    wal.close();
    let closed = refused(&|done| wal.append(vec![entry(1, 8, b"")], done));
    assert_eq!(closed, (ErrorKind::NotConnected, "the log is closed".to_string()));
    assert_eq!(wal.read(5..9, 1 << 20).unwrap().len(), 3, "reading goes on");
}

#[test]
fn all_that_waits_shares_one_sync() {
    let disk = SimDisk::new();
    let wal = open(
        &disk,
        Options {
            batch_bytes: 1 << 20,
            ..driven(1 << 20)
        },
    );
    let operations = disk.operations();
    for index in 0..100 {
        wal.append(vec![entry(1, index, &[1; 100])], |_| {});
    }
    assert_eq!(wal.drive(), Driven::Worked);
    assert_eq!(wal.stats().syncs, 1);
    // One write, one sync, and the mark that costs none.
    assert_eq!(disk.operations() - operations, 3);
    assert_eq!(wal.drive(), Driven::Idle);
}

#[test]
fn syncs_are_observed() {
    let (sender, observed) = channel();
    let on_sync = Arc::new(move |took: Duration| sender.send(took).unwrap());
    let disk = SimDisk::new();
    let wal = open(
        &disk,
        Options {
            on_sync: Some(on_sync),
            ..small(SEGMENT_BYTES)
        },
    );
    let (done, result) = reply();
    wal.append(vec![entry(1, 0, b"")], done);
    result.recv().unwrap().unwrap();
    assert_eq!(wal.stats().last_sync, observed.recv().unwrap());
}

#[test]
fn a_callback_may_use_and_even_close_the_log() {
    let disk = SimDisk::new();
    let wal = open(&disk, small(SEGMENT_BYTES));
    let (done, second) = reply();
    let again = wal.clone();
    wal.append(vec![entry(1, 0, b"")], move |result| {
        result.expect("acknowledged");
        again.append(vec![entry(1, 1, b"")], done);
        again.close();
    });
    second.recv().unwrap().unwrap();
    wal.close();
    drop(wal);
    assert_eq!(
        open(&disk, small(SEGMENT_BYTES)).last(),
        Some(Position::new(1, 1))
    );
}

#[test]
fn a_panic_in_the_writer_is_not_silent() {
    let disk = SimDisk::new();
    let wal = open(&disk, small(SEGMENT_BYTES));
    let (done, result) = reply();
    let next = wal.clone();
    wal.append(vec![entry(1, 0, b"")], move |_| {
        next.append(vec![entry(1, 1, b"")], done);
        panic!("a callback that fails");
    });
    assert_eq!(
        result.recv().unwrap().unwrap_err().to_string(),
        "the log's thread panicked"
    );
    let (done, result) = reply();
    wal.append(vec![entry(1, 2, b"")], done);
    result.recv().unwrap().unwrap_err();
}

#[test]
fn purged_segments_are_deleted_and_the_vote_outlives_them() {
    let disk = SimDisk::new();
    let wal = open(&disk, driven(SEGMENT_BYTES));
    wal.save_vote(Bytes::from_static(b"early"), |_| {});
    wal.save_committed(Bytes::from_static(b"mark")).unwrap();
    for index in 0..100 {
        wal.append(vec![entry(1, index, &[1; 500])], |_| {});
    }
    while wal.drive() == Driven::Worked {}
    let before = wal.stats();
    wal.purge(Position::new(1, 97), |_| {});
    assert_eq!(wal.drive(), Driven::Worked);
    let after = wal.stats();
    assert!(before.segments > 5 && after.segments <= 2, "{before:?} {after:?}");
    assert_eq!(
        (after.entries, after.disk_bytes),
        (2, SEGMENT_BYTES * after.segments as u64)
    );
    assert_eq!(
        disk.list()
            .unwrap()
            .iter()
            .filter(|name| name.ends_with(".wal"))
            .count(),
        after.segments
    );
    disk.crash(Crash::LoseAll);
    let wal = open(&disk, driven(SEGMENT_BYTES));
    assert_eq!(
        (wal.vote(), wal.committed()),
        (Some("early".into()), Some("mark".into()))
    );
    assert_eq!(
        (wal.purged(), wal.last()),
        (Some(Position::new(1, 97)), Some(Position::new(1, 99)))
    );
}

/// The thread deletes one after the other, with pauses, and needs no new writes for it.
#[test]
fn purged_segments_go_by_themselves() {
    let disk = SimDisk::new();
    let options = Options {
        drive: Drive::Thread,
        ..driven(SEGMENT_BYTES)
    };
    let wal = open(&disk, options);
    let wait = |ask: &dyn Fn(Done)| {
        let (sender, result) = channel();
        ask(Box::new(move |done| sender.send(done).unwrap()));
        result.recv().unwrap().unwrap();
    };
    for index in 0..100 {
        wait(&|done| wal.append(vec![entry(1, index, &[1; 500])], done));
    }
    assert!(wal.stats().segments > 5);
    wait(&|done| wal.purge(Position::new(1, 97), done));
    let give_up = Instant::now() + Duration::from_secs(30);
    while wal.stats().segments > 2 {
        assert!(Instant::now() < give_up, "{:?}", wal.stats());
        std::thread::yield_now();
    }
    assert_eq!(wal.last(), Some(Position::new(1, 99)));
}

#[test]
fn opening_and_closing_again_and_again_does_not_fill_the_log() {
    let disk = SimDisk::new();
    let wal = open(&disk, driven(SEGMENT_BYTES));
    wal.save_vote(Bytes::from_static(b"vote"), |_| {});
    wal.close();
    for _ in 0..3 {
        open(&disk, driven(SEGMENT_BYTES)).close();
    }
    let (wal, recovery) = Wal::open(disk.mount(), driven(SEGMENT_BYTES)).unwrap();
    assert_eq!(
        (recovery.segments, recovery.records, recovery.created),
        (1, 2, false)
    );
    drop(wal);
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    for options in [
        Options {
            segment_bytes: 5000,
            ..Options::default()
        },
        Options {
            segment_bytes: 2 << 30,
            ..Options::default()
        },
        Options {
            segment_bytes: 8 << 20,
            ..Options::default()
        },
        Options {
            max_record_bytes: usize::MAX - 100,
            ..Options::default()
        },
        Options {
            queue_bytes: 1 << 20,
            ..Options::default()
        },
        Options {
            batch_bytes: 0,
            ..Options::default()
        },
    ] {
        let refused = Wal::open(Arc::new(SimDisk::new()), options.clone()).map(|_| ());
        assert!(matches!(refused, Err(OpenError::Options(_))), "{options:?}");
    }
}

//! Power cuts at every operation on the disk, with every kind of loss: what was acknowledged is there, in
//! order, and the log can go on; also when the next cut comes while it recovers.

mod support;

use std::sync::atomic::Ordering;

use kv_wal::Wal;
use kv_wal::sim::{Crash, Fault, SimDisk};
use support::{Model, Run, driven};

const SEGMENT_BYTES: u64 = 12 << 10;

fn open(disk: &SimDisk) -> Wal {
    Wal::open(disk.mount(), driven(SEGMENT_BYTES))
        .expect("a torn log opens")
        .0
}

/// Runs requests until the power fails at the given operation. `None`: it failed before the log was open.
fn run_until(disk: &SimDisk, operation: u64, start: &Model, seed: u64, requests: usize) -> Option<Run> {
    disk.fail_at(operation, Fault::PowerOff);
    let (wal, _) = Wal::open(disk.mount(), driven(SEGMENT_BYTES)).ok()?;
    let mut run = Run::new(wal, start.clone(), seed);
    run.drive(requests);
    Some(run)
}

fn choices(seed: u64) -> impl Iterator<Item = Crash> {
    [Crash::LoseAll, Crash::KeepAll]
        .into_iter()
        .chain((0..4).map(move |n| Crash::Random(seed * 100 + n)))
}

/// Reopens after a crash, checks, and returns what was found.
fn recover(disk: &SimDisk, run: Option<&Run>, start: &Model) -> Model {
    let wal = open(disk);
    let found = match run {
        Some(run) => run.check_recovered(&wal),
        None => {
            let found = Model::of(&wal).expect("it can be read");
            assert_eq!(&found, start, "nothing was asked for");
            found
        }
    };
    wal.close();
    found
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_acknowledged() {
    const REQUESTS: usize = 60;
    let (mut cuts, mut torn, mut acknowledged, mut rolled) = (0u64, 0u64, 0usize, false);
    for seed in 1..=3u64 {
        let whole = SimDisk::new();
        let run = run_until(&whole, u64::MAX, &Model::default(), seed, REQUESTS).unwrap();
        assert_eq!(
            run.acked.load(Ordering::SeqCst),
            run.history.len() - 1,
            "all is acknowledged"
        );
        rolled |= run.wal.stats().segments >= 2;
        let operations = whole.operations();
        for operation in 1..=operations {
            let disk = SimDisk::new();
            let run = run_until(&disk, operation, &Model::default(), seed, REQUESTS);
            acknowledged = acknowledged.max(run.as_ref().map_or(0, |run| run.acked.load(Ordering::SeqCst)));
            for crash in choices(seed * 1000 + operation) {
                let after = disk.fork();
                after.crash(crash);
                let again = after.fork();
                let report = Wal::open(again.mount(), driven(SEGMENT_BYTES)).unwrap().1;
                torn += u64::from(report.torn.is_some());
                let found = recover(&after.fork(), run.as_ref(), &Model::default());
                cuts += 1;
                // The second life ends anywhere from its own recovery on.
                let second_cut = after.operations() + 1 + (operation * 7 + cuts) % 25;
                let second = run_until(&after, second_cut, &found, cuts + 77, 12);
                after.crash(Crash::Random(cuts));
                match &second {
                    Some(second) => {
                        recover(&after, Some(second), &found);
                    }
                    None => {
                        recover(&after, run.as_ref(), &Model::default());
                    }
                }
            }
        }
    }
    println!("{cuts} power cuts, {torn} with a torn end, up to {acknowledged} acknowledged changes");
    assert!(
        cuts > 1000 && torn > 100 && acknowledged > 50 && rolled,
        "the test has become trivial"
    );
}

#[test]
fn leftovers_of_a_torn_batch_never_come_back() {
    // A batch is torn such that its end survives; then shorter batches are written over it and lost again.
    for seed in 0..300 {
        let disk = SimDisk::new();
        let mut model = Model::default();
        for life in 0..4u64 {
            let cut = disk.operations() + 4 + (seed + life) % 5;
            let run = run_until(&disk, cut, &model, seed * 10 + life, 6);
            disk.crash(Crash::Random(seed * 100 + life));
            model = recover(&disk, run.as_ref(), &model);
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_written() {
    let disk = SimDisk::new();
    let mut run = Run::new(open(&disk), Model::default(), 5);
    run.drive(200);
    disk.crash(Crash::KeepAll);
    let wal = open(&disk);
    assert_eq!(&Model::of(&wal).unwrap(), run.model());
}

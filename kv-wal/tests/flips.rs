//! Damage on a disk at rest: found, or harmless; never served.

mod support;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::atomic::Ordering;

use kv_wal::sim::{Crash, SimDisk};
use kv_wal::{Disk, OpenError, Recovery, Wal};
use support::{Model, Run, driven, entry, reply};

const SEGMENT_BYTES: u64 = 12 << 10;

fn open(disk: &SimDisk) -> Result<(Wal, Recovery), OpenError> {
    Wal::open(disk.mount(), driven(SEGMENT_BYTES))
}

/// A log of a few segments, with its requests acknowledged; from the first seed whose purges leave some.
fn filled(first_seed: u64) -> (SimDisk, Run) {
    for seed in first_seed.. {
        let disk = SimDisk::new();
        let mut run = Run::new(open(&disk).expect("a new log").0, Model::default(), seed);
        run.drive(120);
        assert_eq!(run.acked.load(Ordering::SeqCst), run.history.len() - 1);
        if run.wal.stats().segments >= 3 {
            return (disk, run);
        }
    }
    unreachable!("some seed purges little");
}

/// Where the last byte that is not zero ends, for each file.
fn used(disk: &SimDisk) -> BTreeMap<String, u64> {
    let names = disk.list().expect("a directory");
    let segments = names.into_iter().filter(|name| name.ends_with(".wal"));
    segments
        .map(|name| {
            let bytes = disk.contents(&name).expect("a file");
            let end = bytes
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1);
            (name, end as u64)
        })
        .collect()
}

/// Bits to flip: one in every `step` bytes of each file, every bit near the end of what is used.
fn bits(disk: &SimDisk, step: u64) -> Vec<(String, u64)> {
    let mut bits = Vec::new();
    for (name, end) in used(disk) {
        for byte in (0..SEGMENT_BYTES).step_by(step as usize) {
            bits.push((name.clone(), byte * 8 + byte % 8));
        }
        for bit in (end - 60) * 8..(end + 40).min(SEGMENT_BYTES) * 8 {
            bits.push((name.clone(), bit));
        }
    }
    bits
}

#[test]
fn every_flip_in_a_closed_log_is_found_or_harmless() {
    let (disk, run) = filled(11);
    run.wal.close();
    let used = used(&disk);
    let last = used.keys().next_back().expect("a segment").clone();
    let (mut found, mut harmless) = (0, 0);
    for (name, bit) in bits(&disk, 11) {
        let flipped = disk.fork();
        assert!(flipped.flip_bit(&name, bit));
        let end = used[&name];
        match open(&flipped) {
            Err(OpenError::Damaged { segment, .. }) => {
                assert_eq!(segment, name);
                found += 1;
            }
            Err(error) => panic!("{error}"),
            Ok((wal, recovery)) => {
                assert_eq!(&Model::of(&wal).unwrap(), run.model(), "{name} bit {bit}");
                // Only the last 24 bytes, the mark, and what lies behind the records may be hit unseen.
                let mark = if name == last { 24 } else { 0 };
                assert!(
                    bit / 8 + mark + 8 >= end,
                    "{name} bit {bit} went unseen, records end at {end}"
                );
                assert_eq!(recovery.torn.is_some(), name == last);
                harmless += 1;
            }
        }
    }
    println!("{found} flips found, {harmless} harmless");
    assert!(found > 1000 && harmless > 100);
}

#[test]
fn a_flip_after_a_power_cut_costs_at_most_the_last_batch_and_is_reported() {
    let (disk, run) = filled(12);
    // The mark behind the last batch was never synced: nothing proves the batch any more.
    disk.crash(Crash::LoseAll);
    let (mut found, mut cut) = (0, 0);
    for (name, bit) in bits(&disk, 23) {
        let flipped = disk.fork();
        assert!(flipped.flip_bit(&name, bit));
        match open(&flipped) {
            Err(OpenError::Damaged { .. }) => found += 1,
            Err(error) => panic!("{error}"),
            Ok((wal, recovery)) => {
                let model = Model::of(&wal).unwrap();
                assert!(
                    run.history.contains(&model),
                    "{name} bit {bit}: never was like this"
                );
                if &model != run.model() {
                    cut += 1;
                    assert!(
                        recovery.torn.is_some(),
                        "{name} bit {bit}: a cut that nobody hears of"
                    );
                }
            }
        }
    }
    println!("{found} flips found, {cut} cut off the last batch");
    assert!(found > 500 && cut > 10);
}

#[test]
fn damage_says_where_it_is_and_what_to_do() {
    let (disk, run) = filled(13);
    run.wal.close();
    let name = used(&disk).into_keys().next().unwrap();
    disk.flip_bit(&name, 4096 * 8);
    let text = open(&disk).map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        text,
        format!(
            "the log is damaged: segment {name}, byte 4096: the checksum of a record is wrong; the log of this \
             node cannot be trusted: remove the member from the cluster and let it join again with an empty \
             data directory"
        )
    );
}

#[test]
fn files_that_are_missing_short_or_from_elsewhere_are_refused() {
    let (disk, run) = filled(14);
    run.wal.close();
    let names: Vec<String> = used(&disk).into_keys().collect();
    let refused = |disk: &SimDisk| open(disk).map(|_| ()).unwrap_err().to_string();

    let missing = disk.fork();
    missing.remove(&names[1]).unwrap();
    assert!(refused(&missing).contains(&format!("segment {}, byte 0: the segment is missing", names[1])));

    let short = disk.fork();
    short.cut_file(&names[0], 8000);
    assert!(refused(&short).contains("byte 8000: the file ends here, it must have 12288 bytes"));
    short.cut_file(&names[0], 0);
    assert!(refused(&short).contains("byte 0: the file is shorter than a segment's header"));

    let swapped = disk.fork();
    swapped.rename(&names[0], &names[1]).unwrap();
    assert!(refused(&swapped).contains("under another name"));

    let text = Wal::open(
        disk.mount(),
        kv_wal::Options {
            log_id: 1,
            ..driven(SEGMENT_BYTES)
        },
    );
    assert!(matches!(
        text.map(|_| ()).unwrap_err(),
        OpenError::OtherLog {
            found: 0xfeed,
            expected: 1,
            ..
        }
    ));
}

#[test]
fn a_missing_oldest_segment_is_noticed_unless_all_of_it_was_purged() {
    let disk = SimDisk::new();
    let (wal, _) = open(&disk).unwrap();
    for index in 0..40 {
        wal.append(vec![entry(1, index, &[7; 500])], |_| {});
    }
    while wal.drive() == kv_wal::Driven::Worked {}
    wal.close();
    let first = used(&disk).into_keys().next().unwrap();
    disk.remove(&first).unwrap();
    let text = open(&disk).map(|_| ()).unwrap_err().to_string();
    assert!(
        text.contains("were never purged, but the segments with them are gone"),
        "{text}"
    );
}

#[test]
fn a_newer_format_is_refused_with_its_version() {
    let disk = SimDisk::new();
    open(&disk).unwrap().0.close();
    let name = used(&disk).into_keys().next().unwrap();
    let mut block = disk.contents(&name).unwrap()[..4096].to_vec();
    block[12] = 9;
    let crc = crc32c::crc32c(&block[12..]);
    block[8..12].copy_from_slice(&crc.to_le_bytes());
    disk.open(&name).unwrap().write_all_at(&block, 0).unwrap();
    let text = open(&disk).map(|_| ()).unwrap_err().to_string();
    assert!(
        text.contains("has format 9, this program reads up to format 1"),
        "{text}"
    );
}

#[test]
fn damage_under_a_running_log_is_found_when_it_is_read() {
    let disk = SimDisk::new();
    let (wal, _) = open(&disk).unwrap();
    let (done, result) = reply();
    wal.append(
        (0..20)
            .map(|index| entry(1, index, &[index as u8; 400]))
            .collect(),
        done,
    );
    assert_eq!(wal.drive(), kv_wal::Driven::Worked);
    result.recv().unwrap().unwrap();
    let name = used(&disk).into_keys().next().unwrap();
    disk.flip_bit(&name, (4096 + 100) * 8);
    let error = wal.read(0..20, 1 << 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(
        error
            .to_string()
            .starts_with(&format!("entry 1/0 at byte 4096 of segment {name}")),
        "{error}"
    );
    assert_eq!(wal.read(1..20, 1 << 20).unwrap().len(), 19, "the others are fine");
}

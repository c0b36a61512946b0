//! Flipped bits on disk: found, or without effect; never a wrong value. `QUORATE_FLIPS` makes the run longer.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{Numbers, all, apply_log, options, sweep};
use kv_core::Range;
use kv_store::{OpenError, ReadError, Store};

const ENTRIES: u64 = 1_500;
/// Flips of a short run.
const FLIPS: u64 = 150;

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if fs::metadata(&path).expect("a file").len() > 0 {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copies");
        }
    }
}

/// Reads everything at some revisions from the compacted to the current one; true if all of it was given, and right.
fn reads_right(store: &Store, twin: &Store) -> bool {
    let mut complete = true;
    for revision in (twin.compacted()..=twin.revision()).rev().step_by(60) {
        match store.range(&Range { revision, ..all() }) {
            Ok(read) => assert_eq!(
                read.result,
                twin.range(&Range { revision, ..all() }).expect("reads").result
            ),
            Err(ReadError::Fault(_)) => complete = false,
            Err(error) => panic!("revision {revision}: {error}"),
        }
    }
    complete
}

#[test]
fn flipped_bits_are_found_or_harmless() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = dir.path().join("good");
    let twin = Store::in_memory(options()).expect("opens");
    apply_log(&twin, ENTRIES, 64);
    {
        let store = Store::open(&good, options()).expect("opens");
        apply_log(&store, ENTRIES, 64);
        sweep(&store);
        assert_eq!(store.sync().expect("syncs"), ENTRIES);
    }
    let given = std::env::var("QUORATE_FLIPS").ok();
    let flips = given.map_or(FLIPS, |flips| flips.parse().expect("QUORATE_FLIPS is a number"));
    let mut numbers = Numbers::new(7);
    let (mut refused, mut faulty, mut harmless) = (0, 0, 0);
    for flip in 0..flips {
        let bad = dir.path().join(format!("bad-{flip}"));
        copy(&good, &bad);
        // The file with the data as often as all others together.
        let mut files = files(&bad);
        let data = files
            .iter()
            .position(|path| path.ends_with("db"))
            .expect("sled's file");
        if flip % 2 == 0 {
            files.swap(0, data);
            files.truncate(1);
        }
        let file = &files[usize::try_from(numbers.below(files.len() as u64)).expect("small")];
        let mut bytes = fs::read(file).expect("reads");
        let at = numbers.below(bytes.len() as u64);
        bytes[usize::try_from(at).expect("small")] ^= 1 << numbers.below(8);
        fs::write(file, bytes).expect("writes");
        match Store::open(&bad, options()) {
            Err(OpenError::Damaged { .. }) => refused += 1,
            Err(error) => panic!("{}, byte {at}: {error}", file.display()),
            Ok(store) if reads_right(&store, &twin) => {
                assert_eq!(store.applied(), twin.applied());
                assert_eq!(
                    store.hash_kv(0).expect("hashes"),
                    twin.hash_kv(0).expect("hashes")
                );
                harmless += 1;
            }
            Ok(_) => faulty += 1,
        }
        fs::remove_dir_all(&bad).expect("removes");
    }
    println!("{flips} flips: {refused} refused at open, {faulty} found by reads, {harmless} harmless");
    assert!(refused > 0, "flips reach what matters");
}

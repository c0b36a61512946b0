//! What the fuzz targets of all decoders share, and their twins that run with the tests.
//!
//! The check behind a target is one function from bytes to nothing: it panics where a decoder does not keep its
//! promises. It stands in the module `fuzz` of the crate whose decoder it checks, and is built for that crate's own
//! tests, and with its feature `fuzzing`, which nothing but `fuzz/` turns on. There, libFuzzer calls it; [`twin`]
//! does so everywhere else, on the kept corpus, on arbitrary bytes, and on valid encodings that are changed.

mod mutate;
mod pieces;

use std::{fs, path::PathBuf};

use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestError, TestRunner},
};

pub use pieces::{join, pieces};

/// The longest input without any structure. Longer ones say nothing new.
const ARBITRARY_BYTES_MAX: usize = 512;
/// With this variable set, [`twin`] writes the valid encodings to the corpus.
const KEEP: &str = "QUORATE_FUZZ_KEEP";

/// Checks one decoder: on the kept corpus of `target`, on the valid encodings `seeds`, on arbitrary bytes, and on
/// corpus and seeds that are changed. `PROPTEST_CASES` says how often, 256 by default.
///
/// # Panics
/// With the smallest input that `check` panics on, after writing it to `fuzz/artifacts`.
pub fn twin(target: &str, seeds: Vec<Vec<u8>>, check: impl Fn(&[u8])) {
    if std::env::var_os(KEEP).is_some() {
        keep(target, &seeds);
    }
    let mut known = corpus(target);
    assert!(!known.is_empty(), "no corpus is kept for {target}");
    known.extend(seeds);
    for input in &known {
        check(input);
    }
    let arbitrary = prop::collection::vec(any::<u8>(), 0..ARBITRARY_BYTES_MAX);
    run(target, &arbitrary, &check);
    run(target, &mutate::changed(known), &check);
}

fn run(target: &str, inputs: &impl Strategy<Value = Vec<u8>>, check: &impl Fn(&[u8])) {
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(inputs, |input| {
        check(&input);
        Ok::<(), TestCaseError>(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Abort(reason)) => panic!("{target}: {reason}"),
        Err(TestError::Fail(reason, input)) => {
            let file = write(&root().join("artifacts").join(target), "twin", &input);
            panic!("{target}: {reason}\nthe input is in {}", file.display());
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The kept inputs of a target, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = root().join("corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .map(|files| files.filter_map(|file| Some(file.ok()?.path())).collect())
        .unwrap_or_default();
    files.sort();
    let read = |file: &PathBuf| fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    files.iter().map(read).collect()
}

fn keep(target: &str, seeds: &[Vec<u8>]) {
    for (number, seed) in seeds.iter().enumerate() {
        write(
            &root().join("corpus").join(target),
            &format!("valid-{number:02}"),
            seed,
        );
    }
}

fn write(folder: &std::path::Path, name: &str, input: &[u8]) -> PathBuf {
    let file = folder.join(name);
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&file, input));
    written.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    file
}

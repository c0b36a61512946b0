//! Figures of the store on this machine: `cargo run --release -p kv-store --example store_bench [keys [value cache MB [sled cache MB]]]`.
//!
//! Puts of 256 B in batches of 64, random reads by two threads (from the caches, and after a restart),
//! the same reads beside a writer, a compaction, a snapshot, and a restart with ten times as many keys.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use kv_core::{Command, Compact, Put, Range};
use kv_store::{Options, Store};

/// As in the binaries.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE_BYTES: usize = 256;
const BATCH: usize = 64;
const READERS: u64 = 2;
const READS: u64 = 100_000;

type Done = Result<(), Box<dyn std::error::Error>>;

fn main() -> Done {
    let keys: u64 = std::env::args().nth(1).map_or(Ok(100_000), |keys| keys.parse())?;
    let dir = std::env::temp_dir().join(format!("store-bench-{}", std::process::id()));
    let done = bench(&dir, keys);
    fs::remove_dir_all(&dir)?;
    done
}

fn bench(dir: &Path, keys: u64) -> Done {
    let store = open(dir)?;
    report("empty", &store)?;
    put_all(&store, 0..keys, BATCH)?;
    report("after the puts", &store)?;
    timed("sync", || store.sync())?;
    read(&store, keys, "after the puts");
    report("after the reads", &store)?;
    read_beside_writer(&store, keys)?;
    put_all(&store, 0..2_000, 1)?;
    report("after all of it", &store)?;
    compact(&store)?;
    report("after the compaction", &store)?;
    timed("hash", || store.hash_kv(0))?;
    timed(
        "snapshot into memory",
        || -> Result<(), Box<dyn std::error::Error>> {
            let view = store.snapshot()?;
            let target = Store::in_memory(Options::default())?;
            let mut install = target.begin_install(view.header().clone())?;
            for chunk in view.chunks(1 << 20) {
                install.push(&chunk?)?;
            }
            Ok(target.install(install.finish()?)?)
        },
    )?;
    timed("close", || -> Done {
        drop(store);
        Ok(())
    })?;
    let store = open(dir)?;
    report("after a restart", &store)?;
    read(&store, keys, "after a restart");
    put_all(&store, keys..keys * 10, 512)?;
    report("ten times the keys", &store)?;
    drop(store);
    let store = open(dir)?;
    report("ten times the keys, after a restart", &store)?;
    read(&store, keys * 10, "ten times the keys");
    report("ten times the keys, after reads", &store)?;
    Ok(())
}

fn open(dir: &Path) -> Result<Store, Box<dyn std::error::Error>> {
    let mut options = Options::default();
    if let Some(megabytes) = std::env::args().nth(2) {
        options.cache_bytes = megabytes.parse::<u64>()? << 20;
    }
    if let Some(megabytes) = std::env::args().nth(3) {
        options.sled.cache_bytes = megabytes.parse::<u64>()? << 20;
    }
    let start = Instant::now();
    let store = Store::open(dir, options)?;
    println!(
        "open: {:?}, of it {:?} reading {} records",
        start.elapsed(),
        store.loaded().duration,
        store.loaded().records
    );
    Ok(store)
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("key-{number:010}"))
}

fn put_all(store: &Store, numbers: std::ops::Range<u64>, batch: usize) -> Done {
    let count = numbers.end - numbers.start;
    let start = Instant::now();
    let mut numbers = numbers;
    while put_batch(store, numbers.by_ref().take(batch))? {}
    let seconds = start.elapsed().as_secs_f64();
    println!("puts, {batch} at a time: {:.0}/s", count as f64 / seconds);
    Ok(())
}

/// False if there was nothing to put.
fn put_batch(store: &Store, numbers: impl Iterator<Item = u64>) -> Result<bool, Box<dyn std::error::Error>> {
    let first = store.applied().map_or(1, |point| point.index + 1);
    let puts = numbers.map(|number| {
        let value = Bytes::from(vec![b'a' + (number % 26) as u8; VALUE_BYTES]);
        Some(Command::Put(Put {
            key: key(number),
            value,
            ..Put::default()
        }))
    });
    let effects = store.apply(&(first..).zip(puts).collect::<Vec<_>>(), Bytes::new())?;
    Ok(!effects.outcomes.is_empty())
}

fn read(store: &Store, keys: u64, what: &str) {
    let start = Instant::now();
    let slowest = thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|seed| scope.spawn(move || read_random(store, keys, seed)))
            .collect();
        readers
            .into_iter()
            .map(|reader| reader.join().expect("reads"))
            .max()
    });
    let rate = (READERS * READS) as f64 / start.elapsed().as_secs_f64();
    println!(
        "reads {what}, {READERS} threads: {rate:.0}/s, slowest {:?}",
        slowest.unwrap_or_default()
    );
}

fn read_random(store: &Store, keys: u64, seed: u64) -> Duration {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut slowest = Duration::ZERO;
    for _ in 0..READS {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        let start = Instant::now();
        let read = store
            .range(&Range {
                key: key(x % keys),
                ..Range::default()
            })
            .expect("reads");
        assert_eq!(read.result.count, 1);
        slowest = slowest.max(start.elapsed());
    }
    slowest
}

/// The same keys are written again meanwhile.
fn read_beside_writer(store: &Store, keys: u64) -> Done {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let before = store.applied().map_or(0, |point| point.index);
            let start = Instant::now();
            let mut numbers = (0..keys).cycle();
            while !stop.load(Ordering::Relaxed) {
                put_batch(store, numbers.by_ref().take(BATCH)).expect("puts");
            }
            let count = store.applied().map_or(0, |point| point.index) - before;
            println!(
                "puts beside the reads: {:.0}/s",
                count as f64 / start.elapsed().as_secs_f64()
            );
        });
        read(store, keys, "beside a writer");
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("puts");
    });
    Ok(())
}

fn compact(store: &Store) -> Done {
    let index = store.applied().map_or(1, |point| point.index + 1);
    let compact = Command::Compact(Compact {
        revision: store.revision(),
    });
    store.apply(&[(index, Some(compact))], Bytes::new())?;
    timed("sweep", || -> Done {
        while store.sweep_step()? {}
        Ok(())
    })
}

fn timed<T, E>(what: &str, run: impl FnOnce() -> Result<T, E>) -> Result<(), E> {
    let start = Instant::now();
    run()?;
    println!("{what}: {:?}", start.elapsed());
    Ok(())
}

fn report(when: &str, store: &Store) -> Done {
    let status = fs::read_to_string("/proc/self/status")?;
    let memory = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap_or("VmRSS: unknown");
    let megabytes = |bytes: u64| bytes >> 20;
    println!(
        "-- {when}: {} keys, {}, {} MB on disk, {} MB live",
        store.keys(),
        memory.split_whitespace().collect::<Vec<_>>().join(" "),
        megabytes(store.size_bytes()?),
        megabytes(store.live_bytes())
    );
    Ok(())
}

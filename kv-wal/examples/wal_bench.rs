//! How many entries a second the log makes durable, by batch size: `wal_bench [DIRECTORY] [SECONDS]`.
//!
//! Each batch is one `append` of so many entries of 256 bytes; a number of them is kept under way, as
//! openraft does. Also times reading back and reopening.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv_wal::{Entry, Options, Position, RealDisk, Wal};

const PAYLOAD_BYTES: usize = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let base = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = args.next().map_or(Ok(2), |text| text.parse())?;
    let directory = base.join(format!("wal-bench-{}", std::process::id()));
    let result = run(&directory, Duration::from_secs(seconds));
    std::fs::remove_dir_all(&directory)?;
    result
}

fn run(directory: &std::path::Path, length: Duration) -> Result<(), Box<dyn Error>> {
    println!(
        "entries of {PAYLOAD_BYTES} bytes, {length:?} each, in {}",
        directory.display()
    );
    for (batch, under_way) in [(1, 1), (16, 1), (128, 1), (1, 128), (16, 8), (128, 4)] {
        append(directory, length, batch, under_way)?;
    }
    reopen(directory)
}

fn open(directory: &std::path::Path) -> Result<Wal, Box<dyn Error>> {
    Ok(Wal::open(Arc::new(RealDisk::new(directory)?), Options::default())?.0)
}

fn append(
    directory: &std::path::Path,
    length: Duration,
    batch: u64,
    under_way: usize,
) -> Result<(), Box<dyn Error>> {
    let wal = open(directory)?;
    let (sender, receiver) = channel();
    let payload = Bytes::from(vec![7; PAYLOAD_BYTES]);
    let started = Instant::now();
    let (mut index, mut waiting, mut done) = (wal.last().map_or(0, |last| last.index + 1), 0, 0);
    let mut latencies = Vec::new();
    while started.elapsed() < length || waiting > 0 {
        while waiting < under_way && started.elapsed() < length {
            let entries = (index..index + batch)
                .map(|index| Entry {
                    position: Position::new(1, index),
                    payload: payload.clone(),
                })
                .collect();
            index += batch;
            waiting += 1;
            let (sender, asked) = (sender.clone(), Instant::now());
            wal.append(entries, move |result| {
                sender.send((result, asked.elapsed())).ok();
            });
        }
        let (result, latency) = receiver.recv()?;
        result?;
        latencies.push(latency);
        waiting -= 1;
        done += batch;
    }
    let rate = done as f64 / started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let (p50, p99) = (
        latencies[latencies.len() / 2],
        latencies[latencies.len() * 99 / 100],
    );
    let syncs = wal.stats().syncs;
    println!(
        "batch {batch:>3} x {under_way:>3} under way: {rate:>9.0} entries/s, {syncs:>6} syncs, p50 {p50:?}, p99 {p99:?}"
    );
    Ok(())
}

fn reopen(directory: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let disk = Arc::new(RealDisk::new(directory)?);
    let (wal, recovery) = Wal::open(disk, Options::default())?;
    println!(
        "reopened: {} entries in {} segments, {:?}",
        recovery.entries, recovery.segments, recovery.duration
    );
    let started = Instant::now();
    let mut read = 0;
    while read < recovery.entries {
        let entries = wal.read(read..u64::MAX, 1 << 20)?;
        read += entries.len() as u64;
    }
    println!(
        "read back: {:.0} entries/s",
        read as f64 / started.elapsed().as_secs_f64()
    );
    Ok(())
}

//! What leases cost the store: time and memory of granting, renewing and ending many.
//!
//! `cargo run --release -p kv-store --example lease_bench [LEASES]`, 100,000 unless said.

use std::{error::Error, time::Instant};

use bytes::Bytes;
use kv_core::{Command, LeaseExpire, LeaseGrant, LeaseRenew, Put};
use kv_store::{Options, Store};

/// Commands in one call, and leases in one renewal, as a node has them at most.
const BATCH: usize = 512;
const IDS: usize = 4096;

fn rss_mib() -> Result<u64, Box<dyn Error>> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm")?
        .split(' ')
        .nth(1)
        .ok_or("no resident size")?
        .parse()?;
    Ok((pages * 4096) >> 20)
}

struct Bench {
    store: Store,
    index: u64,
}

impl Bench {
    fn run(&mut self, what: &str, batch: usize, commands: Vec<Command>) -> Result<(), Box<dyn Error>> {
        let (began, count) = (Instant::now(), commands.len());
        for commands in commands.chunks(batch) {
            let first = self.index + 1;
            let entries: Vec<_> = (first..).zip(commands.iter().cloned().map(Some)).collect();
            self.index += entries.len() as u64;
            for outcome in self.store.apply(&entries, Bytes::new())?.outcomes {
                outcome.result?;
            }
        }
        let applied = began.elapsed();
        self.store.sync()?;
        println!(
            "{what}: {count} commands applied in {applied:.1?}, durable after {:.1?}, {} MiB",
            began.elapsed(),
            rss_mib()?
        );
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let leases: i64 = std::env::args().nth(1).map_or(Ok(100_000), |text| text.parse())?;
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path(), Options::default())?;
    println!("empty: {} MiB", rss_mib()?);
    let mut bench = Bench { store, index: 0 };
    let ids: Vec<i64> = (1..=leases).collect();
    let grants = ids.iter().map(|&id| LeaseGrant {
        id,
        ttl_s: 60,
        now_ms: 1,
    });
    bench.run("grant", BATCH, grants.map(Command::LeaseGrant).collect())?;
    let puts = ids.iter().map(|&id| Put {
        key: format!("key-{id:08}").into(),
        lease: id,
        ..Put::default()
    });
    bench.run("put a key on each", BATCH, puts.map(Command::Put).collect())?;
    for round in 1..=3 {
        let renewals = ids.chunks(IDS).map(|ids| LeaseRenew {
            ids: ids.to_vec(),
            now_ms: round * 1000,
        });
        bench.run("renew all", 1, renewals.map(Command::LeaseRenew).collect())?;
    }
    let began = Instant::now();
    for _ in 0..1000 {
        bench.store.with_state(|state| state.lease_ends().next());
    }
    println!("looking for the next end: {:.1?}", began.elapsed() / 1000);
    drop(bench.store);
    let began = Instant::now();
    bench.store = Store::open(dir.path(), Options::default())?;
    println!("open again: {:.1?}, {} MiB", began.elapsed(), rss_mib()?);
    let expiries = ids.chunks(256).map(|ids| LeaseExpire {
        ids: ids.to_vec(),
        now_ms: 1_000_000,
    });
    bench.run("end all", 1, expiries.map(Command::LeaseExpire).collect())
}

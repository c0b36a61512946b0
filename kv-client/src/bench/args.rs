//! What to measure.

use std::time::Duration;

use clap::Subcommand;

use crate::cli::parse_duration;

/// The kinds of load.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// Write random keys
    #[command(after_help = CLEANUP)]
    Put(BenchArgs),
    /// Read random keys, one each
    #[command(after_help = CLEANUP)]
    Range(RangeBenchArgs),
    /// Read random keys, and write some
    #[command(after_help = CLEANUP)]
    Mixed(MixedArgs),
    /// Write keys that are watched, and see how soon the watchers know
    #[command(after_help = WATCH_HELP)]
    Watch(WatchBenchArgs),
    /// Grant leases, and keep them alive
    #[command(after_help = LEASE_HELP)]
    Lease(LeaseBenchArgs),
}

const WATCH_HELP: &str = "\
Every watcher follows all keys with the prefix, on a stream of its own. The row watch has all events of all watchers;
its latency is the lag from when a put was sent until a watcher had the event. Idle watchers follow keys that nobody
writes. The keys are deleted afterwards.";

const LEASE_HELP: &str = "\
First all grants, then the renewals, each client on one stream. The leases are revoked afterwards.";

const CLEANUP: &str = "\
The keys stay in the store unless --clean is given; to delete them later:
  kv-client del quorate-bench/ --prefix
Ctrl-C ends the load, and shows what was measured.
Errors are counted by kind. The exit code is 0 if at least one request succeeded.";

/// Arguments of every load.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchArgs {
    /// Requests in flight at a time
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub clients: u32,
    /// Connections, spread over the endpoints
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub conns: u32,
    /// Stop after so many requests
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "duration")]
    pub total: u64,
    /// Stop after this time instead
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Number of different keys
    #[arg(long, visible_alias = "key-space-size", default_value_t = 100_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub key_count: u64,
    /// Length of a key in bytes, prefix and number included
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub key_size: u32,
    /// Length of a value in bytes
    #[arg(long, visible_alias = "val-size", default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=16_777_216))]
    pub value_size: u32,
    /// What all keys begin with
    #[arg(long, default_value = "quorate-bench/")]
    pub prefix: String,
    /// At most so many requests a second; latency then counts from when a request was due
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub rate: Option<u64>,
    /// Write every key once before, unmeasured
    #[arg(long)]
    pub fill: bool,
    /// Delete all keys with the prefix afterwards
    #[arg(long)]
    pub clean: bool,
}

/// How reads are done.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ReadArgs {
    /// Linearizable or serializable reads
    #[arg(long, default_value = "l")]
    pub consistency: crate::cli::Consistency,
}

/// Arguments of `bench range`.
#[derive(Clone, Debug, clap::Args)]
pub struct RangeBenchArgs {
    /// Arguments of every load.
    #[command(flatten)]
    pub common: BenchArgs,
    /// How reads are done.
    #[command(flatten)]
    pub read: ReadArgs,
}

/// Arguments of `bench mixed`.
#[derive(Clone, Debug, clap::Args)]
pub struct MixedArgs {
    /// Arguments of every load.
    #[command(flatten)]
    pub common: BenchArgs,
    /// How reads are done.
    #[command(flatten)]
    pub read: ReadArgs,
    /// How many of 100 requests are writes
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub write_percent: u8,
}

/// Arguments of `bench watch`.
#[derive(Clone, Debug, clap::Args)]
pub struct WatchBenchArgs {
    /// Watchers that get every event
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub watchers: u32,
    /// Watchers that get none
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub idle: u32,
    /// Writers, each with one put in flight at a time
    #[arg(long, visible_alias = "clients", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub writers: u32,
    /// Connections, spread over the endpoints, shared by writers and watchers
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub conns: u32,
    /// Stop after so many puts
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "duration")]
    pub total: u64,
    /// Stop after this time instead
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// At most so many puts a second
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub rate: Option<u64>,
    /// Number of different keys
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub key_count: u64,
    /// Length of a value in bytes, a time stamp included
    #[arg(long, visible_alias = "val-size", default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u32).range(16..=16_777_216))]
    pub value_size: u32,
    /// What all keys begin with
    #[arg(long, default_value = "quorate-bench-watch/")]
    pub prefix: String,
}

/// Arguments of `bench lease`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct LeaseBenchArgs {
    /// Clients, each with one request in flight at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub clients: u32,
    /// Connections, spread over the endpoints
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub conns: u32,
    /// Leases to grant
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub total: u64,
    /// Renewals
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(0..))]
    pub keepalives: u64,
    /// Seconds that a lease lives
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(i64).range(1..=9_000_000_000))]
    pub ttl: i64,
}

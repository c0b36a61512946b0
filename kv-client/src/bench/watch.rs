//! `bench watch`: how many events reach their watchers, and how soon.
//!
//! A put carries the time at which it was sent, so that each event tells its own lag. Writers and watchers are in one
//! process and share one clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kv_proto::etcdserverpb::{PutRequest, WatchCreateRequest};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::args::WatchBenchArgs;
use super::load::{Keys, Latencies, Pace, Results};
use super::report::{Sheet, row};
use super::run::{PROGRESS_INTERVAL, bar, clean, verdict};
use crate::cli::{Exit, Failure, GlobalArgs, WriteOut, print};
use crate::{Client, Config, Error, Watch, WatchItem, prefix_end};

/// The bytes at the beginning of a value that hold the time.
const STAMP_BYTES: usize = 16;
/// The room of a key for its number.
const DIGITS: usize = 12;
/// How long watchers may get nothing after the last put before the rest counts as missing.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The pause of a writer after an error.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);
/// How many watches are opened at a time.
const OPENING_MAX: usize = 64;

/// What all tasks of the load share.
struct Load {
    keys: Keys,
    key_count: u64,
    padding: Vec<u8>,
    started: Instant,
    pace: Pace,
    /// Events that arrived.
    events: AtomicU64,
}

pub(super) async fn run(global: &GlobalArgs, args: &WatchBenchArgs) -> Result<Exit, Failure> {
    let keys = Keys::new(&args.prefix, args.prefix.len() + DIGITS, args.key_count)
        .ok_or_else(|| Failure::usage("too many keys", "make --key-count smaller"))?;
    let clients = clients(global, args.conns)?;
    let watched = |prefix: String| WatchCreateRequest {
        range_end: prefix_end(prefix.as_bytes()),
        key: prefix.into(),
        ..Default::default()
    };
    let watches = open(&clients, args.watchers, &watched(args.prefix.clone())).await?;
    let idle = open(&clients, args.idle, &watched(format!("{}idle", args.prefix))).await?;

    let load = Arc::new(Load {
        keys,
        key_count: args.key_count,
        padding: vec![b'.'; args.value_size as usize - STAMP_BYTES],
        started: Instant::now(),
        pace: Pace::start(args.total, args.duration, args.rate),
        events: AtomicU64::new(0),
    });
    // The number of puts, when it is known.
    let (told, puts) = watch::channel(None);
    let mut watchers = JoinSet::new();
    for watch in watches {
        watchers.spawn(follow(watch, load.clone(), puts.clone()));
    }
    let mut writers = JoinSet::new();
    for client in clients.iter().cycle().take(args.writers as usize) {
        writers.spawn(write(client.clone(), load.clone()));
    }
    let mut results = Results::new();
    collect(&mut writers, &load, args, |one: Results| results.merge(&one)).await;
    let wrote = load.started.elapsed();
    told.send_replace(Some(results.writes.histogram.len()));
    let mut lag = Latencies::new();
    collect(&mut watchers, &load, args, |one: Followed| {
        lag.merge(&one.lag);
        if one.missing > 0 {
            results.count_errors("event missing", one.missing);
        }
    })
    .await;
    let elapsed = load.started.elapsed();
    drop(idle);
    clean(global, &args.prefix).await?;

    let settings = [
        ("watchers", u64::from(args.watchers)),
        ("idle_watchers", u64::from(args.idle)),
        ("writers", u64::from(args.writers)),
        ("connections", u64::from(args.conns)),
        ("value_bytes", u64::from(args.value_size)),
    ];
    let rows = vec![row("put", &results.writes, wrote), row("watch", &lag, elapsed)];
    let sheet = Sheet::new("watch", settings, elapsed, rows, &results.errors);
    print(sheet.show(global.write_out.unwrap_or(WriteOut::Table)))?;
    verdict(sheet.is_total_failure())
}

/// One client for each connection; each begins with another endpoint.
fn clients(global: &GlobalArgs, count: u32) -> Result<Vec<Client>, Failure> {
    let config = global.config();
    let client = |number: usize| {
        let mut endpoints = config.endpoints.clone();
        let first = number % endpoints.len().max(1);
        endpoints.rotate_left(first);
        Ok(Client::new(Config {
            endpoints,
            ..config.clone()
        })?)
    };
    (0..count as usize).map(client).collect()
}

/// Opens so many watches, spread over the clients.
async fn open(clients: &[Client], count: u32, request: &WatchCreateRequest) -> Result<Vec<Watch>, Failure> {
    let mut opening = JoinSet::new();
    let mut watches = Vec::new();
    for client in clients.iter().cycle().take(count as usize) {
        if opening.len() >= OPENING_MAX {
            watches.extend(opened(&mut opening).await?);
        }
        let (client, request) = (client.clone(), request.clone());
        opening.spawn(async move { client.watch(request).await });
    }
    while !opening.is_empty() {
        watches.extend(opened(&mut opening).await?);
    }
    Ok(watches)
}

async fn opened(opening: &mut JoinSet<Result<Watch, Error>>) -> Result<Option<Watch>, Failure> {
    match opening.join_next().await {
        Some(Ok(watch)) => Ok(Some(watch?)),
        Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        None => Ok(None),
    }
}

/// Waits for all tasks, with progress on a terminal.
async fn collect<T: 'static>(
    tasks: &mut JoinSet<T>,
    load: &Load,
    args: &WatchBenchArgs,
    mut take: impl FnMut(T),
) {
    let total = args
        .duration
        .is_none()
        .then(|| args.total * u64::from(args.watchers));
    let bar = bar("events", total);
    let mut tick = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        tokio::select! {
            joined = tasks.join_next() => match joined {
                Some(Ok(one)) => take(one),
                // A task that panicked is a defect of this program: it must not look like a result.
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                None => break,
            },
            _ = tick.tick(), if !bar.is_hidden() => bar.set_position(load.events.load(Ordering::Relaxed)),
        }
    }
    bar.finish_and_clear();
}

/// Puts until the load is over.
async fn write(client: Client, load: Arc<Load>) -> Results {
    let mut results = Results::new();
    while let Some((_, due)) = load.pace.next().await {
        let mut value = format!("{:016x}", load.started.elapsed().as_nanos() as u64).into_bytes();
        value.extend_from_slice(&load.padding);
        let request = PutRequest {
            key: load.keys.key(rand::random_range(0..load.key_count)),
            value: value.into(),
            ..Default::default()
        };
        match client.put(request).await {
            Ok(_) => results.writes.record(due.elapsed()),
            Err(error) => {
                results.count_errors(kind_of(&error), 1);
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
    results
}

/// Errors are told apart by what they mean, not by the endpoints that they name.
fn kind_of(error: &Error) -> &str {
    match error {
        Error::NoQuorum { .. } => "no quorum",
        Error::OutcomeUnknown { .. } => "outcome unknown",
        Error::Rejected { message, .. } => message,
        _ => "other",
    }
}

/// What one watcher got.
struct Followed {
    lag: Latencies,
    missing: u64,
}

/// Follows until it has an event for each put that succeeded, or nothing comes any more. (A put whose outcome is
/// unknown may make one more.)
async fn follow(mut watch: Watch, load: Arc<Load>, mut puts: watch::Receiver<Option<u64>>) -> Followed {
    let mut lag = Latencies::new();
    loop {
        let expected = *puts.borrow_and_update();
        let count = lag.histogram.len();
        if expected.is_some_and(|expected| count >= expected) {
            return Followed { lag, missing: 0 };
        }
        let next = async {
            match expected {
                Some(_) => timeout(SILENCE_MAX, watch.next()).await.ok().flatten(),
                None => watch.next().await,
            }
        };
        tokio::select! {
            item = next => match item {
                Some(Ok(WatchItem::Events { events, .. })) => {
                    let now = load.started.elapsed();
                    load.events.fetch_add(events.len() as u64, Ordering::Relaxed);
                    for event in &events {
                        if let Some(sent) = event.kv.as_ref().and_then(|kv| sent_at(&kv.value)) {
                            lag.record(now.saturating_sub(sent));
                        }
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => {
                    let missing = expected.unwrap_or(0).saturating_sub(count).max(1);
                    return Followed { lag, missing };
                }
            },
            // The number of puts is known now.
            Ok(()) = puts.changed() => {}
        }
    }
}

/// When a put was sent, counted from the start of the load.
fn sent_at(value: &Bytes) -> Option<Duration> {
    let stamp = std::str::from_utf8(value.get(..STAMP_BYTES)?).ok()?;
    u64::from_str_radix(stamp, 16).ok().map(Duration::from_nanos)
}

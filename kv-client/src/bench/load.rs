//! One client of a load: requests one after the other on one connection, and what they took.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use kv_proto::etcdserverpb::kv_client::KvClient;
use kv_proto::etcdserverpb::{PutRequest, RangeRequest};
use rand::RngExt;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::auth::Auth;
use crate::classify::{Failure, Kind};
use crate::connection::Connection;

/// The largest latency a histogram can hold, in microseconds; anything above counts as this.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Two digits: a histogram then takes 20 kB or so, and a thousand clients stay in the cache.
const DIGITS: u8 = 2;
/// How many kinds of error are told apart.
const ERROR_KINDS_MAX: usize = 32;
/// The pause of a client after an error, so that a server that is down is not met with a busy loop.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);
/// Random bytes from which all values are cut.
const PAYLOAD_BYTES: usize = 1 << 20;

/// What is requested. Shared by all clients.
pub(super) struct Plan {
    /// Of 10,000 requests, how many are writes.
    pub(super) writes_per_10_000: u32,
    pub(super) serializable: bool,
    pub(super) keys: Keys,
    pub(super) values: Values,
    /// The longest wait for one answer.
    pub(super) request_timeout: Duration,
    pub(super) pace: Pace,
    /// Each number once in order, instead of random ones.
    pub(super) sequential: bool,
    pub(super) auth: Auth,
}

/// The keys of a load: prefix, then a number with leading zeros.
pub(super) struct Keys {
    prefix: Bytes,
    digits: usize,
    count: u64,
}

impl Keys {
    /// None if a key of that size has no room for prefix and number.
    pub(super) fn new(prefix: &str, size: usize, count: u64) -> Option<Keys> {
        let digits = size.checked_sub(prefix.len())?;
        let needed = (count - 1).checked_ilog10().map_or(1, |log| log as usize + 1);
        (digits >= needed).then(|| Keys {
            prefix: Bytes::copy_from_slice(prefix.as_bytes()),
            digits,
            count,
        })
    }

    pub(super) fn key(&self, mut number: u64) -> Bytes {
        let mut key = Vec::with_capacity(self.prefix.len() + self.digits);
        key.extend_from_slice(&self.prefix);
        key.resize(self.prefix.len() + self.digits, b'0');
        for digit in key[self.prefix.len()..].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        key.into()
    }
}

/// Values that do not compress and cost nothing: pieces of one random buffer.
pub(super) struct Values {
    payload: Bytes,
    size: usize,
}

impl Values {
    pub(super) fn new(size: usize) -> Values {
        let mut payload = vec![0; PAYLOAD_BYTES + size];
        rand::rng().fill(&mut payload[..]);
        Values {
            payload: payload.into(),
            size,
        }
    }

    fn value(&self) -> Bytes {
        let start = rand::random_range(0..PAYLOAD_BYTES);
        self.payload.slice(start..start + self.size)
    }
}

/// Who may send next: hands out the numbers of the requests.
pub(super) struct Pace {
    next: AtomicU64,
    total: u64,
    started: Instant,
    until: Option<Instant>,
    interval: Option<Duration>,
    stopped: AtomicBool,
}

impl Pace {
    /// Starts now; ends after so many requests or so much time.
    pub(super) fn start(total: u64, duration: Option<Duration>, rate: Option<u64>) -> Pace {
        let started = Instant::now();
        Pace {
            next: AtomicU64::new(0),
            total: if duration.is_some() { u64::MAX } else { total },
            started,
            until: duration.map(|duration| started + duration),
            interval: rate.map(|rate| Duration::from_secs(1) / u32::try_from(rate).unwrap_or(u32::MAX)),
            stopped: AtomicBool::new(false),
        }
    }

    /// Ends it before its time.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// The next request and when it is due; none when the load is over.
    pub(super) async fn next(&self) -> Option<(u64, Instant)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let stopped = self.stopped.load(Ordering::Relaxed);
        if stopped || number >= self.total || self.until.is_some_and(|until| now >= until) {
            return None;
        }
        let Some(interval) = self.interval else {
            return Some((number, now));
        };
        let due = self.started + Duration::from_nanos(interval.as_nanos() as u64 * number);
        if self.until.is_some_and(|until| due >= until) {
            return None;
        }
        sleep_until(due).await;
        Some((number, due))
    }
}

/// What the requests of one kind took.
#[derive(Clone)]
pub(super) struct Latencies {
    pub(super) histogram: Histogram<u32>,
    /// The histogram rounds; this does not.
    pub(super) max_us: u64,
}

impl Latencies {
    pub(super) fn new() -> Latencies {
        // The bounds are constants that the histogram accepts.
        #[allow(clippy::expect_used, reason = "constant arguments")]
        let histogram =
            Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS).expect("constant bounds are valid");
        Latencies { histogram, max_us: 0 }
    }

    pub(super) fn record(&mut self, latency: Duration) {
        let us = latency.as_micros() as u64;
        self.max_us = self.max_us.max(us);
        self.histogram.saturating_record(us);
    }

    pub(super) fn merge(&mut self, other: &Latencies) {
        self.max_us = self.max_us.max(other.max_us);
        // Fails only where a value is out of bounds, and all have the same.
        let _ = self.histogram.add(&other.histogram);
    }
}

/// What came of a load.
#[derive(Clone)]
pub(super) struct Results {
    pub(super) writes: Latencies,
    pub(super) reads: Latencies,
    pub(super) errors: BTreeMap<String, u64>,
    /// Reads of keys that do not exist.
    pub(super) not_found: u64,
}

impl Results {
    pub(super) fn new() -> Results {
        let (writes, reads) = (Latencies::new(), Latencies::new());
        Results {
            writes,
            reads,
            errors: BTreeMap::new(),
            not_found: 0,
        }
    }

    pub(super) fn merge(&mut self, other: &Results) {
        self.writes.merge(&other.writes);
        self.reads.merge(&other.reads);
        self.not_found += other.not_found;
        other
            .errors
            .iter()
            .for_each(|(kind, count)| self.count_errors(kind, *count));
    }

    pub(super) fn count_errors(&mut self, kind: &str, count: u64) {
        if let Some(known) = self.errors.get_mut(kind) {
            *known += count;
        } else {
            let kind = if self.errors.len() < ERROR_KINDS_MAX {
                kind
            } else {
                "other"
            };
            *self.errors.entry(kind.to_owned()).or_default() += count;
        }
    }
}

/// Sends requests until the load is over. `done` counts all that ended.
pub(super) async fn client(plan: Arc<Plan>, connection: Arc<Connection>, done: Arc<AtomicU64>) -> Results {
    let mut results = Results::new();
    while let Some((number, due)) = plan.pace.next().await {
        let is_write = plan.writes_per_10_000 > rand::random_range(0..10_000);
        let key = plan.keys.key(if plan.sequential {
            number
        } else {
            rand::random_range(0..plan.keys.count)
        });
        let answer = match timeout(plan.request_timeout, request(&plan, &connection, key, is_write)).await {
            Ok(answer) => answer,
            Err(_) => Err("timeout".to_owned()),
        };
        match answer {
            Ok(count) => {
                let latencies = if is_write {
                    &mut results.writes
                } else {
                    &mut results.reads
                };
                latencies.record(due.elapsed());
                results.not_found += u64::from(count == 0);
            }
            Err(kind) => {
                results.count_errors(&kind, 1);
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    results
}

/// One request; gives the number of keys read or written, or the kind of error.
async fn request(plan: &Plan, connection: &Connection, key: Bytes, is_write: bool) -> Result<i64, String> {
    let channel = connection
        .channel()
        .await
        .map_err(|error| kind_of(&error.into()))?;
    let deadline = Instant::now() + plan.request_timeout;
    let channel = plan
        .auth
        .sign(channel, deadline)
        .await
        .map_err(|failure| kind_of(&failure))?;
    let origin = channel.origin.clone();
    let mut kv = KvClient::with_origin(channel, origin).max_decoding_message_size(usize::MAX);
    if is_write {
        let request = PutRequest {
            key,
            value: plan.values.value(),
            ..Default::default()
        };
        kv.put(request).await.map(|_| 1)
    } else {
        let request = RangeRequest {
            key,
            serializable: plan.serializable,
            ..Default::default()
        };
        kv.range(request).await.map(|answer| answer.get_ref().count)
    }
    .map_err(|status| {
        let failure = status.into();
        // The next request gets a new token.
        plan.auth.is_outdated(&failure);
        kind_of(&failure)
    })
}

/// Errors are told apart by the server's words, but not by ours, which name ports and system errors.
pub(super) fn kind_of(failure: &Failure) -> String {
    match failure.kind {
        Kind::Unreachable => "unreachable".to_owned(),
        Kind::Lost if !failure.message.starts_with("etcdserver:") => "connection lost".to_owned(),
        _ => failure.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Keys, Pace, Values};

    #[test]
    fn keys_have_the_size_asked_for() {
        let keys = Keys::new("p/", 6, 10_000).unwrap();
        assert_eq!(&keys.key(0)[..], b"p/0000");
        assert_eq!(&keys.key(9_999)[..], b"p/9999");
        assert!(Keys::new("p/", 5, 10_000).is_none(), "9999 has no room");
        assert!(Keys::new("p/", 5, 1_000).is_some());
        assert!(Keys::new("long-prefix/", 5, 1).is_none());
        assert!(Keys::new("", 1, 1).is_some());
    }

    #[test]
    fn values_have_the_size_asked_for() {
        for size in [0, 1, 256] {
            assert_eq!(Values::new(size).value().len(), size);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pace_ends_and_keeps_its_rate() {
        let pace = Pace::start(3, None, Some(10));
        let mut due = Vec::new();
        while let Some((number, at)) = pace.next().await {
            due.push((number, at - pace.started));
        }
        assert_eq!(
            due,
            [0, 1, 2].map(|number| (number, Duration::from_millis(100 * number)))
        );
        let pace = Pace::start(u64::MAX, Some(Duration::from_secs(1)), Some(10));
        let mut count = 0;
        while pace.next().await.is_some() {
            count += 1;
        }
        assert_eq!(count, 10);
    }
}

//! The metrics of watches.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use crate::watch::HubStats;

/// Handles on them.
pub(in crate::api) struct Gauges {
    streams: Gauge,
    watches: Gauge,
    behind: Gauge,
    waiting: Gauge,
    events: Counter,
    fell_behind: Counter,
}

impl Gauges {
    pub(in crate::api) fn new() -> Gauges {
        describe_gauge!(
            "etcd_debugging_mvcc_watch_stream_total",
            "Streams of watches, and followers of keys inside the node."
        );
        describe_gauge!("etcd_debugging_mvcc_watcher_total", "Watches.");
        describe_gauge!(
            "etcd_debugging_mvcc_slow_watcher_total",
            "Watches that catch up from the store."
        );
        describe_gauge!(
            "quorate_watch_waiting_bytes",
            "Bytes of events that wait for slow readers."
        );
        describe_counter!("etcd_debugging_mvcc_events_total", "Events given out to watches.");
        describe_counter!(
            "quorate_watch_fell_behind_total",
            "How often a stream of watches was read too slowly and went on from the store."
        );
        Gauges {
            streams: gauge!("etcd_debugging_mvcc_watch_stream_total"),
            watches: gauge!("etcd_debugging_mvcc_watcher_total"),
            behind: gauge!("etcd_debugging_mvcc_slow_watcher_total"),
            waiting: gauge!("quorate_watch_waiting_bytes"),
            events: counter!("etcd_debugging_mvcc_events_total"),
            fell_behind: counter!("quorate_watch_fell_behind_total"),
        }
    }

    pub(in crate::api) fn set(&self, stats: &HubStats) {
        self.streams.set(stats.feeds as f64);
        self.watches.set(stats.watches as f64);
        self.behind.set(stats.behind as f64);
        self.waiting.set(stats.waiting_bytes as f64);
        self.events.absolute(stats.events);
        self.fell_behind.absolute(stats.fell_behind);
    }
}

//! The metrics of leases, counted as commands are applied: etcd's names, and on every member, not on the leader
//! alone.

use kv_core::{Outcome, Response};
use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};

const GRANTED: &str = "etcd_debugging_lease_granted_total";
const REVOKED: &str = "etcd_debugging_lease_revoked_total";
const RENEWED: &str = "etcd_debugging_lease_renewed_total";
const EXPIRED: &str = "etcd_debugging_server_lease_expired_total";
/// A histogram of seconds, whatever its name says.
pub const TTL: &str = "etcd_debugging_lease_ttl_total";

/// Texts for `/metrics`.
pub fn describe() {
    describe_counter!(GRANTED, "Leases that were made.");
    describe_counter!(
        REVOKED,
        "Leases that were ended, those whose time was over among them."
    );
    describe_counter!(RENEWED, "Renewals of leases.");
    describe_counter!(EXPIRED, "Leases that ended because their time was over.");
    describe_histogram!(TTL, "The TTLs that leases were made with, in seconds.");
}

/// Handles on them, made once the recorder is installed.
pub struct Counts {
    granted: Counter,
    revoked: Counter,
    renewed: Counter,
    expired: Counter,
    ttl: Histogram,
}

impl Counts {
    /// All at zero.
    pub fn new() -> Counts {
        Counts {
            granted: counter!(GRANTED),
            revoked: counter!(REVOKED),
            renewed: counter!(RENEWED),
            expired: counter!(EXPIRED),
            ttl: histogram!(TTL),
        }
    }

    /// Counts what was applied.
    pub fn see(&self, outcomes: &[Outcome]) {
        for response in outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok()) {
            match response {
                Response::LeaseGrant { ttl_s, .. } => {
                    self.granted.increment(1);
                    self.ttl.record(*ttl_s as f64);
                }
                Response::LeaseRevoke => self.revoked.increment(1),
                Response::LeaseRenew { ttls_s } => {
                    let renewed = ttls_s.iter().filter(|ttl_s| **ttl_s > 0);
                    self.renewed.increment(renewed.count() as u64);
                }
                Response::LeaseExpire { expired } => {
                    self.revoked.increment(expired.len() as u64);
                    self.expired.increment(expired.len() as u64);
                }
                _ => {}
            }
        }
    }
}

impl Default for Counts {
    fn default() -> Counts {
        Counts::new()
    }
}

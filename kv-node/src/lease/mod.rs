//! Leases on a running node: what time it is, renewals, and the end of leases. What a lease is, and which
//! keys go with it, is decided in `kv_core`.
//!
//! Promised: a lease ends no earlier than its TTL after the last renewal that was answered, whoever leads in
//! between, and however long nobody does; what remains of it survives a change of leader. Only a leader that
//! a quorum has just confirmed ends leases.

pub mod clock;
pub mod counts;
pub mod expire;
pub mod renew;

//! A run in slices of equal length: how many operations ended in each, and how long they took.

use quorate_checkers::history::{Outcome, Record, Request};

/// Slices of a timeline, at most.
const SLICES_MAX: u64 = 300;
/// The shortest slice: longer than most answers take.
const SLICE_NS_MIN: u64 = 100_000_000;

/// What happened in one slice.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Slice {
    /// Answered operations.
    pub(super) ok: u64,
    /// Refused ones.
    pub(super) failed: u64,
    /// Those whose outcome nobody knows.
    pub(super) unknown: u64,
    /// Half of the answered ones took no longer, in milliseconds.
    pub(super) p50_ms: f64,
    /// The slowest of them.
    pub(super) max_ms: f64,
}

/// A run in slices.
pub(super) struct Timeline {
    /// The run's length.
    pub(super) end_ns: u64,
    /// Length of a slice.
    pub(super) slice_ns: u64,
    /// The slices.
    pub(super) slices: Vec<Slice>,
}

impl Timeline {
    /// Cuts a history into slices; operations count where they end. What waits by intention (watches, locks) is left out.
    pub(super) fn new(history: &[Record]) -> Timeline {
        let waits = |record: &&Record| {
            !matches!(
                record.request,
                Request::Watch { .. } | Request::LockAcquire { .. }
            )
        };
        let end_ns = history
            .iter()
            .map(|record| record.end_ns)
            .max()
            .unwrap_or(0)
            .max(1);
        let slice_ns = end_ns.div_ceil(SLICES_MAX).max(SLICE_NS_MIN);
        let count = usize::try_from(end_ns / slice_ns + 1).unwrap_or(usize::MAX);
        let mut slices = vec![Slice::default(); count];
        let mut latencies = vec![Vec::new(); count];
        for record in history.iter().filter(waits) {
            let index = usize::try_from(record.end_ns / slice_ns).unwrap_or(usize::MAX);
            let slice = &mut slices[index];
            match record.outcome {
                Outcome::Ok(_) => {
                    slice.ok += 1;
                    latencies[index].push((record.end_ns - record.start_ns) as f64 / 1e6);
                }
                Outcome::Failed(_) => slice.failed += 1,
                Outcome::Unknown(_) => slice.unknown += 1,
            }
        }
        for (slice, latencies) in slices.iter_mut().zip(&latencies) {
            if let Some((p50_ms, max_ms)) = crate::gaps::middle_and_largest(latencies) {
                (slice.p50_ms, slice.max_ms) = (p50_ms, max_ms);
            }
        }
        Timeline {
            end_ns,
            slice_ns,
            slices,
        }
    }
}

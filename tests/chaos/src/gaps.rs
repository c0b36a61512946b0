//! How long nobody had a write acknowledged, fault by fault.

use quorate_checkers::history::{Op, Record, Reply, Request};
use serde::Serialize;

/// The longest time without an acknowledged write around one fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Gap {
    /// The last acknowledgement before it, in nanoseconds since the run began.
    pub(crate) from_ns: u64,
    /// The first one after it.
    pub(crate) to_ns: u64,
}

impl Gap {
    /// Its length in milliseconds.
    pub(crate) fn ms(self) -> f64 {
        (self.to_ns - self.from_ns) as f64 / 1e6
    }
}

/// Whether a record is a write that was acknowledged.
fn is_acknowledged_write(record: &Record) -> bool {
    let Some(answer) = record.answer() else {
        return false;
    };
    match (&record.request, &answer.reply) {
        (Request::Put { .. } | Request::SetAdd { .. }, _) => true,
        (_, Reply::Delete { deleted }) => *deleted > 0,
        (_, Reply::CompareAndSet { succeeded }) => *succeeded,
        (Request::Txn(txn), Reply::Txn(reply)) => {
            let branch = if reply.succeeded {
                &txn.then
            } else {
                &txn.otherwise
            };
            branch.iter().any(|op| matches!(op, Op::Put { .. }))
        }
        _ => false,
    }
}

/// When writes were acknowledged, in order.
pub(crate) fn acknowledgements(history: &[Record]) -> Vec<u64> {
    let mut times: Vec<u64> = history
        .iter()
        .filter(|record| is_acknowledged_write(record))
        .map(|record| record.end_ns)
        .collect();
    times.sort_unstable();
    times
}

/// The longest gap around each fault, by when faults began. What is acknowledged after the load has ended, when nobody
/// is expected to write, ends none.
pub(crate) fn around(begun: &[u64], acknowledged: &[u64], load_ended_ns: u64) -> Vec<Option<Gap>> {
    let ends = begun.iter().skip(1).copied().chain([load_ended_ns]);
    begun
        .iter()
        .zip(ends)
        .map(|(from_ns, to_ns)| longest(acknowledged, *from_ns, to_ns))
        .collect()
}

/// The longest gap that ends within a span of time; none if no write was acknowledged in it.
fn longest(acknowledged: &[u64], from_ns: u64, to_ns: u64) -> Option<Gap> {
    let first = acknowledged
        .partition_point(|time| *time <= from_ns)
        .saturating_sub(1);
    acknowledged[first..]
        .windows(2)
        .take_while(|pair| pair[1] <= to_ns)
        .map(|pair| Gap {
            from_ns: pair[0],
            to_ns: pair[1],
        })
        .max_by_key(|gap| gap.to_ns - gap.from_ns)
}

/// The middle one of some figures, and the largest.
pub(crate) fn middle_and_largest(figures: &[f64]) -> Option<(f64, f64)> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let largest = *sorted.last()?;
    Some((sorted[(sorted.len() - 1) / 2], largest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_counts_from_the_last_write_before_the_fault() {
        let acknowledged = [10, 20, 30, 90, 100, 300];
        let gap = |from, to| longest(&acknowledged, from, to).map(|gap| (gap.from_ns, gap.to_ns));
        assert_eq!(gap(35, 100), Some((30, 90)));
        assert_eq!(
            gap(95, 299),
            Some((90, 100)),
            "what ends later is the next fault's"
        );
        assert_eq!(gap(10, 20), Some((10, 20)));
        assert_eq!(gap(300, 400), None, "nothing was acknowledged any more");
        assert_eq!(gap(0, 5), None);
    }

    #[test]
    fn what_comes_after_the_load_ends_no_gap() {
        let acknowledged = [10, 20, 30, 90, 100, 9_000];
        let ms = |begun: &[u64]| {
            let gaps = around(begun, &acknowledged, 120);
            gaps.iter()
                .map(|gap| gap.map(|gap| gap.to_ns - gap.from_ns))
                .collect::<Vec<_>>()
        };
        assert_eq!(ms(&[15, 35, 95]), [Some(10), Some(60), Some(10)]);
        assert_eq!(ms(&[110]), [None]);
        assert_eq!(ms(&[]), []);
    }

    #[test]
    fn the_middle_of_an_even_number_is_the_lower_one() {
        assert_eq!(middle_and_largest(&[]), None);
        assert_eq!(middle_and_largest(&[3.0, 1.0, 4.0, 2.0]), Some((2.0, 4.0)));
    }
}

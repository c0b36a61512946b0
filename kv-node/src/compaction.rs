//! Compaction by itself, as etcd's `--auto-compaction-mode` and `--auto-compaction-retention` ask for it: what
//! is due is decided here without a clock; the leader proposes it.

use std::{collections::VecDeque, time::Duration};

use kv_core::{Command, Compact};
use tokio::time::Instant;

use crate::{node::Node, raft::leader::Leader};

/// What history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// That of so much time.
    Period(Duration),
    /// So many revisions.
    Revisions(i64),
}

/// How often revisions are counted, as in etcd.
const REVISIONS_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Compactions of long periods come at least this often, as in etcd.
const PERIOD_INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);
/// How often within an interval the revision is noted: what is kept is this much more exact.
const SAMPLES_PER_INTERVAL: u32 = 10;

impl Retention {
    /// Of etcd's two flags; `None`: nothing is compacted.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn parse(mode: &str, retention: &str) -> Result<Option<Retention>, String> {
        let kept = match mode {
            "periodic" => Retention::Period(parse_period(retention)?),
            "revision" => {
                let revisions = retention.parse::<i64>().ok().filter(|count| *count >= 0);
                Retention::Revisions(revisions.ok_or("a number of revisions is expected")?)
            }
            _ => return Err("the mode must be periodic or revision".to_owned()),
        };
        let is_off = kept == Retention::Revisions(0) || kept == Retention::Period(Duration::ZERO);
        Ok((!is_off).then_some(kept))
    }

    /// Time between two compactions.
    fn interval(self) -> Duration {
        match self {
            Retention::Period(period) => period.min(PERIOD_INTERVAL_MAX),
            Retention::Revisions(_) => REVISIONS_INTERVAL,
        }
    }

    /// Time between two looks at the revision.
    fn pause(self) -> Duration {
        self.interval() / SAMPLES_PER_INTERVAL
    }
}

/// A bare number of hours, or numbers with units, as Go writes durations.
fn parse_period(text: &str) -> Result<Duration, String> {
    let wrong = || "hours, or a time like 72h, 1h30m or 90s, are expected".to_owned();
    if let Ok(hours) = text.parse::<u32>() {
        return Ok(Duration::from_secs(u64::from(hours) * 3600));
    }
    let (mut rest, mut period) = (text, Duration::ZERO);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, units) = rest.split_at(digits);
        let number = number.parse::<u32>().map_err(|_| wrong())?;
        let (unit_ms, length) = match units {
            _ if units.starts_with("ms") => (1, 2),
            _ if units.starts_with('s') => (1000, 1),
            _ if units.starts_with('m') => (60_000, 1),
            _ if units.starts_with('h') => (3_600_000, 1),
            _ => return Err(wrong()),
        };
        period += Duration::from_millis(u64::from(number) * unit_ms);
        rest = &units[length..];
    }
    Ok(period)
}

/// Decides what to compact from the revisions that it is shown.
#[derive(Debug)]
struct Compactor {
    retention: Retention,
    /// Revisions by the time at which they were current, the oldest first; no more than cover the retention.
    seen: VecDeque<(Duration, i64)>,
    /// When it last said that something is due.
    last: Duration,
}

impl Compactor {
    fn new(retention: Retention) -> Compactor {
        Compactor {
            retention,
            seen: VecDeque::new(),
            last: Duration::ZERO,
        }
    }

    /// Notes the current revision at a time that never goes back, and says which revision to compact to now.
    fn see(&mut self, now: Duration, revision: i64) -> Option<i64> {
        let due = now.saturating_sub(self.last) >= self.retention.interval();
        let keep_from = match self.retention {
            Retention::Revisions(kept) => Some(revision - kept),
            Retention::Period(period) => {
                self.seen.push_back((now, revision));
                let old = now.checked_sub(period)?;
                // The newest revision that was current when the period began, and nothing before it.
                while self.seen.get(1).is_some_and(|(at, _)| *at <= old) {
                    self.seen.pop_front();
                }
                self.seen
                    .front()
                    .filter(|(at, _)| *at <= old)
                    .map(|(_, revision)| *revision)
            }
        };
        let target = keep_from.filter(|target| due && *target > 0)?;
        self.last = now;
        Some(target)
    }
}

/// Compacts while this node leads. Every node looks at the revisions, so that a new leader knows the past.
pub(crate) async fn run(node: Node, retention: Retention) {
    let (mut compactor, started) = (Compactor::new(retention), Instant::now());
    let mut last = 0;
    loop {
        tokio::time::sleep(retention.pause()).await;
        let revision = node.store().revision();
        let Some(target) = compactor.see(started.elapsed(), revision) else {
            continue;
        };
        if target <= last.max(node.store().compacted()) || node.inner.leadership.current() != Leader::Here {
            continue;
        }
        let command = Command::Compact(Compact { revision: target });
        match node
            .propose(command, Instant::now() + node.limits().request_timeout)
            .await
        {
            Ok(outcome) => {
                last = target;
                tracing::info!(revision = target, result = ?outcome.result, "compacted by itself");
            }
            Err(error) => tracing::warn!(%error, revision = target, "not compacted by itself"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn reads_etcds_flags() {
        let hours = |hours| Ok(Some(Retention::Period(60 * MINUTE * hours)));
        assert_eq!(Retention::parse("periodic", "1"), hours(1));
        assert_eq!(Retention::parse("periodic", "72h"), hours(72));
        assert_eq!(
            Retention::parse("periodic", "1h30m"),
            Ok(Some(Retention::Period(90 * MINUTE)))
        );
        assert_eq!(
            Retention::parse("periodic", "1500ms"),
            Ok(Some(Retention::Period(Duration::from_millis(1500))))
        );
        assert_eq!(
            Retention::parse("revision", "1000"),
            Ok(Some(Retention::Revisions(1000)))
        );
        for (mode, off) in [("periodic", "0"), ("periodic", "0s"), ("revision", "0")] {
            assert_eq!(Retention::parse(mode, off), Ok(None));
        }
        for (mode, wrong) in [
            ("periodic", ""),
            ("periodic", "1x"),
            ("periodic", "h"),
            ("periodic", "-1"),
            ("revision", "1h"),
            ("revision", "-1"),
            ("other", "1"),
        ] {
            assert!(Retention::parse(mode, wrong).is_err(), "{mode} {wrong}");
        }
    }

    /// Revision n is written in minute n.
    fn compactions(retention: Retention, minutes: u32) -> Vec<(u32, i64)> {
        let mut compactor = Compactor::new(retention);
        let see = |minute: u32| Some((minute, compactor.see(MINUTE * minute, i64::from(minute))?));
        (1..=minutes).filter_map(see).collect()
    }

    #[test]
    fn keeps_a_period_of_history() {
        let short = compactions(Retention::Period(30 * MINUTE), 120);
        assert_eq!(short, [(31, 1), (61, 31), (91, 61)]);
        // Long periods are compacted every hour.
        let long = compactions(Retention::Period(180 * MINUTE), 400);
        assert_eq!(long, [(181, 1), (241, 61), (301, 121), (361, 181)]);
    }

    #[test]
    fn keeps_a_number_of_revisions() {
        assert_eq!(
            compactions(Retention::Revisions(12), 25),
            [(13, 1), (18, 6), (23, 11)]
        );
    }

    #[test]
    fn remembers_no_more_than_the_period() {
        let mut compactor = Compactor::new(Retention::Period(30 * MINUTE));
        for minute in 1..10_000 {
            compactor.see(MINUTE * minute, i64::from(minute));
            assert!(compactor.seen.len() <= 32);
        }
    }
}

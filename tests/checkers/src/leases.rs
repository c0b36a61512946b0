//! No lease ends early: not before the time that the last grant or renewal gave it, counted from when that was asked for.

use std::collections::BTreeMap;

use crate::history::{Outcome, Record, Reply, Request};
use crate::revisions::{Known, Replayed};
use crate::{Check, Verdict};

const NS_PER_S: u64 = 1_000_000_000;

/// What is known of one lease.
#[derive(Default)]
pub(crate) struct Life<'a> {
    /// It lives until then at least, and the record that says so.
    until: Option<(u64, &'a Record)>,
    /// When it may have been revoked at the earliest.
    revoked_ns: Option<u64>,
    /// When somebody first knew that it was over, and how.
    over: Option<(u64, String)>,
}

/// The leases of a history.
pub(crate) fn lives(history: &[Record]) -> BTreeMap<i64, Life<'_>> {
    let mut lives: BTreeMap<i64, Life<'_>> = BTreeMap::new();
    for record in history {
        match (&record.request, &record.outcome) {
            (Request::LeaseGrant { lease, .. } | Request::LeaseKeepAlive { lease }, Outcome::Ok(answer)) => {
                if let Reply::Lease { ttl_s } = answer.reply {
                    lives.entry(*lease).or_default().heard(record, ttl_s);
                }
            }
            (Request::LeaseRevoke { lease }, Outcome::Ok(_) | Outcome::Unknown(_)) => {
                let life = lives.entry(*lease).or_default();
                life.revoked_ns = Some(life.revoked_ns.unwrap_or(u64::MAX).min(record.start_ns));
            }
            _ => {}
        }
    }
    lives
}

impl<'a> Life<'a> {
    /// Until when it was certainly there.
    pub(crate) fn certain_until_ns(&self) -> u64 {
        let until_ns = self.until.map_or(0, |(until_ns, _)| until_ns);
        until_ns.min(self.revoked_ns.unwrap_or(u64::MAX))
    }

    fn heard(&mut self, record: &'a Record, ttl_s: u64) {
        if ttl_s == 0 {
            self.ended(record.end_ns, || record.to_string());
            return;
        }
        let until_ns = record.start_ns + ttl_s * NS_PER_S;
        if self.until.is_none_or(|(longest_ns, _)| longest_ns < until_ns) {
            self.until = Some((until_ns, record));
        }
    }

    fn ended(&mut self, at_ns: u64, how: impl FnOnce() -> String) {
        if self.over.as_ref().is_none_or(|(first_ns, _)| at_ns < *first_ns) {
            self.over = Some((at_ns, how()));
        }
    }

    fn verdict(&self, lease: i64) -> Verdict {
        let (Some((until_ns, granted)), Some((over_ns, how))) = (self.until, &self.over) else {
            return Verdict::Ok;
        };
        if over_ns >= &until_ns || self.revoked_ns.is_some_and(|revoked_ns| revoked_ns < *over_ns) {
            return Verdict::Ok;
        }
        Verdict::Violation {
            explanation: format!(
                "lease {lease:x} was over at {:.6} s, {:.6} s early:\n{how}\n{granted}",
                *over_ns as f64 / 1e9,
                (until_ns - over_ns) as f64 / 1e9
            ),
        }
    }
}

pub(crate) fn check(history: &[Record], known: &Known, replayed: Option<&Replayed<'_>>) -> Option<Check> {
    let mut lives = lives(history);
    let granted = lives.values().filter(|life| life.until.is_some()).count() as u64;
    let verdict = |lives: &BTreeMap<i64, Life<'_>>| {
        Verdict::worst(lives.iter().map(|(lease, life)| life.verdict(*lease)))
    };
    let mut verdicts = vec![verdict(&lives)];
    if let Some(replayed) = replayed {
        for &(lease, revision) in &replayed.lease_ends {
            if let (Some(life), Some(at_ns)) = (lives.get_mut(&lease), known.since(revision)) {
                life.ended(at_ns, || {
                    format!("its keys were removed at revision {revision}, which was known by then")
                });
            }
        }
        verdicts.push(match verdict(&lives) {
            Verdict::Violation { explanation } => replayed.wrong(explanation),
            other => other,
        });
    }
    (granted > 0).then(|| Check {
        checker: "leases never end early".into(),
        checked: granted,
        of: "leases".into(),
        verdict: Verdict::worst(verdicts),
    })
}

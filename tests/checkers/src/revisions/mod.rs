//! Strict serializability: every write transaction has a revision, and the order of revisions explains every answer and
//! agrees with real time.

mod apart;
mod known;
mod makers;
mod names;
mod replay;
mod store;
mod told;

pub(crate) use known::Known;
pub(crate) use names::{Id, Names};
pub(crate) use replay::Replayed;
pub(crate) use store::Change;

use crate::call::Said;
use crate::history::Record;
use crate::{Check, Settings, Verdict};
use replay::{Failure, Replay};
use told::Told;

/// What is found out of the revisions of a history.
pub(crate) struct Revisions<'a> {
    pub(crate) checks: Vec<Check>,
    /// None where no order explains the answers.
    pub(crate) replayed: Option<Replayed<'a>>,
}

pub(crate) fn check<'a>(
    history: &'a [Record],
    names: &'a Names,
    known: &Known,
    settings: &Settings,
) -> Revisions<'a> {
    let past = |record: &Record| record.request.is_serializable() || record.request.as_of().is_some();
    let count = |of_past: bool| {
        history
            .iter()
            .filter(|record| past(record) == of_past && Said::of(record).is_some())
            .count() as u64
    };
    let (mut order, mut past_reads) = (Verdict::Ok, Verdict::Ok);
    let mut replayed = None;
    match replay(history, names, known, settings, &past) {
        Ok((all, past_failure)) => {
            replayed = Some(all);
            past_reads = past_failure.map_or(Verdict::Ok, Verdict::from);
        }
        Err(failure) => order = failure.into(),
    }
    let mut checks = Vec::new();
    if count(false) > 0 {
        checks.push(Check {
            checker: "transactions are strictly serializable".into(),
            checked: count(false),
            of: "operations".into(),
            verdict: order,
        });
    }
    if count(true) > 0 {
        checks.push(Check {
            checker: "serializable reads and reads of old revisions see what was".into(),
            checked: count(true),
            of: "reads".into(),
            verdict: past_reads,
        });
    }
    Revisions { checks, replayed }
}

/// The history replayed, and what is wrong with the reads of the past where that goes only without them.
fn replay<'a>(
    history: &'a [Record],
    names: &'a Names,
    known: &Known,
    settings: &Settings,
    past: &impl Fn(&Record) -> bool,
) -> Result<(Replayed<'a>, Option<Failure>), Failure> {
    known::real_time(history, known).map_err(Failure::Violation)?;
    let writers = known::writers(history).map_err(Failure::Violation)?;
    let mut replay = Replay {
        history,
        names,
        known,
        writers: &writers,
        strangers: settings.strangers,
        in_line: true,
        in_time: true,
        told: Told::of(history, names),
    };
    let doubt = match replay.run(|_| true) {
        Ok(replayed) => return Ok((replayed, None)),
        Err(Failure::Violation(_)) => None,
        Err(Failure::Undecided(why)) => Some(why),
    };
    // Whether locks were given in turn, leases lasted, and watches told what was, is for their own checkers.
    (replay.in_line, replay.in_time, replay.told) = (false, false, Told::default());
    let (replayed, failure) = match replay.run(|_| true) {
        Ok(replayed) => (replayed, None),
        Err(failure) => (replay.run(|record| !past(record))?, Some(failure)),
    };
    Ok((Replayed { doubt, ..replayed }, failure))
}

impl From<Failure> for Verdict {
    fn from(failure: Failure) -> Verdict {
        match failure {
            Failure::Violation(explanation) => Verdict::Violation { explanation },
            Failure::Undecided(why) => Verdict::Undecided { why },
        }
    }
}

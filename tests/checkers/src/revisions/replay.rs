//! The history once more, revision by revision, on a simple model.
//!
//! Every acknowledged write has a revision, so there is nothing to search: it is executed there, and every read where it
//! says that it was. What remains are revisions that nobody claims. Whoever may have made one is tried (an unknown
//! outcome, the end of a lease); if nothing later contradicts, it was that one, and what is left over never happened.

use std::collections::{HashMap, HashSet};
use std::ops::{Range, RangeInclusive};

use super::apart::Apart;
use super::known::{self, Known, Trace};
use super::makers::{self, Maker, Makers};
use super::names::{Id, Names};
use super::store::{Change, Difference, Store};
use super::told::{Contradiction, Told};
use crate::call::{Call, Said, Span};
use crate::history::{Record, Reply, Request};
use crate::report::Verdict;

/// How many revisions may be replayed again after the first that nobody explains, for each of the history and at least.
const AGAIN_PER_REVISION_MAX: u64 = 10;
const AGAIN_MIN: u64 = 200_000;

/// How the history went.
pub(crate) struct Replayed<'a> {
    /// Every change, in the order of revisions.
    pub(crate) changes: Vec<Change<'a>>,
    /// The leases whose end made a revision.
    pub(crate) lease_ends: Vec<(i64, u64)>,
    /// How many unclaimed revisions could be explained in other ways as well, with nothing seen of them.
    pub(crate) guesses: u64,
    /// Why it is not known whether there is an order in which also locks were given in turn and leases lasted.
    pub(super) doubt: Option<String>,
}

impl Replayed<'_> {
    /// What to make of something wrong with a lock or a lease in this order: in another it may be right.
    pub(crate) fn wrong(&self, explanation: String) -> Verdict {
        match &self.doubt {
            None => Verdict::Violation { explanation },
            Some(why) => Verdict::Undecided {
                why: format!("{explanation}\n(unless it was otherwise: {why})"),
            },
        }
    }
}

/// Why there is none.
pub(super) enum Failure {
    Violation(String),
    Undecided(String),
}

/// What the replay needs.
pub(super) struct Replay<'r, 'a> {
    pub(super) history: &'a [Record],
    pub(super) names: &'a Names,
    pub(super) known: &'r Known,
    pub(super) writers: &'r HashMap<u64, usize>,
    pub(super) strangers: bool,
    /// Whether who was given a lock must have been the first in its line.
    pub(super) in_line: bool,
    /// Whether a lease ends no earlier than it may.
    pub(super) in_time: bool,
    /// What watches say of what happened.
    pub(super) told: Told<'a>,
}

impl<'a> Replay<'_, 'a> {
    /// With the reads that `include` says.
    pub(super) fn run(&self, include: impl Fn(&Record) -> bool) -> Result<Replayed<'a>, Failure> {
        let reads = reads(self.history, include);
        let traces = known::traces(self.history, self.writers);
        let base = base(self.writers, &traces, self.history);
        let failure = match self.run_from(base + 1, base, reads.clone(), traces.clone()) {
            Ok(replayed) => return Ok(replayed),
            Err(failure) => failure,
        };
        // Nobody may have heard of writes before all others, but what they did may be met later.
        let unheard = unheard_before(base, self.history, self.known);
        if unheard == 0 {
            return Err(failure);
        }
        match (
            self.run_from(base.saturating_sub(unheard) + 1, base, reads, traces),
            failure,
        ) {
            (Ok(replayed), _) => Ok(replayed),
            (Err(Failure::Undecided(_)), Failure::Violation(why)) => Err(Failure::Violation(format!(
                "{why}\n(unless writes that nobody heard of came before revision {base}: too many ways to tell)"
            ))),
            (Err(_), failure) => Err(failure),
        }
    }

    /// From a revision on. Those up to `base` may be of strangers.
    fn run_from(
        &self,
        first: u64,
        base: u64,
        reads: Vec<(u64, usize)>,
        traces: HashMap<u64, Vec<Trace<'a>>>,
    ) -> Result<Replayed<'a>, Failure> {
        let last = self.known.last().max(traces.keys().copied().max().unwrap_or(0));
        let mut run = Run {
            replay: self,
            makers: Makers::of(self.history, self.known, &traces, self.in_time),
            strangers_until: if self.strangers { u64::MAX } else { base },
            reads,
            traces,
            store: Store::new(self.names),
            made: Vec::new(),
            used: HashSet::new(),
            choices: Vec::new(),
            apart: Apart::of(self.history, self.names),
            wrong: HashSet::new(),
            again: 0,
            again_max: AGAIN_MIN.max((last + 1 - first) * AGAIN_PER_REVISION_MAX),
            furthest: None,
        };
        run.read_before(first)
            .map_err(|wrong| Failure::Violation(wrong.why))?;
        run.replay(first..=last)?;
        Ok(Replayed {
            lease_ends: run.lease_ends(),
            guesses: run
                .choices
                .iter()
                .filter(|choice| !run.traces.contains_key(&choice.revision))
                .count() as u64,
            changes: run.store.changes,
            doubt: None,
        })
    }
}

/// All answered operations that say what was there at a revision, by that revision: those that changed nothing, and
/// those about locks and leases.
fn reads(history: &[Record], include: impl Fn(&Record) -> bool) -> Vec<(u64, usize)> {
    let mut reads: Vec<(u64, usize)> = Vec::new();
    for (index, record) in history.iter().enumerate() {
        let Some(answer) = record.answer() else { continue };
        let says = match Said::of(record) {
            Some(said) => !said.wrote() && include(record),
            None => Remains::of(record).is_some(),
        };
        if says {
            reads.push((record.request.as_of().unwrap_or(answer.revision), index));
        }
    }
    reads.sort_unstable();
    reads
}

/// What an answer about a lock or a lease says of the state at its revision.
enum Remains<'a> {
    /// The owner's key of a lock is there since this revision, the oldest of the lock's.
    Held(&'a str, &'a str, u64),
    /// The owner's key is not there.
    Free(&'a str),
    /// Nothing is attached to a lease that was revoked.
    Nothing(i64),
}

impl<'a> Remains<'a> {
    fn of(record: &'a Record) -> Option<Remains<'a>> {
        match (&record.request, &record.answer()?.reply) {
            (Request::LockAcquire { name, .. }, Reply::Lock { key, fencing }) => {
                Some(Remains::Held(name, key, *fencing))
            }
            (Request::LockRelease { key, .. }, Reply::LockReleased) => Some(Remains::Free(key)),
            (Request::LeaseRevoke { lease }, Reply::LeaseRevoked) => Some(Remains::Nothing(*lease)),
            _ => None,
        }
    }
}

/// The revision before everything that the history knows of. The keys of the run are absent then, unless a write came
/// before of which nobody heard.
fn base(writers: &HashMap<u64, usize>, traces: &HashMap<u64, Vec<Trace<'_>>>, history: &[Record]) -> u64 {
    let made = writers.keys().chain(traces.keys()).map(|revision| revision - 1);
    let read = history
        .iter()
        .filter(|record| record.request.as_of().is_none())
        .filter_map(|record| {
            Said::of(record)
                .and(record.answer())
                .map(|answer| answer.revision)
        });
    made.min().into_iter().chain(read.min()).min().unwrap_or(0)
}

/// How many revisions up to `base`, at most, may be of operations of which nobody heard.
fn unheard_before(base: u64, history: &[Record], known: &Known) -> u64 {
    let unheard = |record: &&Record| record.is_unknown() && known.before(record.start_ns) < base;
    let made = |record: &Record| match &record.request {
        // Its key is removed again by the end of the attempt, or of the lease.
        Request::LockAcquire { .. } | Request::Put { lease: Some(_), .. } => 2,
        request => u64::from(Call::of(request).is_some_and(|call| call.may_write())),
    };
    history.iter().filter(unheard).map(made).sum()
}

/// A revision that several may have made.
struct Choice {
    revision: u64,
    /// How many changes there were before it.
    changes: usize,
    /// Those that were not tried yet, the next one last.
    others: Vec<Maker>,
}

struct Run<'r, 'a> {
    replay: &'r Replay<'r, 'a>,
    makers: Makers<'a>,
    /// The last revision that may be of somebody who is not in the history.
    strangers_until: u64,
    reads: Vec<(u64, usize)>,
    traces: HashMap<u64, Vec<Trace<'a>>>,
    store: Store<'a>,
    made: Vec<(u64, Maker)>,
    used: HashSet<Maker>,
    choices: Vec<Choice>,
    apart: Apart,
    /// The groups of the keys that something was wrong with; none stands for any.
    wrong: HashSet<Option<Id>>,
    /// How many revisions were replayed since something was wrong first.
    again: u64,
    again_max: u64,
    furthest: Option<(u64, String)>,
}

/// What is wrong with an order.
struct Wrong {
    why: String,
    /// The keys that it is about; none if it could be any.
    keys: Vec<Range<Id>>,
}

impl<'a> Run<'_, 'a> {
    /// Replays these revisions.
    fn replay(&mut self, revisions: RangeInclusive<u64>) -> Result<(), Failure> {
        let mut revision = *revisions.start();
        while revisions.contains(&revision) {
            let made = match self.replay.writers.get(&revision) {
                Some(&writer) => self.write(writer, revision),
                None => self.choose(revision),
            };
            self.again += u64::from(self.furthest.is_some());
            match made {
                Ok(()) => revision += 1,
                Err(wrong) => {
                    self.note(revision, wrong);
                    revision = self.choose_again()? + 1;
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, revision: u64, wrong: Wrong) {
        if wrong.keys.is_empty() {
            self.wrong.insert(None);
        }
        self.wrong.extend(
            wrong
                .keys
                .into_iter()
                .flatten()
                .map(|id| Some(self.apart.group(id))),
        );
        if self
            .furthest
            .as_ref()
            .is_none_or(|(furthest, _)| *furthest < revision)
        {
            self.furthest = Some((revision, wrong.why));
        }
    }

    /// Executes an acknowledged write.
    fn write(&mut self, writer: usize, revision: u64) -> Result<(), Wrong> {
        let record = &self.replay.history[writer];
        let (Some(call), Some(said)) = (Call::of(&record.request), Said::of(record)) else {
            return Ok(());
        };
        let done_from = self.store.changes.len();
        let differs = self
            .store
            .execute(&call, revision)
            .differs(&said, self.replay.names);
        if let Some(differs) = differs {
            return Err(self.wrong(record, &call, differs, "before", revision, done_from));
        }
        self.seen(revision, done_from)
    }

    /// Holds all that was seen of this revision against its changes, which begin there, and the state.
    fn seen(&mut self, revision: u64, done_from: usize) -> Result<(), Wrong> {
        let names = self.replay.names;
        let changes = &self.store.changes[done_from..];
        if let Some(Contradiction { key, why }) = self.replay.told.contradiction(revision, changes, names) {
            let keys: Vec<_> = std::iter::once(key..key + 1).collect();
            let why = format!("{why}{}", self.last_changes(&keys, done_from));
            return Err(Wrong { why, keys });
        }
        self.read(revision)
    }

    /// Holds all that was read at this revision against the state.
    fn read(&mut self, revision: u64) -> Result<(), Wrong> {
        let first = self.reads.partition_point(|(at, _)| *at < revision);
        for place in first..self.reads.len() {
            let (at, index) = self.reads[place];
            if at > revision {
                break;
            }
            self.read_one(index, revision)?;
        }
        Ok(())
    }

    fn read_one(&mut self, index: usize, revision: u64) -> Result<(), Wrong> {
        let record = &self.replay.history[index];
        let (Some(call), Some(said)) = (Call::of(&record.request), Said::of(record)) else {
            return Remains::of(record).map_or(Ok(()), |remains| self.remains(record, &remains, revision));
        };
        let done_from = self.store.changes.len();
        let differs = self
            .store
            .execute(&call, revision)
            .differs(&said, self.replay.names);
        self.store.undo(done_from);
        differs.map_or(Ok(()), |differs| {
            Err(self.wrong(record, &call, differs, "after", revision, done_from))
        })
    }

    /// Holds what an answer about a lock or a lease says against the state.
    fn remains(&self, record: &Record, remains: &Remains<'_>, revision: u64) -> Result<(), Wrong> {
        let names = self.replay.names;
        let (fits, keys) = match *remains {
            Remains::Held(lock, key, since) => {
                let line = names.ids(Span::Prefix(&format!("{lock}/")));
                let is_first = !self.replay.in_line || self.store.oldest(line.clone()) == Some(since);
                (self.store.created(key) == since && is_first, vec![line])
            }
            Remains::Free(key) => (self.store.is_absent(key), vec![names.ids(Span::Key(key))]),
            Remains::Nothing(lease) => {
                let attached = self.store.attached(lease);
                let keys = attached.iter().map(|id| *id..id + 1).collect();
                (attached.is_empty(), keys)
            }
        };
        if fits {
            return Ok(());
        }
        let why = format!(
            "after revision {revision} that was not so:\n{record}{}",
            self.last_changes(&keys, self.store.changes.len())
        );
        Err(Wrong { why, keys })
    }

    fn wrong(
        &self,
        record: &Record,
        call: &Call<'_>,
        differs: Difference,
        when: &str,
        revision: u64,
        changes: usize,
    ) -> Wrong {
        let keys = differs.key.map_or_else(
            || call.keys(self.replay.names),
            |id| std::iter::once(id..id + 1).collect(),
        );
        let why = format!(
            "{when} revision {revision} {}, but the answer was another:\n{record}{}",
            differs.text,
            self.last_changes(&keys, changes)
        );
        Wrong { why, keys }
    }

    /// What was read before anything of the history happened.
    fn read_before(&mut self, first: u64) -> Result<(), Wrong> {
        let count = self.reads.partition_point(|(at, _)| *at < first);
        (0..count).try_for_each(|place| self.read_one(self.reads[place].1, first - 1))
    }

    /// Finds somebody for a revision that nobody claims.
    fn choose(&mut self, revision: u64) -> Result<(), Wrong> {
        let traces = self.traces.get(&revision).map_or(&[][..], Vec::as_slice);
        let by_ns = self.replay.known.since(revision);
        let mut makers = self.makers.of_revision(revision, by_ns, traces, &self.store);
        if traces.is_empty() && revision <= self.strangers_until {
            makers.insert(0, Maker::Stranger(revision));
        }
        makers.retain(|maker| !self.used.contains(maker));
        makers.reverse();
        let changes = self.store.changes.len();
        self.try_each(revision, changes, makers)
    }

    /// Takes the first of these, from the end, that shows what was seen and what was read.
    fn try_each(&mut self, revision: u64, changes: usize, mut others: Vec<Maker>) -> Result<(), Wrong> {
        let mut read_wrong = None;
        while let Some(maker) = others.pop() {
            if self.makes(maker, revision, changes) {
                match self.seen(revision, changes) {
                    Ok(()) => {
                        self.drop_equals(maker, revision, changes, &mut others);
                        self.made.push((revision, maker));
                        if maker.once() {
                            self.used.insert(maker);
                        }
                        if !others.is_empty() {
                            self.choices.push(Choice {
                                revision,
                                changes,
                                others,
                            });
                        }
                        return Ok(());
                    }
                    Err(wrong) => read_wrong = Some(wrong),
                }
            }
            self.store.undo(changes);
        }
        let mut wrong = self.nobody(revision);
        if let Some(read) = read_wrong {
            wrong.why = read.why;
            if !wrong.keys.is_empty() {
                wrong.keys.extend(read.keys);
            }
        }
        Err(wrong)
    }

    /// Lets a maker make a revision; whether that shows what was seen of it.
    fn makes(&mut self, maker: Maker, revision: u64, changes: usize) -> bool {
        self.makers.make(maker, revision, &mut self.store);
        let traces = self.traces.get(&revision).map_or(&[][..], Vec::as_slice);
        let changed = self.store.changes.len() > changes || matches!(maker, Maker::Stranger(_));
        changed && makers::shows(&self.store, changes, traces, self.replay.names)
    }

    /// Forgets those that could not have made what was seen, or would have made the same as the one that was taken.
    fn drop_equals(&mut self, taken: Maker, revision: u64, changes: usize, others: &mut Vec<Maker>) {
        let made = self.store.take_back(changes);
        others.retain(|&other| {
            let possible = self.makes(other, revision, changes);
            let same = self.store.changes[changes..] == made[..];
            self.store.undo(changes);
            possible && !(same && self.makers.as_good(taken, other))
        });
        self.makers.make(taken, revision, &mut self.store);
    }

    /// Goes back to the last choice that may have to do with what is wrong, and decides otherwise; the revision that is
    /// made now.
    fn choose_again(&mut self) -> Result<u64, Failure> {
        while let Some(choice) = self.choices.pop() {
            if self.again > self.again_max {
                let why = self.furthest.take().map_or_else(String::new, |(_, why)| why);
                return Err(Failure::Undecided(format!(
                    "too many ways to explain the revisions that nobody claims; a watch over all keys in the history \
                     would tell what they did\n{why}"
                )));
            }
            while let Some((_, maker)) = self.made.pop_if(|(revision, _)| *revision >= choice.revision) {
                self.used.remove(&maker);
            }
            let concerned = self.concerned(&choice);
            self.store.undo(choice.changes);
            if concerned {
                match self.try_each(choice.revision, choice.changes, choice.others) {
                    Ok(()) => return Ok(choice.revision),
                    Err(wrong) => self.note(choice.revision, wrong),
                }
            }
        }
        let why = self.furthest.take().map_or_else(String::new, |(_, why)| why);
        Err(Failure::Violation(why))
    }

    /// Whether a choice concerns keys that something is wrong with.
    fn concerned(&self, choice: &Choice) -> bool {
        let of_any = !self.traces.contains_key(&choice.revision) || self.wrong.contains(&None);
        let made = self.store.changes[choice.changes..]
            .iter()
            .take_while(|change| change.revision == choice.revision);
        of_any
            || made
                .into_iter()
                .any(|change| self.wrong.contains(&Some(self.apart.group(change.key))))
    }

    fn nobody(&self, revision: u64) -> Wrong {
        let traces = self.traces.get(&revision).map_or(&[][..], Vec::as_slice);
        let mut why = format!("nothing that was asked for can have made revision {revision}");
        for Trace { key, put } in traces {
            match put {
                Some(value) => {
                    why += &format!("\nin it {key} = {value:?} was put; {}", self.makers.origin(value))
                }
                None => why += &format!("\nin it {key} was deleted"),
            }
        }
        let keys = traces
            .iter()
            .map(|trace| self.replay.names.ids(Span::Key(trace.key)))
            .collect();
        Wrong { why, keys }
    }

    /// The last change, before it, of some of these keys: for explanations.
    fn last_changes(&self, keys: &[Range<Id>], before: usize) -> String {
        const SHOWN_MAX: usize = 4;
        let names = self.replay.names;
        let mut text = String::new();
        let mut shown = HashSet::new();
        for change in self.store.changes[..before].iter().rev() {
            if shown.len() == SHOWN_MAX {
                break;
            }
            if !keys.iter().any(|keys| keys.contains(&change.key)) || !shown.insert(change.key) {
                continue;
            }
            let writer = self.replay.writers.get(&change.revision);
            let who = writer.map_or_else(
                || {
                    self.made
                        .iter()
                        .find(|(at, _)| *at == change.revision)
                        .map(|(_, maker)| self.who(*maker))
                },
                |writer| Some(self.replay.history[*writer].to_string()),
            );
            text += &format!(
                "\n{} was changed last at revision {} by: {}",
                names.name(change.key),
                change.revision,
                who.unwrap_or_default()
            );
        }
        text
    }

    fn who(&self, maker: Maker) -> String {
        match maker {
            Maker::Write(index) | Maker::Join(index) | Maker::Leave(index) => {
                self.replay.history[index].to_string()
            }
            Maker::LeaseEnd(lease) => format!("the end of lease {lease:x}"),
            Maker::Stranger(_) => "a stranger".into(),
        }
    }

    fn lease_ends(&self) -> Vec<(i64, u64)> {
        let lease = |(revision, maker): &(u64, Maker)| match maker {
            Maker::LeaseEnd(lease) => Some((*lease, *revision)),
            _ => None,
        };
        self.made.iter().filter_map(lease).collect()
    }
}

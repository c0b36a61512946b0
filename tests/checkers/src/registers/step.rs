//! What an operation requires of a register, and what it makes of it.

use std::collections::{HashMap, HashSet};

use crate::history::{Keys, Op, Outcome, Record, Reply, Request};

/// A value of a register by its number.
pub(super) type Value = u32;

/// The number of "there is nothing".
pub(super) const ABSENT: Value = 0;

/// What must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Before {
    Any,
    Is(Value),
    IsNot(Value),
}

/// One operation on a register, at one moment between the two times.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// Its place in the history.
    pub(super) record: usize,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    /// Whether it took effect; otherwise it may have, at any time after its start.
    pub(super) certain: bool,
    pub(super) before: Before,
    pub(super) after: Option<Value>,
    /// Where it likely stands among the others: the order in which possibilities are tried, and nothing else.
    pub(super) hint: u64,
}

impl Step {
    pub(super) fn fits(&self, value: Value) -> bool {
        match self.before {
            Before::Any => true,
            Before::Is(wanted) => value == wanted,
            Before::IsNot(unwanted) => value != unwanted,
        }
    }
}

/// Which keys a request concerns.
pub(super) enum Touched<'a> {
    /// None, or not as registers.
    Nothing,
    /// One, as a register.
    Register(&'a str),
    /// These, in ways that a register does not know.
    Otherwise(Vec<&'a Keys>, Vec<&'a str>),
}

impl<'a> Touched<'a> {
    pub(super) fn by(request: &'a Request) -> Touched<'a> {
        match request {
            Request::Read {
                keys: Keys::Key(key),
                serializable: false,
                revision: None,
            }
            | Request::Put { key, lease: None, .. }
            | Request::Delete { keys: Keys::Key(key) }
            | Request::CompareAndSet { key, .. } => Touched::Register(key),
            // It ends by itself.
            Request::Put {
                key, lease: Some(_), ..
            } => Touched::Otherwise(Vec::new(), vec![key]),
            Request::Delete { keys } => Touched::Otherwise(vec![keys], Vec::new()),
            Request::Txn(txn) => {
                let (mut ranges, mut keys) = (Vec::new(), Vec::new());
                for op in txn.then.iter().chain(&txn.otherwise) {
                    match op {
                        Op::Read(_) => {}
                        Op::Put { key, .. } => keys.push(key.as_str()),
                        Op::Delete(range) => ranges.push(range),
                    }
                }
                Touched::Otherwise(ranges, keys)
            }
            _ => Touched::Nothing,
        }
    }
}

/// All operations on one key that tell something: first the certain ones, then the others, in the order of their start.
pub(super) struct Register<'a> {
    pub(super) steps: Vec<Step>,
    values: Vec<&'a str>,
}

impl<'a> Register<'a> {
    pub(super) fn of(history: &'a [Record], records: &[usize]) -> Register<'a> {
        let mut numbers = Numbers::default();
        let mut steps: Vec<Step> = records
            .iter()
            .filter_map(|&record| step(record, &history[record], &mut numbers))
            .collect();
        settle(&mut steps, &mut numbers);
        steps.sort_by_key(|step| (!step.certain, step.start_ns));
        Register {
            steps,
            values: numbers.values,
        }
    }

    /// The text of a value; none for [`ABSENT`].
    pub(super) fn value(&self, value: Value) -> Option<&'a str> {
        value.checked_sub(1).map(|index| self.values[index as usize])
    }
}

#[derive(Default)]
struct Numbers<'a> {
    known: HashMap<&'a str, Value>,
    values: Vec<&'a str>,
}

impl<'a> Numbers<'a> {
    fn of(&mut self, value: &'a str) -> Value {
        *self.known.entry(value).or_insert_with(|| {
            self.values.push(value);
            self.values.len() as Value
        })
    }
}

/// None for what tells nothing: what was not executed, reads without an answer, answers to something else.
fn step<'a>(index: usize, record: &'a Record, numbers: &mut Numbers<'a>) -> Option<Step> {
    let reply = match &record.outcome {
        Outcome::Ok(answer) => Some(&answer.reply),
        Outcome::Unknown(_) => None,
        Outcome::Failed(_) => return None,
    };
    let (before, after) = match (&record.request, reply) {
        (Request::Read { .. }, Some(Reply::Read(kvs))) => {
            let seen = kvs.first().map_or(ABSENT, |kv| numbers.of(&kv.value));
            (Before::Is(seen), None)
        }
        (Request::Put { value, .. }, Some(Reply::Put) | None) => (Before::Any, Some(numbers.of(value))),
        (Request::Delete { .. }, Some(Reply::Delete { deleted: 0 })) => (Before::Is(ABSENT), None),
        (Request::Delete { .. }, Some(Reply::Delete { .. })) => (Before::IsNot(ABSENT), Some(ABSENT)),
        (Request::Delete { .. }, None) => (Before::Any, Some(ABSENT)),
        (Request::CompareAndSet { expected, value, .. }, reply) => {
            let expected = expected.as_ref().map_or(ABSENT, |expected| numbers.of(expected));
            match reply {
                Some(Reply::CompareAndSet { succeeded: false }) => (Before::IsNot(expected), None),
                Some(Reply::CompareAndSet { succeeded: true }) | None => {
                    (Before::Is(expected), Some(numbers.of(value)))
                }
                Some(_) => return None,
            }
        }
        _ => return None,
    };
    Some(Step {
        record: index,
        start_ns: record.start_ns,
        end_ns: if reply.is_some() { record.end_ns } else { u64::MAX },
        certain: reply.is_some(),
        before,
        after,
        // Reads of a revision come after the write that made it.
        hint: record.answer().map_or(u64::MAX, |answer| {
            answer.revision * 2 + u64::from(after.is_none())
        }),
    })
}

/// A write with an unknown outcome whose value somebody has seen took effect, and before that somebody's answer; one
/// whose value nobody has seen can be left out, unless somebody saw that something else was there.
fn settle(steps: &mut Vec<Step>, numbers: &mut Numbers<'_>) {
    let mut writers = vec![Vec::new(); numbers.values.len() + 1];
    for (index, step) in steps.iter().enumerate() {
        if let Some(value) = step.after.filter(|value| *value != ABSENT) {
            writers[value as usize].push(index);
        }
    }
    let mut seen: Vec<usize> = (0..steps.len()).filter(|&index| steps[index].certain).collect();
    while let Some(observer) = seen.pop() {
        let Before::Is(value) = steps[observer].before else {
            continue;
        };
        let (end_ns, hint) = (steps[observer].end_ns, steps[observer].hint.saturating_sub(1));
        if let [writer] = writers[value as usize][..] {
            let writer_step = &mut steps[writer];
            let sooner = writer_step.end_ns > end_ns;
            if !writer_step.certain || (sooner && writer_step.hint == u64::MAX) {
                seen.push(writer);
            }
            writer_step.certain = true;
            writer_step.end_ns = writer_step.end_ns.min(end_ns);
            writer_step.hint = writer_step.hint.min(hint);
        }
    }
    let others_matter = steps.iter().any(|step| matches!(step.before, Before::IsNot(_)));
    steps.retain(|step| step.certain || others_matter || step.after == Some(ABSENT));
    // Values that nobody asks for are all the same: then so are many steps, and of those only one has to be tried.
    let asked_for: HashSet<Value> = steps
        .iter()
        .filter_map(|step| match step.before {
            Before::Is(value) | Before::IsNot(value) => Some(value),
            Before::Any => None,
        })
        .collect();
    let any = numbers.of("some value that nobody saw");
    for step in steps.iter_mut().filter(|step| !step.certain) {
        step.after = step.after.map(|value| {
            if value == ABSENT || asked_for.contains(&value) {
                value
            } else {
                any
            }
        });
    }
}

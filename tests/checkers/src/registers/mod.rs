//! Linearizability of registers, key by key.
//!
//! This checker looks at values alone: it would find a cluster out whose revisions are consistent and wrong. It takes the
//! keys that are only read and written one at a time, compare-and-set included; what concerns several keys at once is for
//! `revisions`.

mod search;
mod step;

use std::collections::{HashMap, HashSet};

use crate::history::{Keys, Record};
use crate::{Check, Verdict};
use search::Found;
use step::{Register, Touched};

/// How many positions of the search a history may cost, for each of its operations and at least.
const POSITIONS_PER_STEP_MAX: u64 = 200;
const POSITIONS_MIN: u64 = 1_000_000;

/// How many of the operations are shown that fit nowhere.
const SHOWN_MAX: usize = 10;

pub(crate) fn check(history: &[Record]) -> Option<Check> {
    let registers = registers(history);
    if registers.is_empty() {
        return None;
    }
    let verdicts = registers
        .iter()
        .map(|(key, register)| check_key(history, key, register));
    Some(Check {
        checker: "registers are linearizable".into(),
        checked: registers.len() as u64,
        of: "keys".into(),
        verdict: Verdict::worst(verdicts),
    })
}

/// The operations of every key that is only used alone, in the order of the keys.
fn registers(history: &[Record]) -> Vec<(&str, Register<'_>)> {
    let mut alone: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut others: HashSet<&str> = HashSet::new();
    let mut ranges: HashSet<&Keys> = HashSet::new();
    for (index, record) in history.iter().enumerate() {
        match Touched::by(&record.request) {
            Touched::Nothing => {}
            Touched::Register(key) => alone.entry(key).or_default().push(index),
            Touched::Otherwise(more, keys) => {
                ranges.extend(more);
                others.extend(keys);
            }
        }
    }
    let is_alone = |key: &str| !others.contains(key) && !ranges.iter().any(|range| range.contain(key));
    let mut registers: Vec<_> = alone
        .into_iter()
        .filter(|(key, _)| is_alone(key))
        .map(|(key, records)| (key, Register::of(history, &records)))
        .collect();
    registers.sort_unstable_by_key(|(key, _)| *key);
    registers
}

fn check_key(history: &[Record], key: &str, register: &Register) -> Verdict {
    let positions_max = POSITIONS_MIN.max(register.steps.len() as u64 * POSITIONS_PER_STEP_MAX);
    match search::search(&register.steps, positions_max) {
        Found::Order => Verdict::Ok,
        Found::None(stuck) => Verdict::Violation {
            explanation: explain(history, key, register, &stuck),
        },
        Found::TooMany(stuck) => Verdict::Undecided {
            why: format!(
                "{positions_max} ways to order the operations were tried, and none fits so far\n{}",
                explain(history, key, register, &stuck)
            ),
        },
    }
}

fn explain(history: &[Record], key: &str, register: &Register, stuck: &search::Stuck) -> String {
    let value = register
        .value(stuck.value)
        .map_or("absent".to_owned(), |value| format!("{value:?}"));
    let mut text = format!(
        "no order explains what was answered: in the one that goes furthest, {key} is {value} after {} of {} operations",
        stuck.placed,
        register.steps.len()
    );
    if let Some(last) = stuck.last {
        text += &format!("\nafter: {}", history[register.steps[last].record]);
    }
    for &step in stuck.next.iter().take(SHOWN_MAX) {
        text += &format!("\ncannot be next: {}", history[register.steps[step].record]);
    }
    text
}

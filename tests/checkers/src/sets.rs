//! Sets that only grow: what was acknowledged is there for good, and nothing is there that nobody added.

use std::collections::{BTreeMap, HashMap};

use crate::history::{Outcome, Record, Reply, Request};
use crate::{Check, Verdict};

/// All that was done with one set.
#[derive(Default)]
struct Set<'a> {
    /// By element, what may have been added.
    adds: HashMap<&'a str, &'a Record>,
    /// Of those, what was acknowledged, in the order of the acknowledgements.
    acknowledged: Vec<(u64, &'a str)>,
    reads: Vec<(&'a Record, &'a [String])>,
}

pub(crate) fn check(history: &[Record]) -> Option<Check> {
    let mut sets: BTreeMap<&str, Set<'_>> = BTreeMap::new();
    for record in history {
        match (&record.request, &record.outcome) {
            (Request::SetAdd { set, element }, Outcome::Ok(_) | Outcome::Unknown(_)) => {
                let set = sets.entry(set).or_default();
                set.adds.insert(element, record);
                if record.answer().is_some() {
                    set.acknowledged.push((record.end_ns, element));
                }
            }
            (Request::SetRead { set, .. }, Outcome::Ok(answer)) => {
                if let Reply::SetRead(elements) = &answer.reply {
                    sets.entry(set).or_default().reads.push((record, elements));
                }
            }
            _ => {}
        }
    }
    let verdicts = sets.iter_mut().map(|(name, set)| set.check(name));
    let verdict = Verdict::worst(verdicts.collect::<Vec<_>>());
    (!sets.is_empty()).then(|| Check {
        checker: "sets keep what was added".into(),
        checked: sets.values().map(|set| set.adds.len() as u64).sum(),
        of: "elements".into(),
        verdict,
    })
}

impl Set<'_> {
    fn check(&mut self, name: &str) -> Verdict {
        self.acknowledged.sort_unstable();
        let wrong = self
            .reads
            .iter()
            .find_map(|(read, elements)| self.wrong(read, elements));
        if let Some(explanation) = wrong {
            return Verdict::Violation { explanation };
        }
        let last_add_ns = self.acknowledged.last().map_or(0, |(end_ns, _)| *end_ns);
        let read_after =
            |(read, _): &(&Record, _)| read.start_ns >= last_add_ns && !read.request.is_serializable();
        if self.reads.iter().any(read_after) {
            Verdict::Ok
        } else {
            Verdict::Undecided {
                why: format!("the set {name} was not read after the last element was added"),
            }
        }
    }

    fn wrong(&self, read: &Record, elements: &[String]) -> Option<String> {
        let mut there: HashMap<&str, ()> = HashMap::with_capacity(elements.len());
        for element in elements {
            if there.insert(element, ()).is_some() {
                return Some(format!("the element {element} was read twice:\n{read}"));
            }
            match self.adds.get(element.as_str()) {
                None => {
                    return Some(format!(
                        "the element {element} was read, and nobody added it:\n{read}"
                    ));
                }
                Some(add) if add.start_ns > read.end_ns => {
                    return Some(format!(
                        "the element {element} was read before it was added:\n{read}\n{add}"
                    ));
                }
                Some(_) => {}
            }
        }
        if read.request.is_serializable() {
            return None;
        }
        let before = self
            .acknowledged
            .partition_point(|(end_ns, _)| *end_ns < read.start_ns);
        let lost: Vec<&str> = self.acknowledged[..before]
            .iter()
            .map(|(_, element)| *element)
            .filter(|element| !there.contains_key(element))
            .collect();
        let first = self.adds.get(lost.first()?)?;
        Some(format!(
            "{} acknowledged elements are lost, this one for example:\n{first}\n{read}",
            lost.len()
        ))
    }
}

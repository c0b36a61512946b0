//! The search for an order: Wing and Gong's, with Lowe's memory of positions that were already tried.
//!
//! Going forward, an operation may be placed next if it began before any that is not yet placed ended, and fits the
//! value that is there. One that only reads is placed at once: that can never be wrong. Among writes all possibilities
//! are tried, unless the same ones are placed, with the same value, as once before. (The crate porcupine-rs has this
//! search too. It starts a thread per key, and with diagnostics asked for it takes running out of time for a
//! violation.)

use std::collections::HashSet;

use super::step::{ABSENT, Step, Value};

/// What the search comes to.
pub(super) enum Found {
    /// There is an order.
    Order,
    /// There is none; this is as far as one goes.
    None(Stuck),
    /// It takes too long; this is as far as it went.
    TooMany(Stuck),
}

/// Where an order ends.
#[derive(Default)]
pub(super) struct Stuck {
    /// How many operations are placed.
    pub(super) placed: usize,
    /// The value then.
    pub(super) value: Value,
    /// The last write.
    pub(super) last: Option<usize>,
    /// Those of which one would have to be next.
    pub(super) next: Vec<usize>,
}

/// Looks for an order of `steps`: first the certain ones, then the others, both in the order of their start.
pub(super) fn search(steps: &[Step], positions_max: u64) -> Found {
    let certain = steps.partition_point(|step| step.certain);
    let mut search = Search {
        steps,
        certain,
        placed: vec![false; steps.len()],
        low: 0,
        high: 0,
        certain_left: certain,
        value: ABSENT,
        path: Vec::new(),
        tried: HashSet::new(),
        furthest: Stuck::default(),
    };
    for _ in 0..positions_max {
        if search.certain_left == 0 {
            return Found::Order;
        }
        if !search.forward() && !search.back() {
            return Found::None(search.furthest);
        }
    }
    Found::TooMany(search.furthest)
}

/// A position: of the certain steps all before `low` are placed and those later ones whose bits are set, of the others
/// those whose bits are set, and this is the value.
#[derive(PartialEq, Eq, Hash)]
struct Position {
    low: usize,
    certain: Box<[u64]>,
    others: Box<[u64]>,
    value: Value,
}

/// One placed operation, and what could be placed instead.
struct Placed {
    step: usize,
    value_before: Value,
    low_before: usize,
    others: Vec<usize>,
}

struct Search<'a> {
    steps: &'a [Step],
    /// How many of them are certain.
    certain: usize,
    placed: Vec<bool>,
    /// All certain steps before this are placed, and none from `high` on.
    low: usize,
    high: usize,
    certain_left: usize,
    value: Value,
    path: Vec<Placed>,
    tried: HashSet<Position>,
    furthest: Stuck,
}

impl Search<'_> {
    /// Places one more; false if there is none.
    fn forward(&mut self) -> bool {
        let open = self.open();
        let mut fitting: Vec<usize> = open
            .iter()
            .copied()
            .filter(|&step| self.may_be_next(step))
            .collect();
        if let Some(read) = fitting.iter().find(|&&step| self.steps[step].after.is_none()) {
            fitting = vec![*read];
        }
        // The likeliest is taken from the end.
        fitting.sort_by_key(|&step| std::cmp::Reverse((self.steps[step].hint, step)));
        let forward = self.place_one_of(fitting);
        if !forward && self.path.len() >= self.furthest.placed {
            let last = self
                .path
                .iter()
                .rev()
                .find(|placed| self.steps[placed.step].after.is_some());
            self.furthest = Stuck {
                placed: self.path.len(),
                value: self.value,
                last: last.map(|placed| placed.step),
                next: open,
            };
        }
        forward
    }

    /// Takes back the last ones until another can stand in the place of one; false if there is none.
    fn back(&mut self) -> bool {
        while let Some(last) = self.path.pop() {
            self.placed[last.step] = false;
            self.certain_left += usize::from(self.steps[last.step].certain);
            self.value = last.value_before;
            self.low = last.low_before;
            if self.place_one_of(last.others) {
                return true;
            }
        }
        false
    }

    /// Whether a step fits, and something is gained by it now. Nothing is by one that may have taken effect, if what comes
    /// after it would fit as well without: that comes first then, or instead.
    fn may_be_next(&self, step: usize) -> bool {
        let needed =
            |last: &Placed| self.steps[last.step].certain || !self.steps[step].fits(last.value_before);
        self.steps[step].fits(self.value) && self.path.last().is_none_or(needed)
    }

    /// All of which one could be next, whether or not it fits.
    fn open(&self) -> Vec<usize> {
        let mut first_end_ns = u64::MAX;
        let mut open = Vec::new();
        for index in (self.low..self.certain).filter(|&index| !self.placed[index]) {
            if self.steps[index].start_ns > first_end_ns {
                break;
            }
            open.push(index);
            first_end_ns = first_end_ns.min(self.steps[index].end_ns);
        }
        // The end lies before the start where a value was seen before it was written.
        open.retain(|&index| self.steps[index].start_ns <= first_end_ns);
        // Of those that may have taken effect and are alike, the first one stands for all.
        let mut alike = HashSet::new();
        let others = (self.certain..self.steps.len()).filter(|&index| !self.placed[index]);
        open.extend(
            others
                .take_while(|&index| self.steps[index].start_ns <= first_end_ns)
                .filter(|&index| alike.insert((self.steps[index].before, self.steps[index].after))),
        );
        open
    }

    /// Places the last of these that leads to a new position.
    fn place_one_of(&mut self, mut choices: Vec<usize>) -> bool {
        while let Some(index) = choices.pop() {
            let (value_before, low_before) = (self.value, self.low);
            self.placed[index] = true;
            while self.low < self.certain && self.placed[self.low] {
                self.low += 1;
            }
            if index < self.certain {
                self.high = self.high.max(index + 1);
            }
            let step = &self.steps[index];
            self.value = step.after.unwrap_or(self.value);
            if step.after.is_none() || self.tried.insert(self.position()) {
                self.certain_left -= usize::from(step.certain);
                self.path.push(Placed {
                    step: index,
                    value_before,
                    low_before,
                    others: choices,
                });
                return true;
            }
            self.placed[index] = false;
            self.value = value_before;
            self.low = low_before;
        }
        false
    }

    fn position(&self) -> Position {
        Position {
            low: self.low,
            certain: bits(&self.placed[self.low..self.high.max(self.low)]),
            others: bits(&self.placed[self.certain..]),
            value: self.value,
        }
    }
}

/// One bit for each, without the words at the end that are zero.
fn bits(flags: &[bool]) -> Box<[u64]> {
    let word = |flags: &[bool]| {
        flags
            .iter()
            .rev()
            .fold(0, |word, &flag| word << 1 | u64::from(flag))
    };
    let mut words: Vec<u64> = flags.chunks(64).map(word).collect();
    words.truncate(
        words
            .iter()
            .rposition(|word| *word != 0)
            .map_or(0, |last| last + 1),
    );
    words.into()
}

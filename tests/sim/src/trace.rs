//! What happened, as one number: two runs of one seed must agree in it.

use std::fmt;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The trace of a run.
pub struct Trace {
    started: Instant,
    shown: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hash: u64,
    notes: u64,
}

impl Trace {
    /// An empty one; `shown`: each line also goes to standard error.
    pub fn new(shown: bool) -> Trace {
        Trace {
            started: Instant::now(),
            shown,
            state: Mutex::default(),
        }
    }

    /// Nanoseconds of simulated time since the run began.
    pub fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Takes in something that happened now.
    pub fn note(&self, numbers: &[u64]) {
        let now = self.now_ns();
        let mut state = self.state.lock();
        state.notes += 1;
        for number in [now].iter().chain(numbers) {
            state.hash = (state.hash.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    /// Takes in something worth a line.
    pub fn say(&self, line: fmt::Arguments<'_>) {
        let text = line.to_string();
        self.note(&[u64::from(crc32c::crc32c(text.as_bytes()))]);
        if self.shown {
            eprintln!("{:>10.3} {text}", self.now_ns() as f64 / 1e9);
        }
    }

    /// The number, and of how many notes.
    pub fn hash(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.hash, state.notes)
    }
}

//! What a log has called durable is there after whatever happens to its machine.

use kv_wal::{Position, Wal};
use parking_lot::Mutex;

/// What one log has promised.
#[derive(Default)]
pub struct Promise(Mutex<State>);

#[derive(Default)]
struct State {
    given: Content,
    owed: Option<Owed>,
}

/// What a log holds, as far as it is looked at.
#[derive(Default, Clone, PartialEq)]
struct Content {
    vote: Option<Vec<u8>>,
    last: Option<Position>,
}

/// What must be there when the log is opened again.
struct Owed {
    /// One of these: what came last may have been kept or not.
    votes: [Option<Vec<u8>>; 2],
    /// Unless it was taken back.
    last: Option<Position>,
}

impl Content {
    fn of(wal: &Wal) -> Content {
        Content {
            vote: wal.vote().map(|vote| vote.to_vec()),
            last: wal.last(),
        }
    }
}

impl Promise {
    /// The log has done, and called durable, all that was asked of it.
    pub fn given(&self, wal: &Wal) {
        self.0.lock().given = Content::of(wal);
    }

    /// The process dies, and with it what it was about to do.
    pub fn falls_due(&self, wal: &Wal) {
        let asked = Content::of(wal);
        let mut state = self.0.lock();
        let Content { vote, last } = state.given.clone();
        state.owed = Some(Owed {
            votes: [vote, asked.vote],
            last: last.filter(|last| wal.position(last.index) == Some(*last)),
        });
    }

    /// The log was opened again.
    ///
    /// # Errors
    /// What is not there.
    pub fn is_kept(&self, wal: &Wal) -> Result<(), String> {
        let mut state = self.0.lock();
        let found = Content::of(wal);
        state.given = found.clone();
        let Some(Owed { votes, last }) = state.owed.take() else {
            return Ok(());
        };
        if !votes.contains(&found.vote) {
            return Err("has lost a vote that its log had called durable".to_owned());
        }
        let is_purged = |last: &Position| wal.purged().is_some_and(|purged| purged.index >= last.index);
        match last {
            Some(last) if !is_purged(&last) && wal.position(last.index) != Some(last) => Err(format!(
                "has lost entry {} that its log had called durable",
                last.index
            )),
            _ => Ok(()),
        }
    }
}

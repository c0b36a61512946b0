//! Replays records in the order in which they were written.
//!
//! The oldest segment may start in the middle: entries before it were purged and their segments deleted.
//! The record of that purge stands somewhere behind, so until then the replay takes the log to be purged up
//! to where the segment starts, and checks at the end that it really was.

use bytes::Bytes;

use crate::format::{Kind, LogState, decode_position};
use crate::index::{LogIndex, Misfit, Place};
use crate::options::MAX_STATE_BYTES;
use crate::scan::Found;
use crate::types::{Location, Position};

/// The log while it is replayed.
pub(crate) struct Replay {
    /// Its `purged` is where the first segment starts, as long as that is beyond `state.purged`.
    index: LogIndex,
    /// What the records say; `last` is not kept up to date.
    state: LogState,
    records: u64,
}

impl Replay {
    /// From the state in the header of the oldest segment.
    pub(crate) fn starting_at(state: &LogState) -> Replay {
        Replay {
            index: LogIndex::starting_after(state.last),
            state: state.clone(),
            records: 0,
        }
    }

    /// Records replayed.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Whether the next segment starts where the records before it ended.
    pub(crate) fn continues_as(&self, header: &LogState) -> bool {
        let reached = LogState {
            last: self.index.last(),
            ..self.state.clone()
        };
        reached == *header
    }

    /// Replays one record; returns the index if it is an entry. An error says why it cannot follow.
    pub(crate) fn apply(
        &mut self,
        segment: u32,
        offset: u32,
        found: &Found<'_>,
    ) -> Result<Option<u64>, String> {
        if found.sequence != self.state.next_sequence {
            return Err(format!(
                "the record has number {}, {} must stand here",
                found.sequence, self.state.next_sequence
            ));
        }
        self.state.next_sequence += 1;
        self.records += 1;
        match found.kind {
            Kind::Entry => return self.entry(segment, offset, found.payload).map(Some),
            Kind::Vote => self.state.vote = Some(state(found.payload)?),
            Kind::Committed => self.state.committed = Some(state(found.payload)?),
            Kind::Truncate if found.payload.is_empty() => self.truncate(None),
            Kind::Truncate => {
                let last = decode_position(found.payload).ok_or("a truncation without a position")?;
                self.truncate(Some(last));
            }
            Kind::Purge => {
                let upto = decode_position(found.payload).ok_or("a purge without a position")?;
                self.purge(upto)?;
            }
            Kind::Durable => {}
        }
        Ok(None)
    }

    fn entry(&mut self, segment: u32, offset: u32, payload: &[u8]) -> Result<u64, String> {
        let position = decode_position(payload).ok_or("an entry without a position")?;
        let payload_bytes = payload.len() as u32 - crate::format::ENTRY_PREFIX_BYTES;
        let place = Place::At(Location {
            segment,
            offset,
            payload_bytes,
        });
        self.index
            .append(position, place)
            .map_err(|misfit| match misfit {
                Misfit::NotNext { expected } => {
                    format!("entry {position} stands where {expected} must follow")
                }
                Misfit::PurgeLeavesGap { .. } => format!("entry {position} does not fit"),
            })?;
        Ok(position.index)
    }

    fn truncate(&mut self, last: Option<Position>) {
        self.index.truncate_after(index_of(last));
        let start = index_of(self.index.purged());
        if start > index_of(self.state.purged) && index_of(last) < start {
            // Cut back into entries of segments that are gone: the log goes on from there.
            self.index.force_purged(last);
        }
    }

    fn purge(&mut self, upto: Position) -> Result<(), String> {
        self.state.purged = Some(upto);
        match self.index.purged() {
            // Up to somewhere in the segments that are gone.
            Some(start) if start.index > upto.index => Ok(()),
            Some(start) if start.index == upto.index => {
                self.index.force_purged(Some(upto));
                Ok(())
            }
            _ => match self.index.purge(upto) {
                Ok(_) => Ok(()),
                Err(_) => Err(format!("a purge up to {upto} leaves a gap")),
            },
        }
    }

    /// The log as it is now; an error says what is missing.
    pub(crate) fn finish(self) -> Result<(LogIndex, LogState), String> {
        let (start, purged) = (self.index.purged(), self.state.purged);
        if index_of(start) != index_of(purged) {
            let upto = start.map_or_else(|| "-".to_string(), |start| start.to_string());
            return Err(format!(
                "entries up to {upto} were never purged, but the segments with them are gone"
            ));
        }
        let last = self.index.last();
        Ok((self.index, LogState { last, ..self.state }))
    }
}

/// A vote or a committed mark, which must fit into the header of the next segment.
fn state(payload: &[u8]) -> Result<Bytes, &'static str> {
    if payload.len() > MAX_STATE_BYTES {
        return Err("a vote or a committed mark that is too long");
    }
    Ok(Bytes::copy_from_slice(payload))
}

fn index_of(position: Option<Position>) -> Option<u64> {
    position.map(|position| position.index)
}

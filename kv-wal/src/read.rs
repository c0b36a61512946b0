//! Reading entries back: the newest from memory, older ones from their segments, checked again.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::DiskFile;
use crate::format::{
    ENTRY_PREFIX_BYTES, Kind, RECORD_HEADER_BYTES, RecordHeader, checksum_ok, decode_position, encoded_bytes,
    entry_payload_bytes, segment_seed,
};
use crate::index::Place;
use crate::segment::file_name;
use crate::state::State;
use crate::types::{Entry, Location, Position};

/// Neighbouring records are read together up to this many bytes.
const RUN_BYTES: u32 = 1 << 20;

/// What to read, decided under the lock; the reading itself is done without it.
pub(crate) struct Plan {
    on_disk: Vec<Wanted>,
    /// Follow those on disk.
    cached: Vec<Entry>,
}

struct Wanted {
    position: Position,
    location: Location,
    file: Arc<dyn DiskFile>,
}

impl Plan {
    /// Entries of `range` that are here, in order, until `max_bytes` of payload are reached; at least one
    /// if there is any.
    pub(crate) fn new(state: &State, range: Range<u64>, max_bytes: usize) -> io::Result<Plan> {
        let present = state.index.range();
        let mut plan = Plan {
            on_disk: Vec::new(),
            cached: Vec::new(),
        };
        let mut taken_bytes = 0usize;
        for index in range.start.max(present.start)..range.end.min(present.end) {
            let (Some(position), Some(place)) = (state.index.position(index), state.index.place(index))
            else {
                break;
            };
            let cached = state.cache.get(index);
            let bytes = match (cached, place) {
                (Some(entry), _) => entry.payload.len(),
                (None, Place::At(location)) => location.payload_bytes as usize,
                (None, Place::Pending { .. }) => unreachable!("an entry not yet on disk stays in the cache"),
            };
            if taken_bytes > 0 && taken_bytes + bytes > max_bytes {
                break;
            }
            // Counts as more than nothing, so that empty entries do not make a second "first" one.
            taken_bytes += bytes.max(1);
            match (cached, place) {
                (Some(entry), _) => plan.cached.push(entry.clone()),
                (None, Place::At(location)) => plan.on_disk.push(wanted(state, position, location)?),
                (None, Place::Pending { .. }) => {}
            }
        }
        Ok(plan)
    }

    /// Reads what is on disk.
    pub(crate) fn run(self, log_id: u64) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::with_capacity(self.on_disk.len() + self.cached.len());
        let mut rest = &self.on_disk[..];
        while let Some(first) = rest.first() {
            let end = first.location.offset + RUN_BYTES;
            let more = rest[1..].iter().take_while(|next| {
                next.location.segment == first.location.segment && record_end(next.location) <= end
            });
            let count = 1 + more.count();
            read_run(&rest[..count], log_id, &mut entries)?;
            rest = &rest[count..];
        }
        entries.extend(self.cached);
        Ok(entries)
    }
}

fn wanted(state: &State, position: Position, location: Location) -> io::Result<Wanted> {
    let file = state.files.get(&location.segment).cloned();
    let file = file.ok_or_else(|| bad(position, location, "its segment is not open"))?;
    Ok(Wanted {
        position,
        location,
        file,
    })
}

fn record_end(location: Location) -> u32 {
    location.offset + encoded_bytes(entry_payload_bytes(location.payload_bytes as usize))
}

/// Reads entries of one segment, whose offsets rise, with one read.
fn read_run(run: &[Wanted], log_id: u64, entries: &mut Vec<Entry>) -> io::Result<()> {
    let (first, last) = (&run[0], &run[run.len() - 1]);
    let start = first.location.offset;
    let mut bytes = vec![0; (record_end(last.location) - start) as usize];
    first.file.read_exact_at(&mut bytes, u64::from(start))?;
    let bytes = Bytes::from(bytes);
    let seed = segment_seed(log_id, first.location.segment);
    for wanted in run {
        let at = (wanted.location.offset - start) as usize;
        let record = bytes.slice(at..(record_end(wanted.location) - start) as usize);
        let payload =
            check(&record, seed, wanted).map_err(|why| bad(wanted.position, wanted.location, why))?;
        entries.push(Entry {
            position: wanted.position,
            payload,
        });
    }
    Ok(())
}

/// The payload of the entry in `record`, if that is the entry which is wanted.
fn check(record: &Bytes, seed: u32, wanted: &Wanted) -> Result<Bytes, &'static str> {
    if !checksum_ok(seed, wanted.location.offset, record) {
        return Err("the checksum of its record is wrong");
    }
    let mut fixed = [0; RECORD_HEADER_BYTES as usize];
    fixed.copy_from_slice(&record[..RECORD_HEADER_BYTES as usize]);
    let header = RecordHeader::parse(&fixed)?;
    let start = (RECORD_HEADER_BYTES + ENTRY_PREFIX_BYTES) as usize;
    let end = start + wanted.location.payload_bytes as usize;
    let same_size = header.payload_bytes == ENTRY_PREFIX_BYTES + wanted.location.payload_bytes;
    let position = decode_position(&record[RECORD_HEADER_BYTES as usize..]);
    if header.kind != Kind::Entry || !same_size || position != Some(wanted.position) {
        return Err("another record stands there");
    }
    Ok(record.slice(start..end))
}

fn bad(position: Position, location: Location, why: &str) -> io::Error {
    let text = format!(
        "entry {position} at byte {} of segment {} cannot be read: {why}; the log of this node cannot be trusted",
        location.offset,
        file_name(location.segment),
    );
    io::Error::new(io::ErrorKind::InvalidData, text)
}

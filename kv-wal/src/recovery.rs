//! Opens a log: reads it, decides what its end is, repairs the end, and refuses what cannot be trusted.
//!
//! The writer syncs a batch before it begins the next, and every record says up to where its segment was
//! durable when it was written. From that follows what a broken record at offset D means:
//!
//! - In a segment that has a successor: damage. The successor was made after a sync of the whole segment,
//!   and its header says where the records end.
//! - In the last segment, with a whole record behind it that says that D was durable: damage. Such a record
//!   is part of any later batch; and the writer leaves one (a durable mark, 24 bytes, not synced) whenever it
//!   runs out of work, and a synced one when the log is closed and opened.
//! - In the last segment without such a witness: a torn write. It belongs to the last batch, for which
//!   nothing shows that its sync ever returned. It is cut off, and its bytes are overwritten with zeros
//!   before anything is appended, so that they cannot come back.
//!
//! So what goes unseen is exactly this: damage to a record of the very last batch when, in addition, the
//! mark behind it did not reach the disk (power cut within moments of the batch) or is damaged too. That
//! is cut like a torn write, and reported as [`Torn`]. A whole newest segment that somebody deletes is not
//! noticed here either; a deleted older one is. Wrong content is never served: every record read later is
//! checked again.
//!
//! After a crash of the process alone the page cache may hold more than the disk, and after a failed sync
//! it may call pages clean that never reached the disk. So the last batch is written once more and synced
//! before any of it counts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::disk::{Disk, DiskFile};
use crate::error::{OpenError, WriteError};
use crate::format::{
    FORMAT_VERSION, HEADER_BLOCK_BYTES, HeaderError, LogState, NUMBER_MAX, SEGMENT_MAX, SegmentHeader,
    encoded_bytes, segment_seed,
};
use crate::index::LogIndex;
use crate::options::{MAX_SEGMENT_BYTES, Options, Recovery, Torn};
use crate::replay::Replay;
use crate::scan::{Behind, Scanner};
use crate::segment::{activate, file_name, make_spare, parse_name, remove_spare};

/// How much is rewritten or zeroed at once.
const REPAIR_BLOCK_BYTES: u32 = 1 << 20;

/// A segment that is in use.
pub(crate) struct Segment {
    pub(crate) number: u32,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) bytes: u32,
    /// Largest index of any entry ever written into it: it can go once the log is purged up to there.
    pub(crate) max_index: Option<u64>,
}

/// The end of the last segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    /// Where the next record goes.
    pub(crate) written: u32,
    /// Everything before this is durable.
    pub(crate) durable: u32,
    /// The last record is a durable mark: another would add nothing.
    pub(crate) marked: bool,
}

/// What the writer and the readers start from.
pub(crate) struct Recovered {
    pub(crate) index: LogIndex,
    pub(crate) state: LogState,
    /// Oldest first; the last is written to. Never empty.
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) end: End,
    pub(crate) report: Recovery,
}

/// Opens the log on `disk`, or makes one.
pub(crate) fn recover(disk: &dyn Disk, options: &Options) -> Result<Recovered, OpenError> {
    let started = Instant::now();
    let numbers = segment_numbers(disk)?;
    let mut recovered = match numbers.first() {
        None => create(disk, options)?,
        Some(_) => read(disk, options, &numbers)?,
    };
    remove_spare(disk).map_err(OpenError::io("removing the spare segment"))?;
    let purged = recovered.state.purged.map(|position| position.index);
    while is_oldest_purged(&recovered.segments, purged) {
        remove_oldest(disk, &mut recovered.segments).map_err(OpenError::io("removing purged segments"))?;
        recovered.report.removed_segments += 1;
    }
    recovered.report.entries = recovered.index.len() as u64;
    recovered.report.duration = started.elapsed();
    Ok(recovered)
}

fn segment_numbers(disk: &dyn Disk) -> Result<Vec<u32>, OpenError> {
    let names = disk.list().map_err(OpenError::io("listing the directory"))?;
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| parse_name(name)).collect();
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        if pair[0] + 1 != pair[1] {
            return Err(OpenError::damaged(pair[0] + 1, 0, "the segment is missing"));
        }
    }
    Ok(numbers)
}

/// Makes the first segment.
fn create(disk: &dyn Disk, options: &Options) -> Result<Recovered, OpenError> {
    let header = SegmentHeader {
        log_id: options.log_id,
        segment: 1,
        segment_bytes: options.segment_size(),
        previous_end: 0,
        state: LogState::default(),
    };
    let failed = |error| match error {
        WriteError::Full(source) | WriteError::Fatal(source) => OpenError::Io {
            what: "making the first segment".to_string(),
            source,
        },
    };
    let file = make_spare(disk, header.segment_bytes).map_err(failed)?;
    activate(disk, file.as_ref(), &header).map_err(failed)?;
    let bytes = header.segment_bytes;
    Ok(Recovered {
        index: LogIndex::default(),
        state: header.state,
        segments: VecDeque::from([Segment {
            number: 1,
            file,
            bytes,
            max_index: None,
        }]),
        end: End {
            written: HEADER_BLOCK_BYTES,
            durable: HEADER_BLOCK_BYTES,
            marked: false,
        },
        report: Recovery {
            created: true,
            segments: 1,
            ..Recovery::default()
        },
    })
}

/// Reads the segments with these numbers, which follow one another.
fn read(disk: &dyn Disk, options: &Options, numbers: &[u32]) -> Result<Recovered, OpenError> {
    let mut opened = Vec::with_capacity(numbers.len());
    for number in numbers {
        opened.push(open_segment(disk, options, *number)?);
    }
    let mut replay = Replay::starting_at(&opened[0].1.state);
    let mut segments = VecDeque::with_capacity(opened.len());
    let mut tail = None;
    for (at, (file, header)) in opened.iter().enumerate() {
        if at > 0 && !replay.continues_as(&header.state) {
            let reason = "the segment does not continue the one before it";
            return Err(OpenError::damaged(header.segment, 0, reason));
        }
        let known_end = opened.get(at + 1).map(|(_, next)| next.previous_end);
        let walk = walk(file.as_ref(), header, known_end, &mut replay)?;
        tail = Some(walk.tail);
        segments.push_back(Segment {
            number: header.segment,
            file: Arc::clone(file),
            bytes: header.segment_bytes,
            max_index: walk.max_index,
        });
    }
    let (last, header) = &opened[opened.len() - 1];
    let tail = tail.unwrap_or_default();
    let mut report = Recovery {
        segments: segments.len(),
        records: replay.records(),
        ..Recovery::default()
    };
    if tail.behind_end > tail.end {
        report.torn = Some(Torn {
            segment: file_name(header.segment),
            offset: u64::from(tail.end),
            bytes: u64::from(tail.behind_end - tail.end),
        });
    }
    let (index, state) = replay
        .finish()
        .map_err(|reason| OpenError::damaged(numbers[0], 0, reason))?;
    repair(last.as_ref(), tail).map_err(OpenError::io("repairing the end of the log"))?;
    let end = End {
        written: tail.end,
        durable: tail.end,
        marked: tail.marked,
    };
    Ok(Recovered {
        index,
        state,
        segments,
        end,
        report,
    })
}

fn open_segment(
    disk: &dyn Disk,
    options: &Options,
    number: u32,
) -> Result<(Arc<dyn DiskFile>, SegmentHeader), OpenError> {
    let name = file_name(number);
    let damaged = |reason: &str| OpenError::damaged(number, 0, reason);
    let file = disk
        .open(&name)
        .map_err(OpenError::io(format!("opening {name}")))?;
    let size = file
        .size()
        .map_err(OpenError::io(format!("reading the size of {name}")))?;
    if size < u64::from(HEADER_BLOCK_BYTES) {
        return Err(OpenError::damaged(
            number,
            size,
            "the file is shorter than a segment's header",
        ));
    }
    let mut block = vec![0; HEADER_BLOCK_BYTES as usize];
    file.read_exact_at(&mut block, 0)
        .map_err(OpenError::io(format!("reading {name}")))?;
    let header = SegmentHeader::decode(&block).map_err(|error| match error {
        HeaderError::Damaged(reason) => damaged(reason),
        HeaderError::NewerVersion(found) => OpenError::NewerVersion {
            segment: name.clone(),
            found,
            supported: FORMAT_VERSION,
        },
    })?;
    if header.log_id != options.log_id {
        return Err(OpenError::OtherLog {
            segment: name,
            found: header.log_id,
            expected: options.log_id,
        });
    }
    if header.segment != number {
        return Err(damaged(&format!(
            "the file is segment {} under another name",
            header.segment
        )));
    }
    if number > SEGMENT_MAX || header.state.next_sequence > NUMBER_MAX {
        return Err(damaged("the segment's header has an impossible number"));
    }
    let possible = HEADER_BLOCK_BYTES..=MAX_SEGMENT_BYTES as u32;
    if !possible.contains(&header.segment_bytes) || !header.segment_bytes.is_multiple_of(HEADER_BLOCK_BYTES) {
        return Err(damaged("the segment's header has an impossible size"));
    }
    if size < u64::from(header.segment_bytes) {
        let reason = format!("the file ends here, it must have {} bytes", header.segment_bytes);
        return Err(OpenError::damaged(number, size, reason));
    }
    Ok((file, header))
}

/// The end of a segment as it was found.
#[derive(Debug, Clone, Copy, Default)]
struct Tail {
    /// End of the last whole record.
    end: u32,
    /// What the last records say was durable.
    durable: u32,
    /// End of what lies behind `end` and is not zero.
    behind_end: u32,
    marked: bool,
}

struct Walk {
    tail: Tail,
    max_index: Option<u64>,
}

/// Replays one segment. `known_end` is where its records end, when there is a segment after it.
fn walk(
    file: &dyn DiskFile,
    header: &SegmentHeader,
    known_end: Option<u32>,
    replay: &mut Replay,
) -> Result<Walk, OpenError> {
    let seed = segment_seed(header.log_id, header.segment);
    let reading = || OpenError::io(format!("reading {}", file_name(header.segment)));
    let damaged = |offset: u32, reason: &str| OpenError::damaged(header.segment, u64::from(offset), reason);
    let mut scanner = Scanner::new(file, seed, header.segment_bytes);
    let start = HEADER_BLOCK_BYTES;
    let mut tail = Tail {
        end: start,
        durable: start,
        behind_end: start,
        marked: false,
    };
    let mut max_index = None;
    while known_end != Some(tail.end) {
        let found = match scanner.record(tail.end).map_err(reading())? {
            Ok(found) => found,
            Err(reason) if known_end.is_some() => return Err(damaged(tail.end, reason)),
            Err(reason) => {
                let Behind { witness, nonzero_end } = scanner.behind(tail.end).map_err(reading())?;
                if let Some(witness) = witness {
                    let reason = format!("{reason}, though the record at byte {witness} says it was durable");
                    return Err(damaged(tail.end, &reason));
                }
                tail.behind_end = nonzero_end;
                break;
            }
        };
        if found.durable < tail.durable || found.durable > tail.end {
            return Err(damaged(tail.end, "a record contradicts the ones before it"));
        }
        tail.durable = found.durable;
        tail.marked = found.kind == crate::format::Kind::Durable;
        let payload_bytes = found.payload.len() as u32;
        let entry = replay
            .apply(header.segment, tail.end, &found)
            .map_err(|r| damaged(tail.end, &r))?;
        max_index = max_index.max(entry);
        tail.end += encoded_bytes(payload_bytes);
    }
    Ok(Walk { tail, max_index })
}

/// Makes the end of the last segment as durable as it looks, and takes away what is torn.
fn repair(file: &dyn DiskFile, tail: Tail) -> std::io::Result<()> {
    let mut block = Vec::new();
    let mut offset = tail.durable;
    while offset < tail.end {
        let count = REPAIR_BLOCK_BYTES.min(tail.end - offset);
        block.resize(count as usize, 0);
        file.read_exact_at(&mut block, u64::from(offset))?;
        file.write_all_at(&block, u64::from(offset))?;
        offset += count;
    }
    let zeros = vec![0; REPAIR_BLOCK_BYTES.min(tail.behind_end - tail.end) as usize];
    let mut offset = tail.end;
    while offset < tail.behind_end {
        let count = (zeros.len() as u32).min(tail.behind_end - offset);
        file.write_all_at(&zeros[..count as usize], u64::from(offset))?;
        offset += count;
    }
    file.sync_data()
}

/// Whether all entries of the oldest segment are purged; never of the last one.
pub(crate) fn is_oldest_purged(segments: &VecDeque<Segment>, purged: Option<u64>) -> bool {
    segments.len() > 1
        && segments[0]
            .max_index
            .is_none_or(|max| purged.is_some_and(|upto| max <= upto))
}

/// Deletes the oldest segment and returns its number.
///
/// Its removal is made durable before the next, so that a crash leaves no gap in the numbers.
pub(crate) fn remove_oldest(disk: &dyn Disk, segments: &mut VecDeque<Segment>) -> std::io::Result<u32> {
    let number = segments[0].number;
    disk.remove(&file_name(number))?;
    disk.sync_dir()?;
    segments.pop_front();
    Ok(number)
}

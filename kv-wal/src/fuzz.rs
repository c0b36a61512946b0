//! What a fuzzer or its twin asks of recovery.

use std::io;
use std::sync::mpsc;

use bytes::Bytes;

use crate::format::{self, HEADER_BLOCK_BYTES, NUMBER_MAX, RECORD_HEADER_BYTES, encoded_bytes, segment_seed};
use crate::segment::file_name;
use crate::sim::SimDisk;
use crate::writer::OUT_OF_NUMBERS;
use crate::{Disk, Drive, Driven, Entry, Options, Position, Wal};

const LOG_ID: u64 = 7;
const SEGMENT_BYTES: usize = 12 << 10;
/// The largest file, however large its header says it is.
const FILE_BYTES_MAX: usize = 64 << 10;
/// How much of a header block stands in an input; the rest is zeros.
const HEAD_BYTES: usize = 128;

/// Where a header block has the number of its segment, and the size of it.
const SEGMENT_AT: usize = 24;
const SEGMENT_BYTES_AT: usize = 28;

fn options() -> Options {
    Options {
        log_id: LOG_ID,
        segment_bytes: SEGMENT_BYTES as u64,
        cache_bytes: 2000,
        max_record_bytes: 2000,
        batch_bytes: 3000,
        drive: Drive::Caller,
        ..Options::default()
    }
}

/// Opens a log whose segments are these bytes, as they are, and with all checksums made right.
///
/// The input is the beginnings of the segments, one after the other; each begins with the magic of its header.
///
/// # Panics
/// Where a log opens that cannot be read, opened again, or appended to.
pub fn segments(input: &[u8]) {
    check(&disk_of(input, false));
    check(&disk_of(input, true));
}

/// A disk with the segments of an input; `is_sealed`: with checksums made right.
fn disk_of(input: &[u8], is_sealed: bool) -> SimDisk {
    let disk = SimDisk::new();
    let mut next = None;
    for piece in split(input) {
        let mut file = unfold(piece);
        let number = next.unwrap_or_else(|| number_at(&file, SEGMENT_AT));
        if is_sealed {
            seal(&mut file);
        }
        write(&disk, &file_name(number), &file);
        next = Some(number.wrapping_add(1));
    }
    disk
}

/// The input of the log on a disk.
fn input_of(disk: &SimDisk) -> Vec<u8> {
    let mut names = disk.list().expect("a simulated disk lists its files");
    names.retain(|name| name.ends_with(".wal"));
    names.sort();
    let mut input = Vec::new();
    for name in names {
        let file = disk.contents(&name).expect("the file was listed");
        let end = file
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let records = (HEADER_BLOCK_BYTES as usize).min(end);
        input.extend_from_slice(&file[..HEAD_BYTES]);
        input.extend_from_slice(&file[records..end]);
    }
    input
}

/// Logs of every kind of record.
pub fn seeds() -> Vec<Vec<u8>> {
    let entry = |term, index, bytes: usize| Entry {
        position: Position::new(term, index),
        payload: vec![b'e'; bytes].into(),
    };
    type Step = fn(&Wal, &dyn Fn(u64, u64, usize) -> Entry);
    let logs: [Step; 4] = [
        |_, _| {},
        |wal, entry| {
            wal.save_vote(Bytes::from_static(b"vote"), |_| {});
            wal.append(
                (1..5).map(|index| entry(1, index, index as usize * 3)).collect(),
                |_| {},
            );
            wal.save_committed(Bytes::from_static(b"mark"))
                .expect("the queue is empty");
            wal.truncate_after(Some(3), |_| {});
            wal.append(vec![entry(2, 4, 0)], |_| {});
        },
        |wal, entry| {
            wal.append((0..12).map(|index| entry(1, index, 1500)).collect(), |_| {});
            wal.purge(Position::new(1, 8), |_| {});
        },
        |wal, entry| {
            wal.append((7..9).map(|index| entry(1, index, 9)).collect(), |_| {});
            wal.purge(Position::new(3, 40), |_| {});
            wal.save_vote(Bytes::from_static(b"later"), |_| {});
            wal.append(vec![entry(3, 41, 1)], |_| {});
            wal.truncate_after(None, |_| {});
        },
    ];
    let log = |step: &Step| {
        let disk = SimDisk::new();
        let (wal, _) = Wal::open(disk.mount(), options()).expect("an empty disk");
        step(&wal, &entry);
        while wal.drive() == Driven::Worked {}
        wal.close();
        input_of(&disk)
    };
    logs.iter().map(log).collect()
}

/// An input at each place where a header block begins.
fn split(input: &[u8]) -> Vec<&[u8]> {
    let magic = &format::MAGIC;
    let starts = (1..input.len()).filter(|at| input[*at..].starts_with(magic));
    let ends: Vec<usize> = starts.chain([input.len()]).collect();
    let mut start = 0;
    ends.into_iter()
        .map(|end| {
            let piece = &input[start..end];
            start = end;
            piece
        })
        .collect()
}

/// The file of a piece of an input.
fn unfold(piece: &[u8]) -> Vec<u8> {
    let Some((head, records)) = piece.split_at_checked(HEAD_BYTES) else {
        return piece.to_vec();
    };
    let mut file = head.to_vec();
    file.resize(HEADER_BLOCK_BYTES as usize, 0);
    file.extend_from_slice(records);
    let size = number_at(&file, SEGMENT_BYTES_AT) as usize;
    if file.len() < size {
        file.resize(size.min(FILE_BYTES_MAX), 0);
    }
    file
}

fn number_at(file: &[u8], at: usize) -> u32 {
    let bytes = file.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(1, |bytes| u32::from_le_bytes(*bytes))
}

/// Makes the checksums of the header and of all records right, so that a change is not found by them.
fn seal(file: &mut [u8]) {
    let start = HEADER_BLOCK_BYTES as usize;
    if file.len() < start {
        return;
    }
    format::seal_header(&mut file[..start]);
    let seed = segment_seed(LOG_ID, number_at(file, SEGMENT_AT));
    let mut at = start;
    while let Some(payload_bytes) = format::payload_bytes(&file[at..]) {
        let Some(end) = at
            .checked_add(RECORD_HEADER_BYTES as usize + payload_bytes as usize)
            .filter(|end| *end <= file.len())
        else {
            break;
        };
        let end = (at + encoded_bytes(payload_bytes) as usize).clamp(end, file.len());
        format::seal_record(seed, at as u32, &mut file[at..end]);
        at = end;
    }
}

fn write(disk: &SimDisk, name: &str, contents: &[u8]) {
    let done = disk.create(name).and_then(|file| {
        file.write_all_at(contents, 0)?;
        file.sync_data()
    });
    done.and_then(|()| disk.sync_dir())
        .expect("a simulated disk takes any file");
}

/// What can be read of a log.
#[derive(Debug, PartialEq)]
struct Seen {
    entries: Vec<Entry>,
    last: Option<Position>,
    purged: Option<Position>,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
}

fn see(wal: &Wal) -> Seen {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let next = entries.last().map_or(0, |last| last.position.index + 1);
        let more = wal
            .read(next..u64::MAX, 3000)
            .expect("what was recovered is whole");
        if more.is_empty() {
            break;
        }
        entries.extend(more);
    }
    Seen {
        entries,
        last: wal.last(),
        purged: wal.purged(),
        vote: wal.vote(),
        committed: wal.committed(),
    }
}

fn check(disk: &SimDisk) {
    let open = || Wal::open(disk.mount(), options());
    let (wal, _) = match open() {
        Ok(opened) => opened,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let seen = see(&wal);
    wal.close();
    let (wal, recovery) = open().expect("a log that opened opens again");
    assert_eq!(recovery.torn, None, "what was torn is repaired");
    assert_eq!(see(&wal), seen);
    // Nothing can follow.
    if seen.last.is_some_and(|last| last.index == NUMBER_MAX) {
        return;
    }
    let position = Position::new(
        seen.last.map_or(1, |last| last.term),
        seen.last.map_or(0, |last| last.index + 1),
    );
    let entry = Entry {
        position,
        payload: Bytes::from_static(b"more"),
    };
    let (told, results) = mpsc::channel();
    let tell = || {
        let told = told.clone();
        move |result: io::Result<()>| told.send(result).expect("the results are read below")
    };
    wal.append(vec![entry.clone()], tell());
    wal.save_vote(Bytes::from_static(b"mine"), tell());
    while wal.drive() == Driven::Worked {}
    wal.close();
    let (wal, _) = open().expect("a log that was written to opens");
    let again = see(&wal);
    let results: Vec<io::Result<()>> = results.try_iter().collect();
    assert_eq!(results.len(), 2, "every request is answered");
    if let Some(error) = results.into_iter().find_map(Result::err) {
        assert!(error.to_string().contains(OUT_OF_NUMBERS), "{error}");
        return;
    }
    assert_eq!(again.entries.last(), Some(&entry));
    assert_eq!(again.entries.len(), seen.entries.len() + 1);
    assert_eq!(again.vote, Some(Bytes::from_static(b"mine")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Kind, SegmentHeader};

    #[test]
    fn twin() {
        quorate_fuzzing::twin("wal", seeds(), segments);
    }

    /// A log of one segment with these records.
    fn log(header: &SegmentHeader, records: &[(Kind, &[u8])]) -> Vec<u8> {
        let mut input = header.encode()[..HEAD_BYTES].to_vec();
        for (sequence, (kind, payload)) in (header.state.next_sequence..=u64::MAX).zip(records) {
            let slot = format::Slot {
                seed: 0,
                offset: 0,
                durable: HEADER_BLOCK_BYTES,
                sequence,
            };
            format::encode(&mut input, slot, *kind, &[payload]);
        }
        input
    }

    #[test]
    fn what_no_log_can_hold_is_refused() {
        let header = SegmentHeader {
            log_id: LOG_ID,
            segment: 1,
            segment_bytes: SEGMENT_BYTES as u32,
            previous_end: 0,
            state: format::LogState::default(),
        };
        let refused = |header: &SegmentHeader, records: &[(Kind, &[u8])]| {
            let disk = disk_of(&log(header, records), true);
            let text = Wal::open(disk.mount(), options())
                .map(|_| ())
                .unwrap_err()
                .to_string();
            let reason = text.split([':', ';']).nth(2).unwrap_or_default();
            reason.trim().to_owned()
        };
        let last = format::encode_position(Position::new(1, NUMBER_MAX + 1));
        let first = format::encode_position(Position::new(1, 1));
        assert_eq!(
            refused(&header, &[(Kind::Entry, &last)]),
            "an entry without a position"
        );
        assert_eq!(
            refused(&header, &[(Kind::Purge, &last)]),
            "a purge without a position"
        );
        for half in [&last[..], &first[..9]] {
            assert_eq!(
                refused(&header, &[(Kind::Entry, &first), (Kind::Truncate, half)]),
                "a truncation without a position"
            );
        }
        for kind in [Kind::Vote, Kind::Committed] {
            assert_eq!(
                refused(&header, &[(kind, &[1; crate::MAX_STATE_BYTES + 1])]),
                "a vote or a committed mark that is too long"
            );
        }
        let mut numbered = header.clone();
        numbered.state.next_sequence = NUMBER_MAX + 1;
        assert_eq!(
            refused(&numbered, &[]),
            "the segment's header has an impossible number"
        );
        for segment_bytes in [0, crate::MAX_SEGMENT_BYTES as u32 + HEADER_BLOCK_BYTES] {
            let sized = SegmentHeader {
                segment_bytes,
                ..header.clone()
            };
            assert_eq!(
                refused(&sized, &[]),
                "the segment's header has an impossible size"
            );
        }
        let newest = SegmentHeader {
            segment: u32::MAX,
            ..header
        };
        assert_eq!(
            refused(&newest, &[]),
            "the segment's header has an impossible number"
        );
    }
}

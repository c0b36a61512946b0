//! Bytes on disk: records and segment headers.
//!
//! A segment is a file of fixed size: one header block of 4096 bytes, then records at multiples of eight,
//! then zeros. All numbers are little-endian. A record:
//!
//! ```text
//! 0   crc      u32  CRC32C over log id, segment number, own offset, and everything from `length` to the padding
//! 4   length   u32  payload bytes
//! 8   kind     u8
//! 9   mark     3 bytes, always the same: cheap to look for when searching behind damage
//! 12  durable  u32  everything in this segment before this offset was durable when the record was written
//! 16  sequence u64  counts all records of the log without gaps
//! 24  payload, zero-padded to a multiple of eight
//! ```
//!
//! A record counts only where it was written: bytes of another log, another segment, or another offset fail
//! the checksum, whatever a recycled block holds. `durable` is what tells a torn write from damage: see
//! [`crate::recovery`].

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};

use crate::options::MAX_STATE_BYTES;
use crate::types::Position;

/// Newest format that this program reads, and the one it writes.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Size of the block at the start of a segment.
pub(crate) const HEADER_BLOCK_BYTES: u32 = 4096;
/// Size of a record without its payload.
pub(crate) const RECORD_HEADER_BYTES: u32 = 24;
/// Bytes of an entry's payload that hold its position.
pub(crate) const ENTRY_PREFIX_BYTES: u32 = 16;

/// The largest index of an entry, and the largest number of the record that a segment begins with: far enough from where
/// counting ends for all records of a segment. At a million records each second a log gets here after 146,000 years.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;
/// The largest number of a segment; the largest of 32 bits has none after it.
pub(crate) const SEGMENT_MAX: u32 = u32::MAX - 1;

/// What a segment begins with.
pub(crate) const MAGIC: [u8; 8] = *b"QrtWal\r\n";
const MARK: [u8; 3] = *b"qWr";

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Entry = 1,
    Vote = 2,
    Committed = 3,
    Truncate = 4,
    Purge = 5,
    /// Nothing but its `durable` field.
    Durable = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Entry,
            2 => Kind::Vote,
            3 => Kind::Committed,
            4 => Kind::Truncate,
            5 => Kind::Purge,
            6 => Kind::Durable,
            _ => return None,
        })
    }
}

/// Bytes that a record with this payload takes on disk.
pub(crate) fn encoded_bytes(payload_bytes: u32) -> u32 {
    RECORD_HEADER_BYTES + payload_bytes.next_multiple_of(8)
}

/// Payload bytes of a record that holds an entry.
pub(crate) fn entry_payload_bytes(entry_bytes: usize) -> u32 {
    ENTRY_PREFIX_BYTES + entry_bytes as u32
}

/// Where a record's checksum starts: differs for every segment of every log.
pub(crate) fn segment_seed(log_id: u64, segment: u32) -> u32 {
    crc32c_append(crc32c(&log_id.to_le_bytes()), &segment.to_le_bytes())
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) crc: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) kind: Kind,
    pub(crate) durable: u32,
    pub(crate) sequence: u64,
}

impl RecordHeader {
    /// Reads the fixed part; an error says why these bytes cannot start a record.
    pub(crate) fn parse(bytes: &[u8; RECORD_HEADER_BYTES as usize]) -> Result<RecordHeader, &'static str> {
        if bytes[9..12] != MARK {
            return Err("no record starts here");
        }
        let kind = Kind::from_byte(bytes[8]).ok_or("unknown kind of record")?;
        Ok(RecordHeader {
            crc: u32_at(bytes, 0),
            payload_bytes: u32_at(bytes, 4),
            kind,
            durable: u32_at(bytes, 12),
            sequence: u64_at(bytes, 16),
        })
    }
}

/// Checks a whole record (fixed part, payload, padding) that stands at `offset`.
pub(crate) fn checksum_ok(seed: u32, offset: u32, record: &[u8]) -> bool {
    record.len() >= RECORD_HEADER_BYTES as usize && u32_at(record, 0) == checksum(seed, offset, &record[4..])
}

fn checksum(seed: u32, offset: u32, rest: &[u8]) -> u32 {
    crc32c_append(crc32c_append(seed, &offset.to_le_bytes()), rest)
}

/// What the writer knows about the place of the record it encodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) seed: u32,
    pub(crate) offset: u32,
    pub(crate) durable: u32,
    pub(crate) sequence: u64,
}

/// Appends a record to `buffer`; its payload is `parts` one after another.
pub(crate) fn encode(buffer: &mut Vec<u8>, slot: Slot, kind: Kind, parts: &[&[u8]]) {
    let start = buffer.len();
    let payload_bytes: usize = parts.iter().map(|part| part.len()).sum();
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&(payload_bytes as u32).to_le_bytes());
    buffer.push(kind as u8);
    buffer.extend_from_slice(&MARK);
    buffer.extend_from_slice(&slot.durable.to_le_bytes());
    buffer.extend_from_slice(&slot.sequence.to_le_bytes());
    for part in parts {
        buffer.extend_from_slice(part);
    }
    buffer.resize(start + encoded_bytes(payload_bytes as u32) as usize, 0);
    let crc = checksum(slot.seed, slot.offset, &buffer[start + 4..]);
    buffer[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// The payload of a position.
pub(crate) fn encode_position(position: Position) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&position.term.to_le_bytes());
    bytes[8..].copy_from_slice(&position.index.to_le_bytes());
    bytes
}

/// Reads the position at the start of a payload; `None`, too, where its index is beyond [`NUMBER_MAX`].
pub(crate) fn decode_position(payload: &[u8]) -> Option<Position> {
    let bytes = payload.get(..16)?;
    let position = Position {
        term: u64_at(bytes, 0),
        index: u64_at(bytes, 8),
    };
    (position.index <= NUMBER_MAX).then_some(position)
}

/// What a segment says about itself and about the log before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log_id: u64,
    pub(crate) segment: u32,
    pub(crate) segment_bytes: u32,
    /// Where the records of the segment before end; 0 for the first segment.
    pub(crate) previous_end: u32,
    pub(crate) state: LogState,
}

/// The log as of the start of a segment, so that older segments can go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogState {
    /// Sequence number of the next record.
    pub(crate) next_sequence: u64,
    pub(crate) last: Option<Position>,
    pub(crate) purged: Option<Position>,
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<Bytes>,
}

/// Why a header block is not one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    Damaged(&'static str),
    NewerVersion(u32),
}

impl SegmentHeader {
    /// The whole header block. Its checksum covers all of it in every version.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(HEADER_BLOCK_BYTES as usize);
        block.extend_from_slice(&MAGIC);
        block.extend_from_slice(&[0; 4]);
        block.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        block.extend_from_slice(&self.log_id.to_le_bytes());
        for number in [self.segment, self.segment_bytes, self.previous_end] {
            block.extend_from_slice(&number.to_le_bytes());
        }
        block.extend_from_slice(&self.state.next_sequence.to_le_bytes());
        for position in [self.state.last, self.state.purged] {
            block.push(u8::from(position.is_some()));
            block.extend_from_slice(&encode_position(position.unwrap_or(Position::new(0, 0))));
        }
        for bytes in [&self.state.vote, &self.state.committed] {
            block.push(u8::from(bytes.is_some()));
            let bytes = bytes.as_deref().unwrap_or_default();
            block.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            block.extend_from_slice(bytes);
        }
        assert!(
            block.len() <= HEADER_BLOCK_BYTES as usize,
            "vote and committed mark are bounded"
        );
        block.resize(HEADER_BLOCK_BYTES as usize, 0);
        let crc = crc32c(&block[12..]);
        block[8..12].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// Reads a header block.
    pub(crate) fn decode(block: &[u8]) -> Result<SegmentHeader, HeaderError> {
        if block.len() != HEADER_BLOCK_BYTES as usize || block[..8] != MAGIC {
            return Err(HeaderError::Damaged("this is not the header of a log segment"));
        }
        if u32_at(block, 8) != crc32c(&block[12..]) {
            return Err(HeaderError::Damaged(
                "the checksum of the segment's header is wrong",
            ));
        }
        match u32_at(block, 12) {
            FORMAT_VERSION => {}
            version if version > FORMAT_VERSION => return Err(HeaderError::NewerVersion(version)),
            _ => return Err(HeaderError::Damaged("unknown format of the segment")),
        }
        Cursor(&block[16..])
            .header()
            .ok_or(HeaderError::Damaged("the segment's header cannot be decoded"))
    }
}

/// Takes fields off the front of a header block.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn header(&mut self) -> Option<SegmentHeader> {
        Some(SegmentHeader {
            log_id: self.u64()?,
            segment: self.u32()?,
            segment_bytes: self.u32()?,
            previous_end: self.u32()?,
            state: LogState {
                next_sequence: self.u64()?,
                last: self.position()?,
                purged: self.position()?,
                vote: self.bytes()?,
                committed: self.bytes()?,
            },
        })
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32_at(self.take(4)?, 0))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64_at(self.take(8)?, 0))
    }

    fn position(&mut self) -> Option<Option<Position>> {
        let present = self.take(1)?[0] == 1;
        let position = decode_position(self.take(16)?)?;
        Some(present.then_some(position))
    }

    fn bytes(&mut self) -> Option<Option<Bytes>> {
        let present = self.take(1)?[0] == 1;
        let count = self.u32()? as usize;
        if count > MAX_STATE_BYTES {
            return None;
        }
        let bytes = Bytes::copy_from_slice(self.take(count)?);
        Some(present.then_some(bytes))
    }
}

/// Reads a number; the caller has checked that it is there.
fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(number)
}

/// Reads a number; the caller has checked that it is there.
fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(number)
}

/// Makes the checksum of a header block right, whatever stands in it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn seal_header(block: &mut [u8]) {
    let crc = crc32c(&block[12..]);
    block[8..12].copy_from_slice(&crc.to_le_bytes());
}

/// What the record at the start of `bytes` says that its payload has; `None` where no record stands there.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn payload_bytes(bytes: &[u8]) -> Option<u32> {
    let header = RecordHeader::parse(bytes.first_chunk()?);
    header.ok().map(|header| header.payload_bytes)
}

/// Makes the checksum of a whole record right, whatever stands in it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn seal_record(seed: u32, offset: u32, record: &mut [u8]) {
    let crc = checksum(seed, offset, &record[4..]);
    record[..4].copy_from_slice(&crc.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            log_id: 7,
            segment: 3,
            segment_bytes: 1 << 16,
            previous_end: 5000,
            state: LogState {
                next_sequence: 99,
                last: Some(Position::new(4, 50)),
                purged: None,
                vote: Some(Bytes::from_static(b"vote")),
                committed: Some(Bytes::new()),
            },
        }
    }

    #[test]
    fn a_header_comes_back_and_every_flip_in_it_is_seen() {
        let block = header().encode();
        assert_eq!(SegmentHeader::decode(&block), Ok(header()));
        for byte in 0..block.len() {
            let mut flipped = block.clone();
            flipped[byte] ^= 1 << (byte % 8);
            assert!(
                matches!(SegmentHeader::decode(&flipped), Err(HeaderError::Damaged(_))),
                "byte {byte}"
            );
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut block = header().encode();
        block[12..16].copy_from_slice(&2u32.to_le_bytes());
        let crc = crc32c(&block[12..]);
        block[8..12].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&block), Err(HeaderError::NewerVersion(2)));
    }

    #[test]
    fn the_largest_vote_and_committed_mark_fit() {
        let mut header = header();
        header.state.vote = Some(vec![1; crate::MAX_STATE_BYTES].into());
        header.state.committed = Some(vec![2; crate::MAX_STATE_BYTES].into());
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn a_record_counts_only_in_its_place() {
        let slot = Slot {
            seed: segment_seed(7, 3),
            offset: 4096,
            durable: 4096,
            sequence: 1,
        };
        let mut record = Vec::new();
        encode(&mut record, slot, Kind::Vote, &[b"ab", b"c"]);
        assert_eq!(record.len() as u32, encoded_bytes(3));
        assert!(checksum_ok(slot.seed, 4096, &record));
        assert!(!checksum_ok(slot.seed, 4104, &record), "another offset");
        assert!(!checksum_ok(segment_seed(7, 4), 4096, &record), "another segment");
        assert!(!checksum_ok(segment_seed(8, 3), 4096, &record), "another log");
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!checksum_ok(slot.seed, 4096, &flipped), "bit {bit}");
        }
    }
}

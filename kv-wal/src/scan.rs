//! Reads records out of a segment, one after another or searching behind damage.

use std::io;

use crate::disk::DiskFile;
use crate::format::{
    HEADER_BLOCK_BYTES, Kind, RECORD_HEADER_BYTES, RecordHeader, checksum_ok, encoded_bytes,
};

/// How much is read at once.
const WINDOW_BYTES: u32 = 1 << 20;

/// A record and its payload.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) kind: Kind,
    pub(crate) durable: u32,
    pub(crate) sequence: u64,
    pub(crate) payload: &'a [u8],
}

/// What lies behind the last whole record of the last segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Behind {
    /// Offset of a whole record that says that the place searched from had been durable.
    pub(crate) witness: Option<u32>,
    /// End of the last byte that is not zero; where the search began when all are.
    pub(crate) nonzero_end: u32,
}

/// A window that moves over a segment.
pub(crate) struct Scanner<'a> {
    file: &'a dyn DiskFile,
    seed: u32,
    size: u32,
    window: Vec<u8>,
    window_start: u32,
}

impl<'a> Scanner<'a> {
    /// Over a segment of `size` bytes, whose checksums start at `seed`.
    pub(crate) fn new(file: &'a dyn DiskFile, seed: u32, size: u32) -> Scanner<'a> {
        Scanner {
            file,
            seed,
            size,
            window: Vec::new(),
            window_start: 0,
        }
    }

    /// Bytes `offset..offset + count`, which lie within the segment.
    fn bytes(&mut self, offset: u32, count: u32) -> io::Result<&[u8]> {
        let window_end = self.window_start + self.window.len() as u32;
        if offset < self.window_start || offset + count > window_end {
            let fill = count.max(WINDOW_BYTES).min(self.size - offset);
            self.window.resize(fill as usize, 0);
            self.window_start = offset;
            if let Err(error) = self.file.read_exact_at(&mut self.window, u64::from(offset)) {
                self.window.clear();
                return Err(error);
            }
        }
        let at = (offset - self.window_start) as usize;
        Ok(&self.window[at..at + count as usize])
    }

    /// The record at `offset`; the inner error says why there is none.
    pub(crate) fn record(&mut self, offset: u32) -> io::Result<Result<Found<'_>, &'static str>> {
        if offset + RECORD_HEADER_BYTES > self.size {
            return Ok(Err("the segment ends here"));
        }
        let mut fixed = [0; RECORD_HEADER_BYTES as usize];
        fixed.copy_from_slice(self.bytes(offset, RECORD_HEADER_BYTES)?);
        let header = match RecordHeader::parse(&fixed) {
            Ok(header) => header,
            Err(reason) => return Ok(Err(reason)),
        };
        if header.payload_bytes > self.size - offset - RECORD_HEADER_BYTES {
            return Ok(Err("a record is longer than its segment"));
        }
        let (seed, count) = (self.seed, encoded_bytes(header.payload_bytes));
        let record = self.bytes(offset, count)?;
        if !checksum_ok(seed, offset, record) {
            return Ok(Err("the checksum of a record is wrong"));
        }
        let payload_end = (RECORD_HEADER_BYTES + header.payload_bytes) as usize;
        Ok(Ok(Found {
            kind: header.kind,
            durable: header.durable,
            sequence: header.sequence,
            payload: &record[RECORD_HEADER_BYTES as usize..payload_end],
        }))
    }

    /// Searches everything from `start` to the end of the segment.
    pub(crate) fn behind(&mut self, start: u32) -> io::Result<Behind> {
        let mut behind = Behind {
            witness: None,
            nonzero_end: start,
        };
        let mut block_start = start;
        while block_start < self.size {
            let count = WINDOW_BYTES.min(self.size - block_start);
            let block = self.bytes(block_start, count)?;
            if let Some(end) = nonzero_end(block) {
                behind.nonzero_end = block_start + end;
                let candidates = candidates(block, block_start, start);
                for candidate in candidates {
                    if behind.witness.is_none() && self.is_witness(candidate, start)? {
                        behind.witness = Some(candidate);
                    }
                }
            }
            block_start += count;
        }
        Ok(behind)
    }

    /// Whether a whole record stands at `offset` that was written when `start` was already durable.
    fn is_witness(&mut self, offset: u32, start: u32) -> io::Result<bool> {
        Ok(self.record(offset)?.is_ok_and(|found| found.durable > start))
    }
}

/// End of the last byte in `block` that is not zero. Most of a segment is zeros: compared by page.
fn nonzero_end(block: &[u8]) -> Option<u32> {
    const PAGE: usize = 4096;
    let page = block
        .chunks(PAGE)
        .rposition(|page| *page != [0; PAGE][..page.len()])?;
    let last = block[page * PAGE..]
        .iter()
        .take(PAGE)
        .rposition(|byte| *byte != 0)?;
    Some((page * PAGE + last) as u32 + 1)
}

/// Offsets in `block` at which a record might start that claims more than `start` to be durable.
fn candidates(block: &[u8], block_start: u32, start: u32) -> Vec<u32> {
    assert!(
        block_start.is_multiple_of(8) && start >= HEADER_BLOCK_BYTES,
        "records stand at multiples of 8"
    );
    let fixed = RECORD_HEADER_BYTES as usize;
    let mut offsets = Vec::new();
    for at in (0..block.len()).step_by(8) {
        let offset = block_start + at as u32;
        match block.get(at..at + fixed) {
            Some(bytes) => {
                let mut array = [0; RECORD_HEADER_BYTES as usize];
                array.copy_from_slice(bytes);
                let claims = |header: RecordHeader| header.durable > start && header.durable <= offset;
                if RecordHeader::parse(&array).is_ok_and(claims) {
                    offsets.push(offset);
                }
            }
            // The fixed part crosses into the next block: looked at in full.
            None => offsets.push(offset),
        }
    }
    offsets
}

//! One file: what programs see, what is durable, and the writes between the two.

use super::Crash;
use super::random::Random;

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

#[derive(Clone)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Allocate { size: usize },
}

#[derive(Clone, Default)]
pub(super) struct FileData {
    visible: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

impl FileData {
    pub(super) fn size(&self) -> u64 {
        self.visible.len() as u64
    }

    pub(super) fn visible(&self) -> &[u8] {
        &self.visible
    }

    pub(super) fn write(&mut self, data: &[u8], offset: u64) {
        let offset = offset as usize;
        put(&mut self.visible, data, offset);
        self.unsynced.push(Change::Write {
            offset,
            data: data.to_vec(),
        });
    }

    pub(super) fn allocate(&mut self, size: u64) {
        let size = size as usize;
        extend(&mut self.visible, size);
        self.unsynced.push(Change::Allocate { size });
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            match change {
                Change::Write { offset, data } => put(&mut self.durable, &data, offset),
                Change::Allocate { size } => extend(&mut self.durable, size),
            }
        }
    }

    /// A sync failed: what was written stays visible and will never be durable.
    pub(super) fn forget_unsynced(&mut self) {
        self.unsynced.clear();
    }

    pub(super) fn flip(&mut self, bit: u64) -> bool {
        let (byte, mask) = ((bit / 8) as usize, 1 << (bit % 8));
        for bytes in [&mut self.visible, &mut self.durable] {
            match bytes.get_mut(byte) {
                Some(byte) => *byte ^= mask,
                None => return false,
            }
        }
        true
    }

    pub(super) fn cut(&mut self, size: usize) {
        self.visible.truncate(size);
        self.durable.truncate(size);
    }

    pub(super) fn crash(&mut self, crash: Crash, random: &mut Random) {
        match crash {
            Crash::LoseAll => self.unsynced.clear(),
            Crash::KeepAll => self.sync(),
            Crash::Random(_) => {
                for change in std::mem::take(&mut self.unsynced) {
                    self.crash_change(change, random);
                }
            }
        }
        self.visible = self.durable.clone();
    }

    fn crash_change(&mut self, change: Change, random: &mut Random) {
        match change {
            Change::Allocate { size } => {
                if random.coin() {
                    extend(&mut self.durable, size);
                }
            }
            Change::Write { offset, data } => match random.below(4) {
                0 => {}
                1 => put(&mut self.durable, &data, offset),
                2 => {
                    let kept = random.below(data.len() as u64 + 1) as usize;
                    put(&mut self.durable, &data[..kept], offset);
                }
                _ => tear(&mut self.durable, &data, offset, random),
            },
        }
    }
}

/// Keeps each sector of a write by the toss of a coin.
fn tear(bytes: &mut Vec<u8>, data: &[u8], offset: usize, random: &mut Random) {
    let mut at = 0;
    while at < data.len() {
        let sector_end = (offset + at + 1).next_multiple_of(SECTOR_BYTES);
        let end = (sector_end - offset).min(data.len());
        if random.coin() {
            put(bytes, &data[at..end], offset + at);
        }
        at = end;
    }
}

fn put(bytes: &mut Vec<u8>, data: &[u8], offset: usize) {
    if !data.is_empty() {
        extend(bytes, offset + data.len());
        bytes[offset..offset + data.len()].copy_from_slice(data);
    }
}

fn extend(bytes: &mut Vec<u8>, size: usize) {
    if bytes.is_empty() {
        // Fresh zeros cost nothing until they are touched.
        *bytes = vec![0; size];
    } else if bytes.len() < size {
        bytes.resize(size, 0);
    }
}

//! Changes to valid encodings. Random bytes alone rarely get past a checksum or a length.

use proptest::{prelude::*, sample::Index};

/// Changes made to one input, at most.
const EDITS_MAX: usize = 6;
/// Bytes that one change moves, at most: beyond that, inputs grow without saying more.
const MOVED_BYTES_MAX: usize = 64;

/// One change.
#[derive(Clone, Debug)]
enum Edit {
    /// One bit turned around.
    Flip { at: Index, bit: u8 },
    /// Bytes overwritten with a number, as a length that grew or a count that is none.
    Number { at: Index, width: usize, number: u64 },
    /// Bytes cut out.
    Cut { at: Index, count: usize },
    /// Everything from here on cut off.
    End { at: Index },
    /// Bytes that stand elsewhere in it, inserted.
    Repeat { from: Index, count: usize, to: Index },
    /// Bytes of another valid encoding, inserted.
    Splice {
        other: Index,
        from: Index,
        count: usize,
        to: Index,
    },
    /// Any bytes, inserted.
    Insert { at: Index, bytes: Vec<u8> },
}

/// The inputs, each with a few changes.
pub(crate) fn changed(inputs: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec(edit(), 1..=EDITS_MAX);
    (any::<Index>(), edits).prop_map(move |(which, edits)| {
        let mut input = which.get(&inputs).clone();
        for edit in &edits {
            edit.make(&mut input, &inputs);
        }
        input
    })
}

fn edit() -> impl Strategy<Value = Edit> {
    let place = any::<Index>;
    let count = || 1..=MOVED_BYTES_MAX;
    prop_oneof![
        4 => (place(), 0..8_u8).prop_map(|(at, bit)| Edit::Flip { at, bit }),
        4 => (place(), prop::sample::select(&[1_usize, 2, 4, 8]), number())
            .prop_map(|(at, width, number)| Edit::Number { at, width, number }),
        2 => (place(), count()).prop_map(|(at, count)| Edit::Cut { at, count }),
        1 => place().prop_map(|at| Edit::End { at }),
        2 => (place(), count(), place()).prop_map(|(from, count, to)| Edit::Repeat { from, count, to }),
        2 => (place(), place(), count(), place())
            .prop_map(|(other, from, count, to)| Edit::Splice { other, from, count, to }),
        2 => (place(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, bytes)| Edit::Insert { at, bytes }),
    ]
}

/// Where arithmetic ends, and whatever else.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        prop::sample::select(&[
            0,
            1,
            0x7f,
            0x80,
            0x7fff,
            0x7fff_ffff,
            i64::MAX as u64,
            u64::MAX - 1
        ]),
        Just(u64::MAX),
        0..300_u64,
        any::<u64>(),
    ]
}

impl Edit {
    fn make(&self, input: &mut Vec<u8>, others: &[Vec<u8>]) {
        // One more than there are bytes, so that there is always a place.
        let size = input.len() + 1;
        match self {
            Edit::Flip { at, bit } => {
                if let Some(byte) = input.get_mut(at.index(size)) {
                    *byte ^= 1 << bit;
                }
            }
            Edit::Number { at, width, number } => {
                let bytes = number.to_le_bytes();
                for (byte, new) in input.iter_mut().skip(at.index(size)).zip(&bytes[..*width]) {
                    *byte = *new;
                }
            }
            Edit::Cut { at, count } => {
                let at = at.index(size);
                input.drain(at..(at + count).min(input.len()));
            }
            Edit::End { at } => input.truncate(at.index(size)),
            Edit::Repeat { from, count, to } => {
                let moved = stretch(input, from, *count);
                insert(input, to, moved);
            }
            Edit::Splice {
                other,
                from,
                count,
                to,
            } => insert(input, to, stretch(other.get::<Vec<u8>>(others), from, *count)),
            Edit::Insert { at, bytes } => insert(input, at, bytes.clone()),
        }
    }
}

fn stretch(input: &[u8], from: &Index, count: usize) -> Vec<u8> {
    let from = from.index(input.len() + 1);
    input[from..(from + count).min(input.len())].to_vec()
}

fn insert(input: &mut Vec<u8>, at: &Index, bytes: Vec<u8>) {
    let at = at.index(input.len() + 1);
    input.splice(at..at, bytes);
}

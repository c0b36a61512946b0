//! Frames: what nodes write to their logs and say to each other, in bincode.
//!
//! A frame is `[version: u8][crc32c of the body: u32 LE][body]`. A frame of an unknown version, with
//! a wrong checksum, above [`MAX_FRAME_BYTES`], or with bytes left over is refused; nothing in it is
//! trusted before its checksum is. bincode 1.3.3 is frozen and complete; its encoding of integers is
//! the variable-length one, little endian.

use bincode::Options;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

/// The version this node writes, and the only one it reads.
const VERSION: u8 = 1;
pub(crate) const HEADER_BYTES: usize = 5;

/// The largest frame: a batch of log entries (see `raft::network`) is kept well below it.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Fewer bytes than a header.
    #[error("frame of {0} bytes is shorter than its header")]
    TooShort(usize),
    /// The sender speaks another version.
    #[error("frame has version {0}, this node reads version {VERSION}: run nodes of neighbouring releases")]
    Version(u8),
    /// The bytes are not those that were written.
    #[error("frame is damaged: checksum {found:08x}, expected {expected:08x}")]
    Checksum {
        /// Computed over what arrived.
        found: u32,
        /// Stated in the header.
        expected: u32,
    },
    /// The body is not what it should be.
    #[error("frame cannot be decoded: {0}")]
    Body(#[from] bincode::Error),
}

impl From<CodecError> for std::io::Error {
    fn from(error: CodecError) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}

fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_limit(MAX_FRAME_BYTES as u64)
        .reject_trailing_bytes()
}

/// Encodes a value into a frame.
///
/// # Errors
/// When the value is larger than [`MAX_FRAME_BYTES`].
pub fn encode<T: Serialize>(value: &T) -> Result<Bytes, CodecError> {
    let size = options().serialized_size(value)? as usize;
    let mut frame = BytesMut::with_capacity(HEADER_BYTES + size);
    frame.put_u8(VERSION);
    frame.put_u32_le(0);
    let mut writer = frame.writer();
    options().serialize_into(&mut writer, value)?;
    let mut frame = writer.into_inner();
    let checksum = crc32c::crc32c(&frame[HEADER_BYTES..]);
    frame[1..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    Ok(frame.freeze())
}

/// Decodes a frame.
///
/// # Errors
/// See [`CodecError`].
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, CodecError> {
    let Some((&[version, c0, c1, c2, c3], body)) = frame.split_first_chunk::<HEADER_BYTES>() else {
        return Err(CodecError::TooShort(frame.len()));
    };
    if version != VERSION {
        return Err(CodecError::Version(version));
    }
    let (found, expected) = (crc32c::crc32c(body), u32::from_le_bytes([c0, c1, c2, c3]));
    if found != expected {
        return Err(CodecError::Checksum { found, expected });
    }
    Ok(options().deserialize(body)?)
}

/// A frame around a body, whatever that is.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn seal(body: &[u8]) -> Vec<u8> {
    [&[VERSION], &crc32c::crc32c(body).to_le_bytes()[..], body].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decodes_what_it_encoded(value: (u64, String, Vec<u8>, Option<i64>)) {
            let frame = encode(&value).unwrap();
            prop_assert_eq!(decode::<(u64, String, Vec<u8>, Option<i64>)>(&frame).unwrap(), value);
        }

        #[test]
        fn refuses_any_flipped_bit(value: (u64, Vec<u8>), bit: prop::sample::Index) {
            let mut frame = encode(&value).unwrap().to_vec();
            let bit = bit.index(frame.len() * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode::<(u64, Vec<u8>)>(&frame).is_err());
        }

        #[test]
        fn never_panics_on_garbage(bytes: Vec<u8>) {
            let _ = decode::<(u64, Vec<String>)>(&bytes);
        }

        #[test]
        fn refuses_bytes_left_over(value: u64, more in 1usize..9) {
            let body = options().serialize(&value).unwrap().into_iter().chain(std::iter::repeat_n(0, more));
            let body: Vec<u8> = body.collect();
            let mut frame = vec![VERSION];
            frame.extend(crc32c::crc32c(&body).to_le_bytes());
            frame.extend(body);
            prop_assert!(matches!(decode::<u64>(&frame), Err(CodecError::Body(_))));
        }
    }
}

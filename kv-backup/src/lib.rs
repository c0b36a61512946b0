//! The file of a backup: what `Maintenance.Snapshot` streams, what a client keeps, and what a new cluster is
//! made of.
//!
//! ```text
//! "quorate backup 1\n"
//! { length u32 LE (not 0), bytes }*      the first frame is the manifest, as JSON
//! 0 u32                                  the end of the frames
//! 0 u8 *                                 up to a multiple of 512 bytes
//! SHA-256 of all before
//! ```
//!
//! Promises: the same bytes for the same frames; whoever reads to the end knows that not a bit differs from
//! what was written. etcd's own client takes a file of this length and end for a snapshot with a hash. What is
//! in the frames after the manifest is the business of the node, which checks it once more.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const MAGIC: &[u8] = b"quorate backup 1\n";
/// What the name of every version begins with.
const NAME: &[u8] = b"quorate backup ";
const BLOCK_BYTES: u64 = 512;
const HASH_BYTES: usize = 32;
/// The name under which a backup lies in a data directory that is to be made of it.
pub const RESTORE_FILE: &str = "restore.quorate";
/// The longest frame.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// What a backup is of: its first frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The release of the node that made it.
    pub release: String,
    /// The cluster it was made in.
    pub cluster_id: u64,
    /// The revision that it is of.
    pub revision: i64,
    /// The compacted revision; -1 for none.
    pub compacted: i64,
    /// How many keys exist at the revision.
    pub keys: u64,
}

/// The hash at the end of a backup, which also tells backups apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash(pub [u8; HASH_BYTES]);

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a file is not read as a backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The disk refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("it is not a backup of this product")]
    Foreign,
    /// A later release wrote it.
    #[error("a newer release has written it: use that one")]
    Newer,
    /// It is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// Makes the bytes of a backup, piece by piece.
#[derive(Debug)]
pub struct Encoder {
    hasher: Sha256,
    bytes: u64,
}

impl Encoder {
    /// Begins; the bytes come first in the file.
    pub fn new(manifest: &Manifest) -> (Encoder, Vec<u8>) {
        let mut encoder = Encoder {
            hasher: Sha256::new(),
            bytes: 0,
        };
        let mut begin = encoder.take(MAGIC.to_vec());
        let manifest = serde_json::to_vec(manifest).unwrap_or_default();
        begin.append(&mut encoder.frame(&manifest));
        (encoder, begin)
    }

    /// The next frame.
    ///
    /// # Panics
    /// Where it is empty, or longer than [`FRAME_BYTES_MAX`].
    pub fn frame(&mut self, frame: &[u8]) -> Vec<u8> {
        assert!(
            !frame.is_empty() && frame.len() <= FRAME_BYTES_MAX,
            "a frame of {} bytes",
            frame.len()
        );
        let length = frame.len() as u32;
        self.take([&length.to_le_bytes()[..], frame].concat())
    }

    /// The end.
    pub fn finish(mut self) -> Vec<u8> {
        let length = (self.bytes + 4).next_multiple_of(BLOCK_BYTES) - self.bytes;
        let mut end = self.take(vec![0; length as usize]);
        end.extend_from_slice(&self.hasher.finalize());
        end
    }

    fn take(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        self.hasher.update(&bytes);
        self.bytes += bytes.len() as u64;
        bytes
    }
}

/// Reads a backup, piece by piece. Nothing in it is to be relied on before [`Decoder::next`] has come to its end.
#[derive(Debug)]
pub struct Decoder<R> {
    input: R,
    hasher: Sha256,
    bytes: u64,
    manifest: Manifest,
    hash: Option<Hash>,
}

impl<R: Read> Decoder<R> {
    /// Reads up to the manifest.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn new(input: R) -> Result<Decoder<R>, BackupError> {
        let mut decoder = Decoder {
            input,
            hasher: Sha256::new(),
            bytes: 0,
            manifest: Manifest::default(),
            hash: None,
        };
        let magic = decoder.take(MAGIC.len()).map_err(|error| match error {
            BackupError::Damaged(_) => BackupError::Foreign,
            other => other,
        })?;
        if magic != MAGIC {
            let is_ours = magic.starts_with(NAME);
            return Err(if is_ours {
                BackupError::Newer
            } else {
                BackupError::Foreign
            });
        }
        let manifest = decoder
            .next()?
            .ok_or(BackupError::Damaged("there is no manifest"))?;
        decoder.manifest = serde_json::from_slice(&manifest)
            .map_err(|_| BackupError::Damaged("the manifest cannot be read"))?;
        Ok(decoder)
    }

    /// What it is of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The hash, once all has been read.
    pub fn hash(&self) -> Option<Hash> {
        self.hash
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next frame; `None`: there are no more, and all of them are as they were written.
    ///
    /// # Errors
    /// [`BackupError`].
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator would go on after an error"
    )]
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        if self.hash.is_some() {
            return Ok(None);
        }
        let length = self.take(4)?;
        let length = length.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)) as usize;
        match length {
            0 => {
                self.finish()?;
                Ok(None)
            }
            1..=FRAME_BYTES_MAX => self.take(length).map(Some),
            _ => Err(BackupError::Damaged("a frame is too long")),
        }
    }

    fn finish(&mut self) -> Result<(), BackupError> {
        let padding = self.bytes.next_multiple_of(BLOCK_BYTES) - self.bytes;
        if self.take(padding as usize)?.iter().any(|byte| *byte != 0) {
            return Err(BackupError::Damaged("its end is not as it was written"));
        }
        let computed: [u8; HASH_BYTES] = self.hasher.clone().finalize().into();
        if self.take(HASH_BYTES)? != computed {
            return Err(BackupError::Damaged("its hash does not match"));
        }
        if self.input.read(&mut [0])? != 0 {
            return Err(BackupError::Damaged("it goes on after its end"));
        }
        self.hash = Some(Hash(computed));
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, BackupError> {
        let mut bytes = Vec::new();
        // Memory grows with what is there, whatever the length says.
        let read = self.input.by_ref().take(length as u64).read_to_end(&mut bytes)?;
        if read < length {
            return Err(BackupError::Damaged("it is cut off"));
        }
        self.hasher.update(&bytes);
        self.bytes += length as u64;
        Ok(bytes)
    }
}

/// Reads all of a backup, and says what it is of, its hash, and how long it is.
///
/// # Errors
/// [`BackupError`].
pub fn check(input: impl Read) -> Result<(Manifest, Hash, u64), BackupError> {
    let mut decoder = Decoder::new(input)?;
    while decoder.next()?.is_some() {}
    let hash = decoder.hash().ok_or(BackupError::Damaged("it is cut off"))?;
    Ok((decoder.manifest, hash, decoder.bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            release: "1.2.3".to_owned(),
            cluster_id: u64::MAX,
            revision: 7,
            compacted: -1,
            keys: 3,
        }
    }

    fn encode(frames: &[Vec<u8>]) -> Vec<u8> {
        let (mut encoder, mut file) = Encoder::new(&manifest());
        for frame in frames {
            file.append(&mut encoder.frame(frame));
        }
        file.append(&mut encoder.finish());
        file
    }

    fn decode(file: &[u8]) -> Result<Vec<Vec<u8>>, BackupError> {
        let mut decoder = Decoder::new(file)?;
        let mut frames = Vec::new();
        while let Some(frame) = decoder.next()? {
            frames.push(frame);
        }
        assert!(decoder.hash().is_some());
        Ok(frames)
    }

    fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 1..700), 0..5)
    }

    proptest! {
        #[test]
        fn comes_back_and_looks_like_etcds(frames in frames()) {
            let file = encode(&frames);
            prop_assert_eq!(file.len() % 512, 32);
            prop_assert_eq!(&decode(&file).unwrap(), &frames);
            let (found, hash, bytes) = check(&file[..]).unwrap();
            prop_assert_eq!((found, bytes), (manifest(), file.len() as u64));
            let end: [u8; 32] = Sha256::digest(&file[..file.len() - 32]).into();
            prop_assert_eq!(hash, Hash(end));
        }

        #[test]
        fn whatever_is_not_as_it_was_written_is_found(
            frames in frames(), at in any::<prop::sample::Index>(), bit in 0..8_u8,
        ) {
            let file = encode(&frames);
            let mut flipped = file.clone();
            flipped[at.index(file.len())] ^= 1 << bit;
            prop_assert!(decode(&flipped).is_err());
            prop_assert!(decode(&file[..at.index(file.len())]).is_err());
            prop_assert!(decode(&[&file[..], &[0]].concat()).is_err());
        }
    }

    #[test]
    fn says_what_it_is_not() {
        assert!(matches!(
            check(&b"SQLite format 3"[..]),
            Err(BackupError::Foreign)
        ));
        assert!(matches!(
            check(&b"quorate backup 2\nanything"[..]),
            Err(BackupError::Newer)
        ));
    }
}

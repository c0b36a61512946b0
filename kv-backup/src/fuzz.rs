//! What a fuzzer or its twin asks of whoever reads a backup.

use sha2::{Digest, Sha256};

use crate::{BLOCK_BYTES, BackupError, Decoder, Encoder, HASH_BYTES, MAGIC, Manifest, check};

/// Reads a backup of these bytes, as they are, and with their end made right.
///
/// # Panics
/// Where two readings of it do not agree.
pub fn file(input: &[u8]) {
    let _ = read(input);
    let sealed = seal(input);
    let found = read(&sealed);
    let is_ours = input.starts_with(MAGIC);
    assert!(is_ours || matches!(found, Err(BackupError::Foreign | BackupError::Newer)));
}

/// Backups without frames after the manifest, with some, and with ones that fill whole blocks.
pub fn seeds() -> Vec<Vec<u8>> {
    let manifest = Manifest {
        release: "1.2.3".to_owned(),
        cluster_id: 7,
        revision: 9,
        compacted: -1,
        keys: 2,
    };
    let backup = |frames: &[usize]| {
        let (mut encoder, mut file) = Encoder::new(&manifest);
        for bytes in frames {
            file.append(&mut encoder.frame(&vec![b'f'; *bytes]));
        }
        file.append(&mut encoder.finish());
        file
    };
    vec![backup(&[]), backup(&[1, 30, 200]), backup(&[600, 1])]
}

fn read(input: &[u8]) -> Result<(), BackupError> {
    let mut read_bytes = 0;
    let frames = (|| {
        let mut decoder = Decoder::new(input)?;
        while let Some(frame) = decoder.next()? {
            assert!(!frame.is_empty());
            read_bytes += frame.len();
        }
        assert!(matches!(decoder.next(), Ok(None)), "the end is the end");
        Ok((decoder.manifest().clone(), decoder.hash(), decoder.bytes()))
    })();
    assert!(read_bytes <= input.len());
    match (frames, check(input)) {
        (Ok((manifest, hash, bytes)), Ok(checked)) => {
            assert_eq!((manifest, hash, bytes), (checked.0, Some(checked.1), checked.2));
            assert_eq!(bytes, input.len() as u64);
            Ok(())
        }
        (Err(error), Err(checked)) => {
            assert_eq!(BackupError::to_string(&error), checked.to_string());
            Err(error)
        }
        (frames, checked) => panic!("{frames:?}, but {checked:?}"),
    }
}

/// The backup with these frames, as far as they are whole, and the padding and the hash that belong to them.
fn seal(input: &[u8]) -> Vec<u8> {
    let mut end = MAGIC.len().min(input.len());
    while let Some(length) = input[end..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes)) {
        let next = (end + 4).checked_add(length as usize);
        match next.filter(|next| length > 0 && *next <= input.len()) {
            Some(next) => end = next,
            None => break,
        }
    }
    let mut file = input[..end].to_vec();
    file.resize((end + 4).next_multiple_of(BLOCK_BYTES as usize), 0);
    let hash: [u8; HASH_BYTES] = Sha256::digest(&file).into();
    file.extend_from_slice(&hash);
    file
}

#[cfg(test)]
mod tests {
    #[test]
    fn twin() {
        quorate_fuzzing::twin("backup", super::seeds(), super::file);
    }
}

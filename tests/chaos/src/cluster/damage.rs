//! Flipped bits in the files of a node that does not run.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

/// A part of a node's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    /// The Raft log and the vote: the truth.
    Log,
    /// The applied state: made from the log.
    Store,
}

impl Part {
    fn directory(self) -> &'static str {
        match self {
            Part::Log => "wal",
            Part::Store => "store",
        }
    }
}

/// Flips one bit of a file of this part, where the file holds something; says where.
pub(crate) fn flip(data_dir: &Path, part: Part, rng: &mut StdRng) -> anyhow::Result<String> {
    let mut files = Vec::new();
    collect(&data_dir.join(part.directory()), &mut files)?;
    files.sort();
    let mut written = Vec::new();
    for path in files {
        if used_bytes(&read(&path)?).next().is_some() {
            written.push(path);
        }
    }
    ensure!(
        !written.is_empty(),
        "{} has no data to damage",
        data_dir.display()
    );
    let path = &written[rng.random_range(0..written.len())];
    let bytes = read(path)?;
    let chosen = rng.random_range(0..used_bytes(&bytes).count());
    let offset = used_bytes(&bytes)
        .nth(chosen)
        .context("there are as many as counted")?;
    let bit = rng.random_range(0..8);
    let file = File::options()
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let place = usize::try_from(offset).context("a file larger than memory")?;
    file.write_all_at(&[bytes[place] ^ (1 << bit)], offset)?;
    file.sync_all()?;
    let name = path.strip_prefix(data_dir).unwrap_or(path).display();
    Ok(format!("bit {bit} of byte {offset} of {name}"))
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// Offsets of the bytes that are not zero: segments are longer than what was written to them.
fn used_bytes(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let used = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0);
    used.map(|(offset, _)| offset as u64)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn exactly_one_bit_of_what_was_written_differs() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("wal");
        std::fs::create_dir(&log).unwrap();
        let mut before = vec![0; 1000];
        before[100..200].fill(0xa5);
        std::fs::write(log.join("segment"), &before).unwrap();
        let said = flip(dir.path(), Part::Log, &mut StdRng::seed_from_u64(7)).unwrap();
        let after = std::fs::read(log.join("segment")).unwrap();
        let differing: Vec<usize> = (0..1000).filter(|i| before[*i] != after[*i]).collect();
        assert_eq!(differing.len(), 1);
        assert!((100..200).contains(&differing[0]));
        assert_eq!((before[differing[0]] ^ after[differing[0]]).count_ones(), 1);
        assert!(
            said.contains(&format!("byte {} of wal/segment", differing[0])),
            "{said}"
        );
    }
}

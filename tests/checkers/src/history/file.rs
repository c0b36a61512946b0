//! Histories as lines of JSON.

use std::io::{self, BufRead, Write};

use super::Record;

/// Why a history could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("the history cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A line is no record.
    #[error("line {line} of the history is no record: {source}")]
    Line {
        /// Which, counted from 1.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// Writes one record as one line. Give it a buffered writer.
///
/// # Errors
/// Those of the writer.
pub fn write(to: &mut impl Write, record: &Record) -> io::Result<()> {
    serde_json::to_writer(&mut *to, record)?;
    to.write_all(b"\n")
}

/// Reads all records.
///
/// # Errors
/// [`Error::Io`]; [`Error::Line`] for a line that is no record, the torn last one of a run that was killed too.
pub fn read(from: impl BufRead) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    for (index, line) in from.lines().enumerate() {
        let record = serde_json::from_str(&line?).map_err(|source| Error::Line {
            line: index + 1,
            source,
        })?;
        records.push(record);
    }
    Ok(records)
}

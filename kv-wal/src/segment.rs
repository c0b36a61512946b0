//! Segment files: their names, and how one comes to be.
//!
//! A segment is made under the name `spare`, allocated in full, given its header and synced, and only then
//! renamed to its number. So a numbered file always has a whole header: if not, it is damaged.

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::error::WriteError;
use crate::format::SegmentHeader;

/// Name of the file allocated ahead.
pub(crate) const SPARE_NAME: &str = "spare";

/// Name of the segment with this number.
pub(crate) fn file_name(segment: u32) -> String {
    format!("{segment:010}.wal")
}

/// Number of the segment with this name; `None` for a file that is no segment.
pub(crate) fn parse_name(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".wal")?;
    let number = digits.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

/// Makes and allocates a spare file; one that lies around is replaced.
pub(crate) fn make_spare(disk: &dyn Disk, segment_bytes: u32) -> Result<Arc<dyn DiskFile>, WriteError> {
    remove_spare(disk).map_err(WriteError::of_write)?;
    let file = disk.create(SPARE_NAME).map_err(WriteError::of_write)?;
    if let Err(error) = file.allocate(u64::from(segment_bytes)) {
        // A half-allocated file would hold the last free blocks of a full disk.
        if let Err(error) = remove_spare(disk) {
            tracing::warn!(%error, "the log's spare segment cannot be removed");
        }
        return Err(WriteError::of_write(error));
    }
    Ok(file)
}

/// Removes the spare file if there is one. Not synced: a spare that comes back is replaced.
pub(crate) fn remove_spare(disk: &dyn Disk) -> io::Result<()> {
    match disk.remove(SPARE_NAME) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Turns the spare file into the segment that `header` describes. Can be repeated after
/// [`WriteError::Full`].
pub(crate) fn activate(
    disk: &dyn Disk,
    spare: &dyn DiskFile,
    header: &SegmentHeader,
) -> Result<(), WriteError> {
    spare
        .write_all_at(&header.encode(), 0)
        .map_err(WriteError::of_write)?;
    spare.sync_data().map_err(WriteError::of_sync)?;
    disk.rename(SPARE_NAME, &file_name(header.segment))
        .map_err(WriteError::of_write)?;
    disk.sync_dir().map_err(WriteError::of_sync)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_numbers_and_others_are_ignored() {
        assert!(file_name(9) < file_name(10));
        assert_eq!(parse_name(&file_name(u32::MAX)), Some(u32::MAX));
        for name in [
            "1.wal",
            "0000000001",
            "000000000x.wal",
            "0000000001.wal.bak",
            SPARE_NAME,
        ] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}

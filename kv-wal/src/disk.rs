//! The seam to the disk: what the log needs of a directory and its files, and nothing else.
//!
//! Two implementations: [`RealDisk`](crate::RealDisk) and [`SimDisk`](crate::sim::SimDisk). What is promised
//! after a crash is what POSIX and Linux promise: data counts after `sync_data` of its file, a name after
//! `sync_dir` of the directory, and nothing else does.

use std::io;
use std::ops::Range;
use std::sync::Arc;

/// A directory that belongs to one log.
pub trait Disk: Send + Sync + 'static {
    /// Names of all files in it, in any order.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file.
    ///
    /// # Errors
    /// `AlreadyExists`, or whatever the disk says.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading and writing, once at a time.
    ///
    /// # Errors
    /// `NotFound`, or whatever the disk says.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name; a file of that name is replaced.
    ///
    /// # Errors
    /// `NotFound`, or whatever the disk says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Handles that are open stay readable; its room may be free only some time after the last is closed.
    ///
    /// # Errors
    /// `NotFound`, or whatever the disk says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all creations, renames and removals durable.
    ///
    /// # Errors
    /// Whatever the disk says; the directory is not to be trusted then.
    fn sync_dir(&self) -> io::Result<()>;
}

/// An open file, shared between the writer and readers.
pub trait DiskFile: Send + Sync + 'static {
    /// Size in bytes.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` past the end, or whatever the disk says.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `data` at `offset`. After an error any part of it may have been written.
    ///
    /// # Errors
    /// `StorageFull`, or whatever the disk says.
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the file `size` bytes long, zeros where nothing was written, and reserves the room where the
    /// file system can.
    ///
    /// # Errors
    /// `StorageFull`, or whatever the disk says. What it has got by then may be left to it.
    fn allocate(&self, size: u64) -> io::Result<()>;

    /// Writes zeros to a range that is allocated and was never written: it reads as before, but a file system that
    /// notes which blocks were written has noted it, and syncs of what is written there later need not wait for its
    /// journal.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn clear(&self, range: Range<u64>) -> io::Result<()>;

    /// Makes data and size durable.
    ///
    /// # Errors
    /// Whatever the disk says; what was written since the last sync is not to be trusted then.
    fn sync_data(&self) -> io::Result<()>;
}

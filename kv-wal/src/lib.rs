//! The write-ahead log of a node: Raft's entries and vote on disk.
//!
//! A [`Wal`] is a directory of segment files to which one writer appends records: entries, votes, committed
//! marks, truncations and purges, in the order in which they were asked for. Whatever waits while the disk
//! syncs goes into the next batch, with one sync for all of it (group commit).
//!
//! It promises:
//! - what was acknowledged is there after a crash of the process or a power cut, and what is there after it
//!   is exactly what some prefix of the requests made;
//! - damage to what was acknowledged is found, never served; `recovery` says what the one exception is
//!   (the very last batch before a power cut, if its own record is damaged too);
//! - a full disk loses nothing: the writer waits for room;
//! - after a failed sync nothing more is acknowledged, ever.
//!
//! It leaves to others: what entries and votes mean, Raft's rules on terms, shedding load
//! ([`Wal::queued_bytes`]), and keeping a second process out of the directory.
//!
//! ```
//! use std::sync::{Arc, mpsc};
//! use kv_wal::{Entry, Options, Position, Wal, sim::SimDisk};
//!
//! let disk = Arc::new(SimDisk::new());
//! let (wal, _) = Wal::open(disk.clone(), Options::default())?;
//! let (sender, receiver) = mpsc::channel();
//! let entry = Entry { position: Position::new(1, 0), payload: "hello".into() };
//! wal.append(vec![entry.clone()], move |result| sender.send(result).unwrap());
//! receiver.recv()??;
//! wal.close();
//!
//! let (wal, recovery) = Wal::open(disk, Options::default())?;
//! assert_eq!(recovery.entries, 1);
//! assert_eq!(wal.read(0..10, 1 << 20)?, vec![entry]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Modules, in the order of a write: `wal` (requests) → `state` (what callers see; the queue) → `writer`
//! (batches; `shared` has its thread) → `format` (bytes) and `segment` (files) → [`Disk`]. Back again: `recovery` → `scan` and
//! `replay` → `index`; and `read`, from `cache` or disk.

mod cache;
mod disk;
mod error;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod index;
mod options;
mod read;
mod real;
mod recovery;
mod replay;
mod scan;
mod segment;
mod shared;
pub mod sim;
mod state;
mod types;
mod wal;
mod writer;

pub use disk::{Disk, DiskFile};
pub use error::OpenError;
pub use options::{
    Drive, MAX_SEGMENT_BYTES, MAX_STATE_BYTES, Options, Recovery, RequestObserver, Stats, SyncObserver, Torn,
};
pub use real::RealDisk;
pub use types::{Entry, Position};
pub use wal::Wal;
pub use writer::Driven;

//! The applied state of a node: kv-core's state machine on an ordered engine, with snapshots.
//!
//! ```text
//! apply ─→ kv_core::State ─→ queue ─→ writer thread ─→ engine (sled, or its twin in memory)
//!            │ plan            │ records              │ blocks of records
//! range ─────┴─ values: queue, then cache, then engine, with no lock held
//! ```
//!
//! The log is the truth, and this is a materialisation of it: after a crash the store is at some
//! applied point at or above the durable one, whole, and the log has the rest. What is damaged is found (every
//! value has a checksum, records and facts have a tally) and never served; the store is then set aside and rebuilt.
//!
//! It leaves to others: the log, Raft's own state (it keeps an opaque blob), what facts mean (it keeps their bytes),
//! watches, and when to sync, sweep, and take snapshots.

mod apply;
mod block;
mod codec;
mod engine;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod hash;
mod history;
mod home;
mod install;
mod live;
mod load;
mod meta;
mod pieces;
mod prefetch;
mod queue;
mod record;
pub mod sim;
mod snapshot;
mod store;
mod sweep;
mod writer;

pub use apply::{Applied, Entry};
pub use engine::{Batch, Engine, EngineError, KeyRange, MemEngine, Scan, SledEngine, SledOptions};
pub use error::{Fault, OpenError, ReadError, SnapshotError};
pub use hash::HashKv;
pub use history::{History, HistoryError, HistoryLimits};
pub use install::{Install, PreparedSnapshot};
pub use load::Loaded;
pub use meta::AppliedPoint;
pub use pieces::RangePieces;
pub use queue::Records;
pub use snapshot::{Chunks, Progress, SnapshotHeader, SnapshotView, chunk_number};
pub use store::{Drive, Options, RangeRead, Store};

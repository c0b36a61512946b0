//! A load generator for any etcd v3 endpoint: `bench put|range|mixed|watch|lease`.
//!
//! It is meant to share a machine with the servers it measures, so it is cheap: no lock and no retry on the way
//! of a request, payloads made in advance, one histogram per client. Errors are counted, never repeated.

mod args;
mod lease;
mod load;
mod report;
mod run;
mod watch;

pub use args::{
    BenchArgs, BenchCommand, LeaseBenchArgs, MixedArgs, RangeBenchArgs, ReadArgs, WatchBenchArgs,
};
pub(crate) use run::{Demand, Performance, perform, run};

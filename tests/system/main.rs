//! Tests of the whole system, on real processes and in real containers.

// A test ends at the first thing that is not as it should be, in its helpers too.
#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod chaos;
mod churn;
mod containers;
mod demo;
mod etcdctl;
mod following;
mod live;
mod registration;

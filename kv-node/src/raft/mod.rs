//! Consensus: openraft behind this one folder, so that its next release touches nothing else.

pub mod connection;
pub mod forward;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod leader;
pub mod log_store;
pub mod member;
pub mod network;
pub mod pace;
pub mod peer_service;
pub mod propose;
pub mod read_index;
pub mod receive;
pub mod state_machine;
pub mod submit;
pub mod transfer;
pub mod types;

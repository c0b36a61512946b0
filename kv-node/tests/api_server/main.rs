//! Everything a node serves on its client port, asked over real sockets of a real node.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without, fails it")]

mod auth;
mod cluster;
mod command_line;
#[path = "../common/mod.rs"]
mod common;
mod compatibility;
mod differential;
mod errors;
mod gateway;
mod grpc;
mod harness;
mod lease;
mod lock;
mod ops;
mod patroni;
mod range_stream;
mod rest;
mod watch;
mod watch_cluster;

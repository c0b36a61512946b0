//! Everything a node serves on its client port, asked over real sockets of a real node.

mod grpc;
mod harness;
mod ops;
mod rest;

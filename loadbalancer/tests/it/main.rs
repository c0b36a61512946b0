//! The balancer on real sockets, in front of small servers that do as each test needs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod balance;
mod discovery;
mod lifecycle;
mod limits;
mod observe;
mod retry;
mod support;
mod tls;
mod upload;

//! Ports that nobody listens on.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::bail;
use rand::RngExt as _;

/// Where ports are looked for: below the range from which the kernel takes those of outgoing connections, so that
/// a node that is started again finds its port free.
const FIRST: u16 = 15_000;
const COUNT: u16 = 15_000;
/// Places that are tried.
const ATTEMPTS: u16 = 1_000;

/// The first of `count` ports in a row that were free a moment ago.
pub(crate) fn free(count: u16) -> anyhow::Result<u16> {
    for _ in 0..ATTEMPTS {
        let first = FIRST + rand::rng().random_range(0..COUNT - count);
        if (first..first + count).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()) {
            return Ok(first);
        }
    }
    bail!(
        "no {count} free ports in a row between {FIRST} and {}",
        FIRST + COUNT
    )
}

//! Ports that nobody listens on.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Where ports are looked for: below the range from which the kernel takes those of outgoing connections, so that
/// a server that is restarted finds its port free.
const FIRST: u16 = 15_000;
const COUNT: u16 = 15_000;

/// `N` ports that were free a moment ago, in a row. Test processes that run at the same time start looking at different places.
pub(crate) fn free(count: u16) -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % u32::from(COUNT)).expect("smaller than COUNT");
    for _ in 0..COUNT {
        let offset = process
            .wrapping_mul(97)
            .wrapping_add(TAKEN.fetch_add(count, Ordering::Relaxed))
            % (COUNT - count);
        let first = FIRST + offset;
        if (first..first + count).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()) {
            return first;
        }
    }
    panic!("no {count} free ports in a row");
}

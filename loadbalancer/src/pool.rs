//! The backends of one kind, and whose turn it is.
//!
//! The list is replaced as a whole by discovery ([`Pool::publish`]) and read without a lock. A request
//! takes one look at it ([`Pool::turn`]) and then asks for backends one after the other; no backend is
//! given twice to one request. Among those that may be used the turn goes round by request, evenly also
//! while some are out. If none may be used, all are tried as if nothing were known:
//! trying costs an error that would be given anyway.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use arc_swap::ArcSwap;

use crate::backend::{Backend, Kind, Lease};
use crate::histogram::Histogram;

/// Backends of one kind at most; further ones that discovery finds are left out, with a warning.
pub const BACKENDS_MAX: usize = 64;

/// Why a request got no backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoBackend {
    /// None is known, or each has been tried.
    Exhausted,
    /// Each that could be used has as many requests as it may.
    Full,
}

/// What is counted over all backends of a kind.
#[derive(Debug, Default)]
pub struct Totals {
    /// Requests from clients.
    pub requests: AtomicU64,
    /// Requests that the balancer answered itself because no backend could.
    pub undelivered: AtomicU64,
    /// Requests of unknown outcome: the connection broke after they were sent.
    pub broken: AtomicU64,
    /// Requests turned away because every backend had as many as it may.
    pub rejected: AtomicU64,
    /// Attempts on a further backend.
    pub retries: AtomicU64,
    /// Requests sent although no backend was up.
    pub all_down_picks: AtomicU64,
    /// Time from the request to the head of its response.
    pub duration: Histogram,
}

/// The backends of one kind.
#[derive(Debug)]
pub struct Pool {
    /// Nodes or web apps.
    pub kind: Kind,
    /// What is counted.
    pub totals: Totals,
    backends: ArcSwap<Vec<Arc<Backend>>>,
    next: AtomicUsize,
}

impl Pool {
    /// A pool without backends.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Pool {
            kind,
            totals: Totals::default(),
            backends: ArcSwap::default(),
            next: AtomicUsize::new(0),
        }
    }

    /// Replaces the list.
    ///
    /// # Panics
    /// With more than [`BACKENDS_MAX`].
    pub fn publish(&self, backends: Vec<Arc<Backend>>) {
        assert!(backends.len() <= BACKENDS_MAX, "discovery bounds the list");
        self.backends.store(Arc::new(backends));
    }

    /// The list.
    #[must_use]
    pub fn backends(&self) -> Arc<Vec<Arc<Backend>>> {
        self.backends.load_full()
    }

    /// How many may be used now.
    #[must_use]
    pub fn usable(&self) -> usize {
        self.backends.load().iter().filter(|b| b.is_usable()).count()
    }

    /// One request's turn.
    #[must_use]
    pub fn turn(&self) -> Turn<'_> {
        self.totals.requests.fetch_add(1, Relaxed);
        Turn {
            pool: self,
            backends: self.backends.load_full(),
            number: self.next.fetch_add(1, Relaxed),
            passed: 0,
        }
    }
}

/// One request's way through the backends.
#[derive(Debug)]
pub struct Turn<'a> {
    pool: &'a Pool,
    backends: Arc<Vec<Arc<Backend>>>,
    number: usize,
    /// Bit i: backend i has been given to this request, or was full.
    passed: u64,
}

impl Turn<'_> {
    /// The next backend to try.
    ///
    /// # Errors
    /// [`NoBackend`] when there is none left.
    pub fn next_backend(&mut self) -> Result<Lease, NoBackend> {
        let mut full = false;
        loop {
            let mut choice = self.mask(|backend| backend.is_usable());
            // Usable ones that are full must not send the crowd to those that are out.
            if choice == 0 && !full {
                choice = self.mask(|backend| !backend.is_barred());
                if choice != 0 {
                    self.pool.totals.all_down_picks.fetch_add(1, Relaxed);
                }
            }
            let Some(index) = nth_set_bit(choice, self.number) else {
                return Err(if full {
                    NoBackend::Full
                } else {
                    NoBackend::Exhausted
                });
            };
            self.passed |= 1 << index;
            match self.backends[index].lease() {
                Some(lease) => return Ok(lease),
                None => full = true,
            }
        }
    }

    fn mask(&self, wanted: impl Fn(&Backend) -> bool) -> u64 {
        let mut mask = 0;
        for (index, backend) in self.backends.iter().enumerate() {
            if self.passed & (1 << index) == 0 && wanted(backend) {
                mask |= 1 << index;
            }
        }
        mask
    }
}

/// The index of the (`n` mod number of set bits)th set bit.
fn nth_set_bit(mut mask: u64, n: usize) -> Option<usize> {
    let count = mask.count_ones() as usize;
    if count == 0 {
        return None;
    }
    for _ in 0..n % count {
        mask &= mask - 1;
    }
    Some(mask.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::LastCheck;
    use crate::health::{Fault, Thresholds};
    use crate::upstream::Limits;
    use std::time::{Duration, Instant};

    fn pool(up: &[bool], in_flight_max: usize) -> Pool {
        let pool = Pool::new(Kind::Node);
        let limits = Limits {
            in_flight_max,
            ..Limits::default()
        };
        let make = |(i, good): (usize, &bool)| {
            let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1000 + u16::try_from(i).unwrap()));
            let backend = Backend::new(addr.into(), Kind::Node, Thresholds::default(), &limits);
            let check = LastCheck {
                good: *good,
                text: String::new(),
                latency: Duration::ZERO,
                at: Instant::now(),
            };
            backend.checked(check);
            backend
        };
        pool.publish(up.iter().enumerate().map(make).collect());
        pool
    }

    fn port(lease: &Lease) -> u16 {
        lease.backend().addr.port()
    }

    #[test]
    fn turns_are_even_while_one_is_out() {
        let pool = pool(&[true, false, true, true], 10);
        let mut counts = [0; 4];
        for _ in 0..300 {
            counts[usize::from(port(&pool.turn().next_backend().unwrap())) - 1000] += 1;
        }
        assert_eq!(counts, [100, 0, 100, 100]);
    }

    #[test]
    fn a_request_tries_each_once_then_those_that_are_out() {
        let pool = pool(&[true, false, true], 10);
        let mut turn = pool.turn();
        let first = port(&turn.next_backend().unwrap());
        let second = port(&turn.next_backend().unwrap());
        assert_eq!([first.min(second), first.max(second)], [1000, 1002]);
        assert_eq!(port(&turn.next_backend().unwrap()), 1001);
        assert_eq!(turn.next_backend().err(), Some(NoBackend::Exhausted));
        assert_eq!(pool.totals.all_down_picks.load(Relaxed), 1);
    }

    #[test]
    fn all_ejected_are_tried_anyway_but_draining_ones_are_not() {
        let pool = pool(&[true, true], 10);
        let list = pool.backends();
        list[0].failed(Fault::Connect, &"refused");
        list[1].failed(Fault::Connect, &"refused");
        assert_eq!(pool.usable(), 0);
        assert!(pool.turn().next_backend().is_ok());
        list[0].set_draining(true);
        for _ in 0..4 {
            assert_eq!(port(&pool.turn().next_backend().unwrap()), 1001);
        }
    }

    #[test]
    fn full_backends_are_passed_and_then_the_request_is_turned_away() {
        let pool = pool(&[true, true, false], 2);
        let held: Vec<_> = (0..4).map(|_| pool.turn().next_backend().unwrap()).collect();
        assert_eq!(pool.turn().next_backend().err(), Some(NoBackend::Full));
        drop(held);
        assert!(pool.turn().next_backend().is_ok());
    }

    #[test]
    fn no_backends_at_all() {
        assert_eq!(
            Pool::new(Kind::Web).turn().next_backend().err(),
            Some(NoBackend::Exhausted)
        );
    }

    proptest::proptest! {
        #[test]
        fn nth_set_bit_is_the_nth_of_the_list(mask: u64, n in 0usize..1000) {
            let bits: Vec<usize> = (0..64).filter(|i| mask & (1 << i) != 0).collect();
            let expected = bits.get(n % bits.len().max(1)).copied();
            proptest::prop_assert_eq!(nth_set_bit(mask, n), expected);
        }
    }
}

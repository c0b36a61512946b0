//! The endpoints of a client, and in which order they are tried.
//!
//! One endpoint is preferred and stays so while it answers: serializable reads then see one node's history,
//! which never goes back. When it fails the next good one takes its place, for good.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use tokio::time::Instant;

use crate::auth::Auth;
use crate::connection::Connection;

/// How long an endpoint that failed is tried only after the others.
pub const PENALTY: Duration = Duration::from_secs(5);

/// The endpoints of a client, never none, and who it is to them.
pub(crate) struct Pool {
    slots: Vec<Slot>,
    auth: Auth,
    preferred: AtomicUsize,
}

struct Slot {
    connection: Arc<Connection>,
    bad_until: Mutex<Option<Instant>>,
}

impl Slot {
    fn is_bad(&self) -> bool {
        let bad_until = self.bad_until.lock().unwrap_or_else(PoisonError::into_inner);
        bad_until.is_some_and(|until| Instant::now() < until)
    }

    fn set_bad_until(&self, until: Option<Instant>) {
        *self.bad_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

impl Pool {
    pub(crate) fn new(connections: Vec<Arc<Connection>>, auth: Auth) -> Pool {
        assert!(!connections.is_empty(), "a pool has at least one endpoint");
        let slots = connections
            .into_iter()
            .map(|connection| Slot {
                connection,
                bad_until: Mutex::new(None),
            })
            .collect();
        Pool {
            slots,
            auth,
            preferred: AtomicUsize::new(0),
        }
    }

    pub(crate) fn auth(&self) -> &Auth {
        &self.auth
    }

    pub(crate) fn connection(&self, index: usize) -> &Arc<Connection> {
        &self.slots[index].connection
    }

    pub(crate) fn connections(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.slots.iter().map(|slot| &slot.connection)
    }

    /// Every endpoint once: the preferred one, then those after it, and those that failed lately last.
    pub(crate) fn order(&self) -> Vec<usize> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut order: Vec<usize> = (0..self.slots.len())
            .map(|step| (first + step) % self.slots.len())
            .collect();
        order.sort_by_key(|&index| self.slots[index].is_bad());
        order
    }

    /// The endpoint served a request.
    pub(crate) fn answered(&self, index: usize) {
        self.slots[index].set_bad_until(None);
        if self.slots[self.preferred.load(Ordering::Relaxed)].is_bad() {
            self.preferred.store(index, Ordering::Relaxed);
        }
    }

    /// A stream of the endpoint with this origin broke.
    pub(crate) fn broke(&self, origin: &Uri) {
        let is_at = |slot: &&Slot| slot.connection.endpoint().origin == *origin;
        if let Some(slot) = self.slots.iter().find(is_at) {
            slot.set_bad_until(Some(Instant::now() + PENALTY));
        }
    }

    /// The endpoint could not be reached, has no leader, or left a request unanswered.
    pub(crate) fn failed(&self, index: usize) {
        self.slots[index].set_bad_until(Some(Instant::now() + PENALTY));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{PENALTY, Pool};
    use crate::Config;
    use crate::auth::Auth;
    use crate::connection::{Connection, Dialer};
    use crate::endpoint::Endpoint;

    fn pool(size: usize) -> Pool {
        let dialer = Dialer::new(&Config::new(["a:1"])).unwrap();
        let connection = |_| Arc::new(Connection::new(Endpoint::parse("a:1").unwrap(), &dialer));
        Pool::new((0..size).map(connection).collect(), Auth::new(None))
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_endpoint_goes_last_until_its_penalty_is_over() {
        let pool = pool(3);
        assert_eq!(pool.order(), [0, 1, 2]);
        pool.failed(0);
        assert_eq!(pool.order(), [1, 2, 0]);
        tokio::time::advance(PENALTY).await;
        assert_eq!(pool.order(), [0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_answers_in_place_of_the_preferred_one_stays_preferred() {
        let pool = pool(3);
        pool.failed(0);
        pool.answered(1);
        tokio::time::advance(PENALTY).await;
        assert_eq!(pool.order(), [1, 2, 0]);
        pool.answered(2);
        assert_eq!(
            pool.order(),
            [1, 2, 0],
            "an answer of another one changes nothing while the first is good"
        );
    }
}

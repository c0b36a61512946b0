//! Locks.

use bytes::Bytes;
use kv_proto::etcdserverpb::DeleteRangeRequest;

use crate::line::{self, Place};
use crate::{Client, Error, Lease};

/// A lock that is held as long as its lease lives and until it is unlocked.
///
/// A holder that was stopped for longer than its lease does not know that it holds the lock no more. Where that
/// matters, give [`Lock::revision`] to what the lock protects, and let it refuse smaller numbers than it has seen.
#[derive(Debug)]
#[must_use = "it is held until it is unlocked, or its lease ends"]
pub struct Lock {
    client: Client,
    place: Place,
}

impl Client {
    /// Waits until it holds the lock of this name, under a lease. The same lock as that of etcd's `etcdctl lock` and
    /// Lock service. A call that is dropped while it waits keeps its place until the lease ends.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]; [`Error::Rejected`], [`Error::NoQuorum`], [`Error::Timeout`] where nobody can be asked.
    pub async fn lock(&self, lease: &Lease, name: &[u8]) -> Result<Lock, Error> {
        let place = line::reach_the_front(self, lease, name, Bytes::new()).await?;
        Ok(Lock {
            client: self.clone(),
            place,
        })
    }
}

impl Lock {
    /// The key that stands for the lock while it is held.
    pub fn key(&self) -> &Bytes {
        &self.place.key
    }

    /// The fencing number: larger than that of every holder before.
    pub fn revision(&self) -> i64 {
        self.place.revision
    }

    /// Lets the next one have it.
    ///
    /// # Errors
    /// Those of [`Client::delete_range`]; the lock ends with its lease at the latest.
    pub async fn unlock(self) -> Result<(), Error> {
        let request = DeleteRangeRequest {
            key: self.place.key,
            ..Default::default()
        };
        self.client.delete_range(request).await.map(drop)
    }
}

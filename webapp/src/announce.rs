//! Being found: this instance's address in the store, under a lease that it keeps alive.
//!
//! The convention, for any program: the key is `services/<service>/<instance>`, the value JSON with the URL of the
//! instance in `address`; further fields are for people. Whoever looks for the service follows the prefix with a
//! watch. A program that ends takes its key away; of one that dies the key goes with the lease.

use kv_client::{Client, Error, Lease};
use kv_proto::etcdserverpb::{DeleteRangeRequest, PutRequest};
use serde::Serialize;
use std::future::Future;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The prefix of the keys of all services.
pub const SERVICES: &str = "services/";
/// The service that web apps are.
pub const SERVICE: &str = "webapp";
/// How long a dead instance is still listed, in seconds.
pub const TTL_S: i64 = 5;
/// Pause after an attempt that failed.
const PAUSE: Duration = Duration::from_millis(500);
/// How long taking the key away may hold up the end of the program.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// One instance of the service.
#[derive(Debug, Clone, Serialize)]
pub struct Instance {
    /// The URL at which it serves.
    pub address: String,
    /// The host that it runs on.
    pub host: String,
}

impl Instance {
    /// Stays announced until `stop` resolves; then takes the announcement back. A lease that was lost is replaced by
    /// a new one, and a store that does not answer is asked again.
    pub async fn announce(self, client: Client, stop: impl Future<Output = ()> + Send) {
        // Its own for each life of a process: a restarted one does not fight with what is left of the last.
        let key = format!("{SERVICES}{SERVICE}/{:016x}", rand::random::<u64>());
        let staying = async {
            loop {
                let lost = self.enter(&client, &key).await.lost().await;
                tracing::warn!(key, %lost, "no longer announced");
            }
        };
        // What is cut off here is at most a lease that ends by itself.
        tokio::select! { () = stop => {}, () = staying => {} }
        let leave = client.delete_range(DeleteRangeRequest {
            key: key.clone().into(),
            ..DeleteRangeRequest::default()
        });
        match timeout(LEAVE_TIMEOUT, leave).await {
            Ok(Ok(_)) => tracing::info!(key, "announcement taken back"),
            Ok(Err(error)) => tracing::warn!(key, %error, "the announcement ends with its lease"),
            Err(_) => tracing::warn!(key, "the announcement ends with its lease"),
        }
    }

    /// Asks until it is announced.
    async fn enter(&self, client: &Client, key: &str) -> Lease {
        let mut told = false;
        loop {
            match self.try_enter(client, key).await {
                Ok(lease) => {
                    tracing::info!(key, address = self.address, "announced");
                    return lease;
                }
                // Once is enough: until the store answers, nothing else can be said.
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(%error, "not announced yet");
                }
                Err(error) => tracing::debug!(%error, "not announced yet"),
            }
            sleep(PAUSE).await;
        }
    }

    /// After an unknown outcome it is done again: the put is the same, and a lease without keys ends by itself.
    async fn try_enter(&self, client: &Client, key: &str) -> Result<Lease, Error> {
        let lease = client.lease(TTL_S).await?;
        let put = PutRequest {
            key: key.to_owned().into(),
            value: serde_json::to_vec(self).unwrap_or_default().into(),
            lease: lease.id(),
            ..PutRequest::default()
        };
        client.put(put).await?;
        Ok(lease)
    }
}

//! Clients that go on writing while something happens to the system, and what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kv_client::{Client, Config, Error, prefix_end};
use kv_proto::etcdserverpb::{PutRequest, RangeRequest};
use tokio::task::JoinSet;

/// What the clients' keys begin with.
const PREFIX: &str = "load/";
/// Pause of a client between two writes: the machine has other things to do as well.
const PAUSE: Duration = Duration::from_millis(5);

/// Clients, each writing new keys through one address, until they are stopped.
pub(crate) struct Load {
    client: Client,
    stopping: Arc<AtomicBool>,
    writers: JoinSet<Written>,
}

/// What clients were told.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Keys whose writes were acknowledged.
    pub(crate) acknowledged: Vec<String>,
    /// What every other write was answered.
    pub(crate) failures: Vec<Error>,
    /// The longest that a write took.
    pub(crate) slowest: Duration,
}

impl Load {
    /// Starts `clients` that write through the address.
    pub(crate) fn start(endpoint: &str, clients: usize) -> Load {
        let client = Client::new(Config::new([endpoint.to_owned()])).unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for writer in 0..clients {
            writers.spawn(write(client.clone(), writer, Arc::clone(&stopping)));
        }
        Load {
            client,
            stopping,
            writers,
        }
    }

    /// Stops the clients; panics if an acknowledged key is not there.
    pub(crate) async fn stop(self) -> Written {
        self.stopping.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        for written in self.writers.join_all().await {
            all.acknowledged.extend(written.acknowledged);
            all.failures.extend(written.failures);
            all.slowest = all.slowest.max(written.slowest);
        }
        let stored = self.client.range(RangeRequest {
            key: PREFIX.into(),
            range_end: prefix_end(PREFIX.as_bytes()),
            keys_only: true,
            ..Default::default()
        });
        let stored: std::collections::HashSet<_> =
            stored.await.unwrap().kvs.into_iter().map(|kv| kv.key).collect();
        let mut lost = all
            .acknowledged
            .iter()
            .filter(|key| !stored.contains(key.as_bytes()));
        assert_eq!(lost.next(), None, "acknowledged, and not there any more");
        println!(
            "{} writes acknowledged, {} not, the slowest took {} ms",
            all.acknowledged.len(),
            all.failures.len(),
            all.slowest.as_millis()
        );
        all
    }
}

async fn write(client: Client, writer: usize, stopping: Arc<AtomicBool>) -> Written {
    let mut written = Written::default();
    for number in 0.. {
        if stopping.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{PREFIX}{writer}/{number}");
        let request = PutRequest {
            key: key.clone().into(),
            value: number.to_string().into(),
            ..Default::default()
        };
        let began = Instant::now();
        match client.put(request).await {
            Ok(_) => written.acknowledged.push(key),
            Err(error) => written.failures.push(error),
        }
        written.slowest = written.slowest.max(began.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    written
}

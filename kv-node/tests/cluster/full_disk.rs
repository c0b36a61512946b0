//! A node whose store has lost its footing on a full disk goes on by itself, once there is room.

use std::sync::Arc;

use kv_node::running;
use kv_store::{Store, sim::SimDir};
use tokio::sync::oneshot;

use super::*;

/// The plain REST interface of a node that may be starting.
struct Rest {
    url: String,
    http: reqwest::Client,
}

impl Rest {
    /// Writes until it is taken.
    async fn put(&self, key: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let sent = self
                .http
                .put(format!("{}/v1/kv/{key}", self.url))
                .body(key.to_owned());
            match sent.send().await.and_then(reqwest::Response::error_for_status) {
                Ok(_) => return,
                Err(error) => assert!(Instant::now() < deadline, "{key} is not taken: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn get(&self, key: &str) -> String {
        let answer = self.http.get(format!("{}/v1/kv/{key}", self.url)).send().await;
        answer.unwrap().text().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ran_out_of_room_is_opened_again_when_there_is_some() {
    let root = tempfile::tempdir().unwrap();
    let machines = [Machine::new(root.path(), "n0")];
    let disk = SimDir::new();
    let opened = disk.clone();
    let env = Env {
        store: Arc::new(move |_: &Path, cluster_id| {
            let options = kv_store::Options {
                cluster_id: Some(cluster_id),
                ..kv_store::Options::default()
            };
            Ok(Store::open_simulated(&opened, options)?)
        }),
        ..Env::real()
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let config = machines[0].config("n0", static_list(&machines));
    let node = tokio::spawn(running::run(config, env, async move { stopped.await.unwrap() }));
    let rest = Rest {
        url: format!("http://{}", machines[0].client),
        http: reqwest::Client::new(),
    };
    rest.put("before").await;
    disk.set_full(true);
    // The log, which is on another disk here, has it.
    rest.put("meanwhile").await;
    until("the store has met the full disk", || disk.has_run_full()).await;
    assert_eq!(rest.get("meanwhile").await, "meanwhile", "reads go on");
    disk.set_full(false);
    until("the store is opened again", || !disk.has_run_full()).await;
    rest.put("after").await;
    for key in ["before", "meanwhile", "after"] {
        assert_eq!(rest.get(key).await, key);
    }
    stop.send(()).unwrap();
    node.await.unwrap().unwrap();
}

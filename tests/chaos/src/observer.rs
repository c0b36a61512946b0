//! Who led when: asks every node every so often, and keeps what changes.

use std::time::Duration;

use kv_client::Client;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::cluster::{Endpoint, asker};
use crate::workload::Recorder;

/// Pause between two rounds of questions.
const INTERVAL: Duration = Duration::from_millis(100);

/// From when on a node led.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Reign {
    /// When it was first seen to lead, in nanoseconds since the run began.
    pub(crate) from_ns: u64,
    /// Its name; none while nobody says that it leads.
    pub(crate) leader: Option<String>,
    /// Its term.
    pub(crate) term: u64,
}

/// A running observer.
pub(crate) struct Observer {
    stop: watch::Sender<bool>,
    task: JoinHandle<Vec<Reign>>,
}

impl Observer {
    /// Starts to observe.
    pub(crate) fn start(endpoints: watch::Receiver<Vec<Endpoint>>, recorder: &Recorder) -> Observer {
        let stop = watch::Sender::new(false);
        let task = tokio::spawn(observe(endpoints, recorder.clone(), stop.subscribe()));
        Observer { stop, task }
    }

    /// Ends it.
    pub(crate) async fn stop(self) -> anyhow::Result<Vec<Reign>> {
        self.stop.send_replace(true);
        Ok(self.task.await?)
    }
}

async fn observe(
    mut endpoints: watch::Receiver<Vec<Endpoint>>,
    recorder: Recorder,
    mut stop: watch::Receiver<bool>,
) -> Vec<Reign> {
    let mut reigns: Vec<Reign> = Vec::new();
    let mut clients: Vec<(Endpoint, Client)> = Vec::new();
    endpoints.mark_changed();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return reigns,
        }
        if endpoints.has_changed().unwrap_or(false) {
            let now = endpoints.borrow_and_update().clone();
            clients = now
                .into_iter()
                .filter_map(|endpoint| Some((endpoint.clone(), asker(&endpoint.url).ok()?)))
                .collect();
        }
        let from_ns = recorder.now_ns();
        let (term, leader) = leader(&clients).await;
        let last = reigns.last();
        if last.is_none_or(|last| last.leader != leader || (leader.is_some() && last.term != term)) {
            reigns.push(Reign {
                from_ns,
                leader,
                term,
            });
        }
    }
}

/// Who says that it leads in the highest term that anybody knows.
async fn leader(clients: &[(Endpoint, Client)]) -> (u64, Option<String>) {
    let asked = clients.iter().map(|(endpoint, client)| {
        let (endpoint, client) = (endpoint.clone(), client.clone());
        tokio::spawn(async move {
            let status = tokio::time::timeout(2 * INTERVAL, client.status(&endpoint.url)).await;
            Some((endpoint.name, status.ok()?.ok()?))
        })
    });
    let mut highest = (0, None);
    for answer in asked.collect::<Vec<_>>() {
        let Ok(Some((name, status))) = answer.await else {
            continue;
        };
        let leads = status
            .header
            .is_some_and(|header| header.member_id == status.leader);
        if status.raft_term > highest.0 {
            highest = (status.raft_term, leads.then_some(name));
        } else if status.raft_term == highest.0 && leads {
            highest.1 = Some(name);
        }
    }
    highest
}

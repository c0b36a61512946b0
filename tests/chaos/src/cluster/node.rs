//! One node of a cluster, wherever it runs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use kv_client::{Client, Config};
use kv_proto::etcdserverpb::{RangeRequest, StatusResponse};

use super::clock::Clock;
use super::compose::Container;
use super::demo::Child;
use super::disk::Disk;
use super::process::Process;

/// Longest wait for one answer about a node's state.
const ASK_WITHIN: Duration = Duration::from_secs(1);

/// What a node is doing, as far as we caused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It runs.
    Up,
    /// It is stopped by SIGSTOP.
    Paused,
    /// It was killed, or stopped when asked.
    Down,
}

/// What a node is outside of itself.
pub(crate) enum Body {
    /// A process of ours.
    Process(Box<Own>),
    /// A container that Compose made.
    Container(Container),
    /// A process of a demo.
    Demo(Child),
}

/// A process of ours, and what is its own.
pub(crate) struct Own {
    /// Number from 1 among the nodes that there are: it decides the addresses.
    pub(crate) number: u16,
    /// `http://…` for its peers.
    pub(crate) peer_url: String,
    /// Its data.
    pub(crate) data_dir: PathBuf,
    /// Its disk, where it has one of its own.
    pub(crate) disk: Option<Disk>,
    /// Its clock, where it has one of its own.
    pub(crate) clock: Option<Clock>,
    /// The process.
    pub(crate) process: Process,
}

/// One node.
pub(crate) struct Node {
    /// Its member name.
    pub(crate) name: String,
    /// `http://…` for clients.
    pub(crate) client_url: String,
    /// What runs.
    pub(crate) body: Body,
    /// What it is doing.
    pub(crate) state: State,
    /// Speaks to this node and to no other.
    pub(crate) client: Client,
}

/// A client of one endpoint for questions about it.
pub(crate) fn asker(endpoint: &str) -> anyhow::Result<Client> {
    let mut config = Config::new([endpoint]);
    config.request_timeout = ASK_WITHIN;
    config.dial_timeout = ASK_WITHIN;
    Ok(Client::new(config)?)
}

impl Node {
    /// What is its own, of a process of ours.
    ///
    /// # Errors
    /// If it is somebody else's.
    pub(crate) fn own(&mut self) -> anyhow::Result<&mut Own> {
        match &mut self.body {
            Body::Process(own) => Ok(own),
            Body::Container(_) | Body::Demo(_) => bail!("this is only possible with a cluster of its own"),
        }
    }

    /// What it says of itself, if it answers.
    pub(crate) async fn status(&self) -> Option<StatusResponse> {
        self.client.status(&self.client_url).await.ok()
    }

    /// Whether it serves a linearizable read: it is up, knows a leader, and has applied what that one has committed.
    pub(crate) async fn serves(&self) -> Result<(), String> {
        let request = RangeRequest {
            key: "chaos/ready".into(),
            ..RangeRequest::default()
        };
        let answer = self.client.range(request).await;
        answer
            .map(drop)
            .map_err(|error| format!("{}: {error}", self.name))
    }
}

//! Clients that watch: on any node, and on another one from where they were when that breaks.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kv_proto::{
    etcdserverpb::{self as pb, watch_client::WatchClient},
    mvccpb,
};
use parking_lot::Mutex;
use quorate_checkers::history::{
    Answer, Event, Keys, Outcome, Record, Reply, Request, WatchEnd, WatchResponse,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::{
    clients::Client,
    net::{CLIENTS, Host},
    wire::{end_of, key_value},
};

/// A node that does not confirm a watch for so long is given up.
const CREATION: Duration = Duration::from_secs(5);
/// Pause before the next node is tried.
const PAUSE: Duration = Duration::from_millis(500);
/// A watch stays on one node for so long, at most.
const STAY: Duration = Duration::from_secs(120);

/// The revision that each watch has seen everything up to.
pub type Seen = Arc<Mutex<BTreeMap<u64, u64>>>;

/// A client with one watch.
pub struct Watcher {
    client: Client,
    watch: u64,
    keys: Keys,
    prev_kv: bool,
    next: Option<u64>,
    seen: Seen,
    enough: CancellationToken,
}

impl Watcher {
    /// Watches keys until there is `enough`.
    pub fn new(mut client: Client, keys: Keys, seen: Seen, enough: CancellationToken) -> Watcher {
        Watcher {
            watch: u64::from(client.number),
            prev_kv: client.random.percent(30),
            client,
            keys,
            next: None,
            seen,
            enough,
        }
    }

    /// Goes on until there is enough.
    pub async fn run(mut self) {
        while !self.enough.is_cancelled() {
            let node = self.client.node();
            let start_ns = self.client.trace.now_ns();
            let request = Request::Watch {
                watch: self.watch,
                keys: self.keys.clone(),
                start_revision: self.next,
                prev_kv: self.prev_kv,
            };
            let outcome = match timeout(CREATION, self.open(node)).await {
                Ok(Ok((stream, revision))) => self.follow(stream, revision).await,
                Ok(Err(status)) => Outcome::Failed(status.message().to_owned()),
                Err(_) => Outcome::Failed("the client waits no longer".to_owned()),
            };
            let Client {
                number,
                trace,
                history,
                ..
            } = &self.client;
            trace.say(format_args!(
                "client {number} watched at node {node} {request:?}: {outcome:?}"
            ));
            history.lock().push(Record {
                client: *number,
                endpoint: format!("n{node}"),
                start_ns,
                end_ns: trace.now_ns(),
                request,
                outcome,
            });
            self.client.pause(PAUSE).await;
        }
    }

    async fn open(&mut self, node: Host) -> Result<(Streaming<pb::WatchResponse>, u64), Status> {
        let host = CLIENTS + self.client.number as usize;
        let mut watches = WatchClient::new(self.client.net.client(host, node));
        let (key, range_end) = end_of(&self.keys);
        let create = pb::WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            start_revision: self.next.unwrap_or(0).cast_signed(),
            prev_kv: self.prev_kv,
            ..Default::default()
        };
        let request = pb::WatchRequest {
            request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
        };
        // Open until the client goes: the end of its requests ends a watch.
        let requests =
            futures::StreamExt::chain(futures::stream::iter([request]), futures::stream::pending());
        let mut stream = watches.watch(requests).await?.into_inner();
        let created = stream.message().await?;
        let created = created.filter(|created| created.created);
        let header = created.and_then(|created| created.header);
        let header = header.ok_or_else(|| Status::internal("the watch is not created"))?;
        Ok((stream, header.revision.cast_unsigned()))
    }

    /// Takes what comes until it ends.
    async fn follow(&mut self, mut stream: Streaming<pb::WatchResponse>, revision: u64) -> Outcome {
        if self.next.is_none() {
            self.next = Some(revision + 1);
        }
        let mut responses = Vec::new();
        let stay = self.client.random.time(Duration::from_secs(1)..STAY);
        let leave = tokio::time::sleep(stay);
        tokio::pin!(leave);
        let end = loop {
            let message = tokio::select! {
                biased;
                message = stream.message() => message,
                () = self.enough.cancelled() => break WatchEnd::Closed,
                () = &mut leave => break WatchEnd::Closed,
            };
            match message {
                Ok(Some(response)) if response.canceled => break self.canceled(&response),
                Ok(Some(response)) => responses.push(self.take(response)),
                Ok(None) => break WatchEnd::Broken("the stream ended".to_owned()),
                Err(status) => break WatchEnd::Broken(status.message().to_owned()),
            }
        };
        Outcome::Ok(Answer {
            revision,
            reply: Reply::Watch { responses, end },
        })
    }

    fn canceled(&mut self, response: &pb::WatchResponse) -> WatchEnd {
        match u64::try_from(response.compact_revision) {
            Ok(compact_revision) if compact_revision > 0 => {
                self.next = Some(compact_revision);
                WatchEnd::Compacted { compact_revision }
            }
            _ => WatchEnd::Canceled(response.cancel_reason.clone()),
        }
    }

    fn take(&mut self, response: pb::WatchResponse) -> WatchResponse {
        let revision = response
            .header
            .map_or(0, |header| header.revision.cast_unsigned());
        let events: Vec<Event> = response.events.into_iter().map(event).collect();
        if let Some(last) = events.last() {
            let last = last.revision();
            self.next = Some(last + 1);
            self.seen.lock().insert(self.watch, last);
        }
        WatchResponse {
            at_ns: self.client.trace.now_ns(),
            revision,
            events,
        }
    }
}

fn event(event: mvccpb::Event) -> Event {
    let is_delete = event.r#type() == mvccpb::event::EventType::Delete;
    let kv = key_value(event.kv.unwrap_or_default());
    let prev = event.prev_kv.map(key_value);
    if is_delete {
        Event::Delete {
            key: kv.key,
            revision: kv.mod_revision,
            prev,
        }
    } else {
        Event::Put { kv, prev }
    }
}

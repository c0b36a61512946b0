//! A client that watches every key of a run, and records what it is told.

use std::time::Duration;

use kv_client::{Client, Error, Watch, WatchItem};
use kv_proto::etcdserverpb::WatchCreateRequest;
use kv_proto::mvccpb::{self, event::EventType};
use quorate_checkers::history::{Answer, Event, Keys, Outcome, Reply, Request, WatchEnd, WatchResponse};
use tokio::sync::watch;
use tokio::time::Instant;

use super::execute::{key_value, span, text};
use super::{Recorder, client_of};
use crate::cluster::Endpoint;

/// A watch is ended and opened anew after this time, so that no record grows without bound.
const RENEW_AFTER: Duration = Duration::from_secs(20);
/// How long it listens after the others have stopped.
const LISTEN_ON: Duration = Duration::from_secs(2);
/// Pause before a watch that could not be opened is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// One opening of a watch while it is recorded.
struct Opening {
    start_ns: u64,
    start_revision: Option<u64>,
    endpoint: String,
    created: u64,
    responses: Vec<WatchResponse>,
}

struct Watcher {
    recorder: Recorder,
    number: u32,
    /// Number of the watch in the history.
    watch: u64,
    endpoints: watch::Receiver<Vec<Endpoint>>,
    /// The node to which it keeps, by its place; none: it goes where it is served.
    pinned: Option<usize>,
    stop: watch::Receiver<bool>,
}

/// Watches until told to stop, and a little longer.
pub(super) async fn run(
    recorder: Recorder,
    endpoints: watch::Receiver<Vec<Endpoint>>,
    pinned: Option<usize>,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut watcher = Watcher {
        number: recorder.client_number(),
        watch: recorder.unique(),
        recorder,
        endpoints,
        pinned,
        stop,
    };
    let mut from = None;
    while !*watcher.stop.borrow() {
        from = watcher.once(from).await?;
    }
    Ok(())
}

impl Watcher {
    /// Opens the watch, and follows it until it is to be renewed. Returns where it goes on.
    async fn once(&mut self, from: Option<u64>) -> anyhow::Result<Option<u64>> {
        let (client, endpoint) = self.client()?;
        let start_ns = self.recorder.now_ns();
        let (key, range_end) = span(&self.keys());
        let create = WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            start_revision: from.unwrap_or(0).cast_signed(),
            prev_kv: true,
            progress_notify: true,
            ..WatchCreateRequest::default()
        };
        let mut watch = match client.watch(create).await {
            Ok(watch) => watch,
            Err(error) => {
                let request = self.request(from);
                let outcome = Outcome::Failed(error.to_string());
                self.recorder
                    .take(self.number, &endpoint, start_ns, request, outcome);
                tokio::time::sleep(PAUSE).await;
                return Ok(from);
            }
        };
        let opening = Opening {
            start_ns,
            start_revision: from,
            endpoint,
            created: watch.created_revision().cast_unsigned(),
            responses: Vec::new(),
        };
        self.follow(&mut watch, opening).await;
        Ok(Some(watch.next_revision().cast_unsigned()))
    }

    async fn follow(&mut self, watch: &mut Watch, mut opening: Opening) {
        let until = Instant::now() + RENEW_AFTER;
        let mut stop = self.stop.clone();
        let over = async move {
            let told = async { stop.wait_for(|stop| *stop).await.is_ok() };
            if let Ok(true) = tokio::time::timeout_at(until, told).await {
                tokio::time::sleep(LISTEN_ON).await;
            }
        };
        let mut over = std::pin::pin!(over);
        loop {
            let item = tokio::select! {
                item = watch.next() => item,
                () = &mut over => return self.close(opening, WatchEnd::Closed),
            };
            let at_ns = self.recorder.now_ns();
            match item {
                Some(Ok(WatchItem::Events { events, revision })) => opening.responses.push(WatchResponse {
                    at_ns,
                    revision: revision.cast_unsigned(),
                    events: events.into_iter().map(event).collect(),
                }),
                Some(Ok(WatchItem::Progress { revision })) => opening.responses.push(WatchResponse {
                    at_ns,
                    revision: revision.cast_unsigned(),
                    events: Vec::new(),
                }),
                Some(Ok(WatchItem::Interrupted { reason })) => {
                    let start_revision = Some(watch.next_revision().cast_unsigned());
                    let next = Opening {
                        start_ns: at_ns,
                        start_revision,
                        endpoint: opening.endpoint.clone(),
                        created: 0,
                        responses: Vec::new(),
                    };
                    self.close(std::mem::replace(&mut opening, next), WatchEnd::Broken(reason));
                }
                Some(Ok(WatchItem::Resumed { revision, endpoint })) => {
                    opening.created = revision.cast_unsigned().saturating_sub(1);
                    opening.endpoint = self.name_of(&endpoint);
                }
                Some(Ok(_)) => {}
                Some(Err(Error::Compacted { revision })) => {
                    let compact_revision = revision.cast_unsigned();
                    return self.close(opening, WatchEnd::Compacted { compact_revision });
                }
                Some(Err(error)) => return self.close(opening, WatchEnd::Canceled(error.to_string())),
                None => return self.close(opening, WatchEnd::Closed),
            }
        }
    }

    fn close(&self, opening: Opening, end: WatchEnd) {
        let request = self.request(opening.start_revision);
        let outcome = Outcome::Ok(Answer {
            revision: opening.created,
            reply: Reply::Watch {
                responses: opening.responses,
                end,
            },
        });
        self.recorder
            .take(self.number, &opening.endpoint, opening.start_ns, request, outcome);
    }

    /// All of the run.
    fn keys(&self) -> Keys {
        Keys::Prefix(self.recorder.prefix().to_owned())
    }

    fn request(&self, start_revision: Option<u64>) -> Request {
        Request::Watch {
            watch: self.watch,
            keys: self.keys(),
            start_revision,
            prev_kv: true,
        }
    }

    /// The node at `host:port`.
    fn name_of(&self, address: &str) -> String {
        let endpoints = self.endpoints.borrow();
        let endpoint = endpoints.iter().find(|endpoint| endpoint.url.ends_with(address));
        endpoint.map_or_else(|| address.to_owned(), |endpoint| endpoint.name.clone())
    }

    fn client(&mut self) -> anyhow::Result<(Client, String)> {
        let endpoints = self.endpoints.borrow_and_update().clone();
        match self.pinned {
            None => Ok((client_of(&endpoints)?, "any".to_owned())),
            Some(place) => {
                let endpoint = endpoints[place % endpoints.len()].clone();
                Ok((client_of(std::slice::from_ref(&endpoint))?, endpoint.name))
            }
        }
    }
}

fn event(event: mvccpb::Event) -> Event {
    let deleted = event.r#type() == EventType::Delete;
    let kv = event.kv.unwrap_or_default();
    let prev = event.prev_kv.map(key_value);
    if deleted {
        Event::Delete {
            key: text(&kv.key),
            revision: kv.mod_revision.cast_unsigned(),
            prev,
        }
    } else {
        Event::Put {
            kv: key_value(kv),
            prev,
        }
    }
}

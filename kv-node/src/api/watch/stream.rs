//! One stream of watches: requests in, answers out.
//!
//! A request is read only when all answers before it are gone, so a client that does not read is not served
//! either, and no answer waits for it but the events of its inbox.

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    pin::Pin,
};

use futures::{Stream, StreamExt};
use kv_core::KeyRange;
use kv_proto::etcdserverpb::{
    WatchCreateRequest, WatchRequest, WatchResponse, watch_create_request::FilterType,
    watch_request::RequestUnion,
};
use kv_store::Fault;
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior, interval_at},
};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Code, Status};

use super::answer::Answering;
use crate::{
    api::{
        errors::ApiError,
        grpc,
        metrics::{Method, StreamCall, code_name},
        session::Session,
    },
    raft::read_index::ReadBarrierError,
    watch::{Feed, Filter, Interest, News, WatchKey, WatchSpec},
};

/// The id in answers that are not of any watch.
const NO_WATCH: i64 = -1;

/// Why a watch is refused, in etcd's words.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{}", in_gos_words(.0))]
    NotAllowed(#[from] ApiError),
    #[error("mvcc: watcher range is empty")]
    EmptyRange,
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    DuplicateId,
    #[error("etcdserver: too many requests")]
    TooMany,
}

/// As etcd tells of an error inside an answer: clients compare the whole text.
fn in_gos_words(error: &ApiError) -> String {
    let row = error.row();
    format!("rpc error: code = {} desc = {}", code_name(row.code), row.message)
}

/// A watch as its client knows it.
struct Served {
    key: WatchKey,
    answering: Answering,
    progress_notify: bool,
    /// No event was told since the last report of progress was due.
    is_quiet: bool,
}

/// A stream's state.
pub(super) struct WatchStream<R> {
    session: Session,
    requests: R,
    requests_ended: bool,
    feed: Feed,
    watches: BTreeMap<i64, Served>,
    next_id: i64,
    answers: VecDeque<WatchResponse>,
    progress_asked: bool,
    /// When progress is reported; `None` while no watch wants it.
    reports: Option<Interval>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Says that there is no leader, where the client wants to know.
    leaderless: Option<watch::Receiver<bool>>,
    call: StreamCall,
    ended: bool,
}

/// What a stream waits for.
enum Happened {
    Request(Option<Result<WatchRequest, Status>>),
    News(Result<Vec<News>, Fault>),
    ReportDue,
    Ending(ReadBarrierError),
}

impl<R: Stream<Item = Result<WatchRequest, Status>> + Unpin> WatchStream<R> {
    pub(super) fn new(session: Session, requests: R, feed: Feed, needs_leader: bool) -> WatchStream<R> {
        WatchStream {
            requests,
            requests_ended: false,
            feed,
            watches: BTreeMap::new(),
            next_id: 0,
            answers: VecDeque::new(),
            progress_asked: false,
            reports: None,
            stop: Box::pin(session.node().stopping().cancelled_owned()),
            leaderless: needs_leader.then(|| session.node().leaderless()),
            call: StreamCall::new(&session, Method::Watch),
            session,
            ended: false,
        }
    }

    /// The next answer; `None` after the end.
    pub(super) async fn next(&mut self) -> Option<Result<WatchResponse, Status>> {
        while !self.ended {
            if let Some(answer) = self.answers.pop_front() {
                return Some(Ok(answer));
            }
            if self.progress_asked
                && let Some(revision) = self.feed.progress(None)
            {
                self.progress_asked = false;
                return Some(Ok(self.blank(NO_WATCH, revision)));
            }
            let end = match self.wait().await {
                Happened::Request(Some(Ok(request))) => {
                    self.take_request(request).await;
                    continue;
                }
                Happened::Request(None) => {
                    self.requests_ended = true;
                    continue;
                }
                Happened::News(Ok(news)) => {
                    news.into_iter().for_each(|news| self.tell(news));
                    continue;
                }
                Happened::ReportDue => {
                    self.report_progress();
                    continue;
                }
                Happened::Request(Some(Err(broken))) => broken,
                Happened::News(Err(fault)) => ApiError::from(fault).into(),
                Happened::Ending(why) => ApiError::from(why).into(),
            };
            self.ended = true;
            self.call.end(end.code());
            return Some(Err(end));
        }
        None
    }

    async fn wait(&mut self) -> Happened {
        let report = async {
            match &mut self.reports {
                Some(reports) => reports.tick().await,
                None => pending().await,
            }
        };
        let leader_lost = async {
            match &mut self.leaderless {
                // The sender lives as long as the node.
                Some(leaderless) => drop(leaderless.wait_for(|leaderless| *leaderless).await),
                None => pending().await,
            }
        };
        tokio::select! {
            request = self.requests.next(), if !self.requests_ended => Happened::Request(request),
            news = self.feed.next() => Happened::News(news),
            _ = report => Happened::ReportDue,
            () = leader_lost => Happened::Ending(ReadBarrierError::NoLeader),
            () = &mut self.stop => Happened::Ending(ReadBarrierError::Stopped),
        }
    }

    /// An answer without events.
    fn blank(&self, watch_id: i64, revision: i64) -> WatchResponse {
        WatchResponse {
            header: Some(self.session.header(revision)),
            watch_id,
            ..Default::default()
        }
    }

    async fn take_request(&mut self, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create).await,
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.progress_asked = true,
            // As etcd: what is not known is not answered.
            None => {}
        }
    }

    async fn create(&mut self, create: WatchCreateRequest) {
        let answer = match self.try_create(create).await {
            Ok((id, revision)) => self.blank(id, revision),
            Err(refusal) => WatchResponse {
                canceled: true,
                cancel_reason: refusal.to_string(),
                ..self.blank(NO_WATCH, self.feed.published())
            },
        };
        self.answers.push_back(WatchResponse {
            created: true,
            ..answer
        });
    }

    async fn try_create(&mut self, create: WatchCreateRequest) -> Result<(i64, i64), Refusal> {
        let interest = interest(&create);
        self.session
            .allow(kv_core::Request::Read(interest.range()))
            .await?;
        if interest.range() == KeyRange::Nothing {
            return Err(Refusal::EmptyRange);
        }
        if self.watches.contains_key(&create.watch_id) && create.watch_id != 0 {
            return Err(Refusal::DuplicateId);
        }
        let id = match create.watch_id {
            0 => self.free_id(),
            id => id,
        };
        let spec = WatchSpec {
            interest,
            start_revision: create.start_revision,
            filter: filter(&create),
            previous: create.prev_kv,
            tag: id,
        };
        let (key, revision) = self.feed.add(spec).map_err(|_| Refusal::TooMany)?;
        let fragment_bytes = create.fragment.then(|| grpc::message_bytes_max(&self.session));
        let served = Served {
            key,
            answering: Answering {
                with_previous: create.prev_kv,
                fragment_bytes,
            },
            progress_notify: create.progress_notify,
            is_quiet: true,
        };
        if served.progress_notify && self.reports.is_none() {
            let period = self.session.node().watch_progress_interval();
            let mut reports = interval_at(tokio::time::Instant::now() + period, period);
            reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
            self.reports = Some(reports);
        }
        self.watches.insert(id, served);
        Ok((id, revision))
    }

    /// As etcd, ids count up, past those that the client chose.
    fn free_id(&mut self) -> i64 {
        while self.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn cancel(&mut self, id: i64) {
        // As etcd: silent where there is no such watch.
        if let Some(served) = self.watches.remove(&id) {
            self.feed.remove(served.key);
            self.answers.push_back(WatchResponse {
                canceled: true,
                ..self.blank(id, self.feed.published())
            });
        }
    }

    fn tell(&mut self, news: News) {
        match news {
            News::Events {
                tag: id,
                events,
                through,
                ..
            } => {
                let Some(served) = self.watches.get_mut(&id) else {
                    return;
                };
                served.is_quiet = false;
                let answering = &self.watches[&id].answering;
                let answers = answering.answers(&events, through, |revision| self.blank(id, revision));
                self.answers.extend(answers);
            }
            News::Compacted {
                tag: id, compacted, ..
            } => {
                self.watches.remove(&id);
                self.answers.push_back(WatchResponse {
                    canceled: true,
                    compact_revision: compacted,
                    // As etcd: no revision and no reason; clients look at `compact_revision`.
                    ..self.blank(id, 0)
                });
            }
        }
    }

    /// Tells the watches that want it and had no event for an interval how far they are. All answers before
    /// have gone.
    fn report_progress(&mut self) {
        let mut due = Vec::new();
        for (id, served) in self
            .watches
            .iter_mut()
            .filter(|(_, served)| served.progress_notify)
        {
            if std::mem::replace(&mut served.is_quiet, true)
                && let Some(revision) = self.feed.progress(Some(served.key))
            {
                due.push((*id, revision));
            }
        }
        let answers: Vec<_> = due
            .into_iter()
            .map(|(id, revision)| self.blank(id, revision))
            .collect();
        self.answers.extend(answers);
    }
}

impl<R> Drop for WatchStream<R> {
    fn drop(&mut self) {
        // Whoever has not been told of an end has ended it.
        if !self.ended {
            self.call.end(Code::Cancelled);
        }
    }
}

/// The keys of a watch. As in etcd, no key at all is the least key.
fn interest(create: &WatchCreateRequest) -> Interest {
    let key = if create.key.is_empty() {
        bytes::Bytes::from_static(&[0])
    } else {
        create.key.clone()
    };
    Interest {
        key,
        range_end: create.range_end.clone(),
    }
}

/// As in etcd, a filter that is not known leaves nothing out.
fn filter(create: &WatchCreateRequest) -> Filter {
    Filter {
        no_put: create.filters.contains(&FilterType::Noput.into()),
        no_delete: create.filters.contains(&FilterType::Nodelete.into()),
    }
}

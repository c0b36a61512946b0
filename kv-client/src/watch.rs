//! A watch that outlives the server it began at.
//!
//! It promises every event of its keys exactly once, in the order of revisions and by whole revisions, whatever
//! connections break and nodes die meanwhile: it is then created anew, at another endpoint, from the revision after
//! the last one that it has given out or that the server said is past. Where that history is gone, it says so and ends.
//!
//! Nothing runs in the background: a watch that is not read makes its server wait, or hold its events
//! back, once the window of its stream is full.

use std::fmt;
use std::time::Duration;

use futures::channel::mpsc;
use futures::stream::{self, Stream};
use http::Uri;
use kv_proto::etcdserverpb::watch_client::WatchClient;
use kv_proto::etcdserverpb::watch_request::RequestUnion;
use kv_proto::etcdserverpb::{
    ResponseHeader, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use kv_proto::mvccpb::Event;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};

use crate::classify::{Failure, Kind};
use crate::client::with_leader;
use crate::connection::Channel;
use crate::cursor::{Cursor, TooLarge};
use crate::failover;
use crate::{Client, Error};

/// The pause before a watch is created anew where the last attempt failed, or ended soon after it began.
const PAUSE: Duration = Duration::from_millis(250);
/// What counts as soon.
const SOON: Duration = Duration::from_secs(1);
/// Requests for progress that wait to be sent; more are dropped, since one answer serves them all.
const PROGRESS_REQUESTS_MAX: usize = 1;

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum WatchItem {
    /// What happened: all watched events of one or several revisions, in order.
    Events {
        /// The events, at least one.
        events: Vec<Event>,
        /// The revision of the store when the server sent the last of them.
        revision: i64,
    },
    /// Nothing more happened up to this revision.
    Progress {
        /// The revision.
        revision: i64,
    },
    /// The server was lost. The watch goes on as soon as there is another.
    Interrupted {
        /// How.
        reason: String,
    },
    /// The watch goes on, without a gap.
    Resumed {
        /// The revision from which it was created anew.
        revision: i64,
        /// `host:port` of the server that it is at now.
        endpoint: String,
    },
}

/// A watch over a key or a range. Dropping it ends it at the server too.
pub struct Watch {
    client: Client,
    create: WatchCreateRequest,
    cursor: Cursor,
    created_at: i64,
    header: ResponseHeader,
    state: State,
}

enum State {
    Live(Box<Live>),
    /// Lost, and until when to wait before the next attempt.
    Lost(Instant),
    Ended,
}

/// A watch at one server.
struct Live {
    answers: Streaming<WatchResponse>,
    /// Kept open: the server ends the watch with it.
    requests: mpsc::Sender<WatchRequest>,
    origin: Uri,
    since: Instant,
}

impl Client {
    /// Begins to watch. `watch_id` and `fragment` of the request are this library's own affair; a `start_revision` of 0
    /// means whatever comes after this call.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::NoQuorum`], [`Error::Timeout`]. That the history is gone is said by the first item.
    pub async fn watch(&self, request: WatchCreateRequest) -> Result<Watch, Error> {
        let create = WatchCreateRequest {
            watch_id: 0,
            fragment: true,
            ..request
        };
        let mut cursor = Cursor::new(create.start_revision);
        let (live, header) = open(self, &create).await?;
        cursor.created(header.revision);
        Ok(Watch {
            client: self.clone(),
            create,
            cursor,
            created_at: header.revision,
            header,
            state: State::Live(Box::new(live)),
        })
    }
}

impl Watch {
    /// The revision of the store when the watch began.
    pub fn created_revision(&self) -> i64 {
        self.created_at
    }

    /// The revision from which the watch would go on: no event before it is still to come.
    pub fn next_revision(&self) -> i64 {
        self.cursor.next()
    }

    /// The header of the last answer of a server: of the one that the last item came from.
    pub fn header(&self) -> ResponseHeader {
        self.header
    }

    /// The next item; none after an error. Cancel-safe: a future that is dropped loses nothing.
    ///
    /// # Errors
    /// [`Error::Compacted`] where events may have been missed, [`Error::Rejected`] where the server refuses the watch.
    /// Any other failure is only an interruption.
    pub async fn next(&mut self) -> Option<Result<WatchItem, Error>> {
        loop {
            let step = match &mut self.state {
                State::Ended => return None,
                State::Lost(until) => {
                    tokio::time::sleep_until(*until).await;
                    self.resume().await
                }
                State::Live(live) => {
                    let answer = live.answers.message().await;
                    self.take(answer)
                }
            };
            match step {
                Ok(Some(item)) => return Some(Ok(item)),
                Ok(None) => {}
                Err(error) => {
                    self.state = State::Ended;
                    return Some(Err(error));
                }
            }
        }
    }

    /// The items as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<WatchItem, Error>> + Send {
        stream::unfold(self, |mut watch| async move {
            let item = watch.next().await?;
            Some((item, watch))
        })
    }

    /// Asks the server to say how far it is; the answer is a [`WatchItem::Progress`]. Nothing is asked while interrupted.
    pub fn request_progress(&mut self) {
        if let State::Live(live) = &mut self.state {
            let request = RequestUnion::ProgressRequest(WatchProgressRequest {});
            // Full: one is on its way. Closed: the stream will say so itself.
            let _ = live.requests.try_send(WatchRequest {
                request_union: Some(request),
            });
        }
    }

    /// What an answer, or the end of the stream, means.
    fn take(&mut self, answer: Result<Option<WatchResponse>, Status>) -> Result<Option<WatchItem>, Error> {
        if let Ok(Some(answer)) = &answer {
            self.header = answer.header.unwrap_or_default();
        }
        match answer {
            Ok(Some(answer)) if answer.canceled => self.canceled(&answer),
            Ok(Some(answer)) => self.told(answer),
            Ok(None) => self.lost(Failure::from(Status::unavailable("the server ended the watch"))),
            // What broke below HTTP is of no use to anybody who only wants to know that it did.
            Err(status) if std::error::Error::source(&status).is_some() => {
                tracing::debug!(%status, "connection lost");
                self.lost(Failure::from(Status::unavailable("connection lost")))
            }
            Err(status) => self.lost(Failure::from(status)),
        }
    }

    fn told(&mut self, answer: WatchResponse) -> Result<Option<WatchItem>, Error> {
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        if answer.created {
            return Ok(None);
        }
        if answer.events.is_empty() && !answer.fragment {
            // Some versions of etcd answer a request (which has no watch's ID) although older events are still to come,
            // so only what they tell by themselves counts as a place to go on from.
            if answer.watch_id >= 0 {
                self.cursor.progressed(revision);
            }
            return Ok(Some(WatchItem::Progress { revision }));
        }
        let events = self.cursor.take(answer).map_err(|TooLarge| Error::Rejected {
            code: Code::ResourceExhausted,
            message: "the events of one revision are too large to be put together".to_owned(),
        })?;
        Ok((!events.is_empty()).then_some(WatchItem::Events { events, revision }))
    }

    fn canceled(&mut self, answer: &WatchResponse) -> Result<Option<WatchItem>, Error> {
        if answer.compact_revision > 0 {
            return Err(Error::Compacted {
                revision: answer.compact_revision,
            });
        }
        self.lost(Failure::from(refusal(&answer.cancel_reason)))
    }

    /// The server is lost, or says that it will not go on.
    fn lost(&mut self, failure: Failure) -> Result<Option<WatchItem>, Error> {
        if failure.kind == Kind::Rejected && !self.client.pool().auth().is_outdated(&failure) {
            return Err(Error::Rejected {
                code: failure.code,
                message: failure.message,
            });
        }
        let mut until = Instant::now();
        let mut reason = failure.message;
        if let State::Live(live) = &self.state {
            self.client.pool().broke(&live.origin);
            reason = format!("{}: {reason}", host(&live.origin));
            if live.since.elapsed() < SOON {
                until += PAUSE;
            }
        }
        self.state = State::Lost(until);
        Ok(Some(WatchItem::Interrupted { reason }))
    }

    /// One attempt to go on elsewhere.
    async fn resume(&mut self) -> Result<Option<WatchItem>, Error> {
        let revision = self.cursor.next();
        let create = WatchCreateRequest {
            start_revision: revision,
            ..self.create.clone()
        };
        match open(&self.client, &create).await {
            Ok((live, header)) => {
                self.cursor.created(header.revision);
                self.header = header;
                let endpoint = host(&live.origin);
                self.state = State::Live(Box::new(live));
                Ok(Some(WatchItem::Resumed { revision, endpoint }))
            }
            Err(Error::Rejected { code, message }) if is_final(code) => {
                Err(Error::Rejected { code, message })
            }
            Err(error) => {
                tracing::debug!(%error, "watch not resumed yet");
                self.state = State::Lost(Instant::now() + PAUSE);
                Ok(None)
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("create", &self.create)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

/// Whether a refusal is about the watch itself. A server that fails otherwise may do better later, and the watch was
/// already accepted once.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unauthenticated
    )
}

/// A watch at whichever endpoint is the first to have it, and the header of its answer.
async fn open(client: &Client, create: &WatchCreateRequest) -> Result<(Live, ResponseHeader), Error> {
    let call = |channel: Channel| {
        let create = create.clone();
        async move { open_on(channel, create).await }
    };
    match failover::read(client.pool(), client.limits(), &call).await {
        // etcd says so of a token that is too old as well.
        Err(Error::Rejected {
            code: Code::PermissionDenied,
            ..
        }) if client.pool().auth().give_up() => failover::read(client.pool(), client.limits(), &call).await,
        opened => opened,
    }
}

async fn open_on(channel: Channel, create: WatchCreateRequest) -> Result<(Live, ResponseHeader), Status> {
    let origin = channel.origin.clone();
    let (mut requests, to_send) = mpsc::channel(PROGRESS_REQUESTS_MAX);
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    requests
        .try_send(request)
        .map_err(|_| Status::internal("an empty queue has room"))?;
    let mut service = WatchClient::with_origin(channel, origin.clone()).max_decoding_message_size(usize::MAX);
    // A member that loses its leader ends such a watch, instead of leaving it silent.
    let mut answers = service.watch(with_leader(to_send, true)).await?.into_inner();
    let created = answers
        .message()
        .await?
        .ok_or_else(|| Status::unavailable("the server ended the watch"))?;
    if created.canceled {
        return Err(refusal(&created.cancel_reason));
    }
    let since = Instant::now();
    let live = Live {
        answers,
        requests,
        origin,
        since,
    };
    Ok((live, created.header.unwrap_or_default()))
}

/// The status that a reason for a cancellation stands for: etcd writes code and text into one string.
fn refusal(reason: &str) -> Status {
    const CODES: [(&str, Code); 3] = [
        ("PermissionDenied", Code::PermissionDenied),
        ("Unauthenticated", Code::Unauthenticated),
        ("Unavailable", Code::Unavailable),
    ];
    let (name, text) = reason
        .strip_prefix("rpc error: code = ")
        .and_then(|rest| rest.split_once(" desc = "))
        .unwrap_or(("", reason));
    let code = CODES.iter().find(|(known, _)| *known == name);
    let text = if text.is_empty() {
        "the server canceled the watch"
    } else {
        text
    };
    Status::new(code.map_or(Code::InvalidArgument, |(_, code)| *code), text)
}

/// `host:port` of an origin.
fn host(origin: &Uri) -> String {
    origin
        .authority()
        .map_or_else(String::new, |authority| authority.to_string())
}

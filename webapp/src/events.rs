//! `GET /events`: new names as server-sent events, for the page's script.
//!
//! | event | id | data |
//! | --- | --- | --- |
//! | `names` | the revision | the rows of the names, as the page shows them |
//! | `missed` | none | empty: read the list again, this instance does not know everything since then |
//!
//! The listener says what it has: the browser's `Last-Event-ID` after a lost connection, else `?after=`. An instance
//! that is behind the one before says nothing until it has caught up.

use crate::app::App;
use crate::live::{Batch, Next};
use crate::pages;
use crate::problem::Problem;
use crate::urls::fields;
use axum::extract::{Request, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream, StreamExt};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};

/// A silent stream says this often that it is alive: proxies close connections that are not.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long a browser waits before it connects again.
const RETRY: Duration = Duration::from_millis(500);

/// `GET /events`
pub(crate) async fn events(State(app): State<Arc<App>>, request: Request) -> Response {
    let after = match after(&request) {
        Ok(after) => after,
        Err(problem) => return app.answer_problem(request.uri(), &problem),
    };
    let Some(place) = app.names.listen() else {
        return app.answer_problem(request.uri(), &Problem::Busy);
    };
    let listening = Listening {
        changes: app.names.changes(),
        app,
        after,
        is_over: false,
        _place: place,
    };
    // Something to begin with, so that the browser knows at once that it is connected.
    let hello = stream::iter([Ok(Event::default().comment("names as they come").retry(RETRY))]);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Sse::new(hello.chain(listening.events()))
        .keep_alive(keep_alive)
        .into_response()
}

/// One listener.
struct Listening {
    app: Arc<App>,
    changes: watch::Receiver<u64>,
    /// The revision that it has heard of last.
    after: i64,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

impl Listening {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> + Send {
        stream::unfold(self, |mut listening| async {
            let event = listening.next().await?;
            Some((Ok(event), listening))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        while !self.is_over {
            // Before asking: a change after that is then not slept through.
            self.changes.borrow_and_update();
            match self.app.names.next(self.after) {
                Next::Batch(batch) => {
                    self.after = batch.revision;
                    return Some(self.names(&batch));
                }
                Next::Nothing => self.changes.changed().await.ok()?,
                Next::Missed => {
                    self.is_over = true;
                    return Some(Event::default().event("missed").data(""));
                }
                Next::End => return None,
            }
        }
        None
    }

    fn names(&self, batch: &Batch) -> Event {
        // A carriage return would end a line of the event; a name of this app has none.
        let rows = pages::rows(&self.app, &batch.entries).replace('\r', "&#13;");
        Event::default()
            .event("names")
            .id(batch.revision.to_string())
            .data(rows)
    }
}

fn after(request: &Request) -> Result<i64, Problem> {
    let last = request.headers().get("last-event-id");
    let last = last.and_then(|id| id.to_str().ok()).map(str::to_owned);
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let [asked] = fields(query, ["after"]).map_err(Problem::BadQuery)?;
    // What is no revision has missed everything.
    let after = last.filter(|id| !id.is_empty()).or(asked);
    Ok(after.and_then(|text| text.parse().ok()).unwrap_or(0))
}

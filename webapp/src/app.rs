//! What all requests share: the table of routes, and registering and looking up as the page and the API both do it.

use crate::clock::Clock;
use crate::entry::{Entry, StoredEntry};
use crate::live::Names;
use crate::meter::Meter;
use crate::name::Name;
use crate::problem::Problem;
use crate::registry::{Registration, Registry};
use crate::{api, assets, events, health, layers, pages};
use axum::Router;
use axum::extract::State;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use http::Uri;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The most requests served at once (health and metrics aside). One more is told 503 at once: better a clear answer
/// than a queue in which everybody times out.
pub const REQUESTS_MAX: usize = 512;

/// What all requests share.
pub struct App {
    pub(crate) registry: Registry,
    pub(crate) names: Arc<Names>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) host: String,
    pub(crate) slots: Semaphore,
    pub(crate) meter: Meter,
}

impl App {
    /// An app that serves at most [`REQUESTS_MAX`] requests at once. `names` feeds the pages that
    /// are open, `host` is the name that it shows and writes into the entries it takes.
    pub fn new(registry: Registry, names: Arc<Names>, clock: Arc<dyn Clock>, host: String) -> App {
        App {
            registry,
            names,
            clock,
            host,
            slots: Semaphore::new(REQUESTS_MAX),
            meter: Meter::new(),
        }
    }

    /// The same with another bound.
    #[must_use]
    pub fn with_requests_max(mut self, requests: usize) -> App {
        self.slots = Semaphore::new(requests);
        self
    }

    /// All routes, wrapped in what every request passes: bound, count, security headers.
    pub fn router(self) -> Router {
        let app = Arc::new(self);
        Router::new()
            .route("/", get(pages::home))
            .route("/names", get(pages::find).post(pages::register))
            .route("/names/{name}", get(pages::lookup))
            .route("/api/names", get(api::list).post(api::create))
            .route("/api/names/{name}", get(api::lookup))
            .route("/events", get(events::events))
            .fallback(no_such_page)
            .method_not_allowed_fallback(method_not_allowed)
            .route_layer(from_fn_with_state(app.clone(), layers::bound))
            .route(assets::STYLE_PATH, get(assets::style))
            .route(assets::SCRIPT_PATH, get(assets::script))
            .route(assets::ICON_PATH, get(assets::icon))
            .route("/livez", get(health::livez))
            .route("/readyz", get(health::readyz))
            .route("/metrics", get(health::metrics))
            .layer(from_fn_with_state(app.clone(), layers::count))
            .layer(from_fn(layers::security_headers))
            .with_state(app)
    }

    /// A problem in the form that fits the address: JSON below `/api`, else a page.
    pub(crate) fn answer_problem(&self, uri: &Uri, problem: &Problem) -> Response {
        if uri.path() == "/api" || uri.path().starts_with("/api/") {
            api::problem(problem)
        } else {
            pages::problem(self, problem)
        }
    }
}

async fn no_such_page(State(app): State<Arc<App>>, uri: Uri) -> Response {
    app.answer_problem(&uri, &Problem::NoSuchPage)
}

async fn method_not_allowed(State(app): State<Arc<App>>, uri: Uri) -> Response {
    app.answer_problem(&uri, &Problem::MethodNotAllowed)
}

/// What the page and the API do alike.
impl App {
    /// Registers what was typed, now, in the name of this host.
    pub(crate) async fn register(&self, typed: &str) -> Result<(Name, Entry), Problem> {
        let name = parse_name(typed)?;
        let stored = StoredEntry::new(&name, self.clock.now(), &self.host, rand::random());
        match self.registry.register(&name, &stored).await {
            Ok(Registration::Created(entry)) => Ok((name, entry)),
            Ok(Registration::Taken(earlier)) => Err(Problem::Taken {
                name,
                earlier: Box::new(earlier),
            }),
            Err(error) => Err(Problem::registering(&name, error)),
        }
    }

    /// The entry of what was typed.
    pub(crate) async fn look_up(&self, typed: &str) -> Result<(Name, Entry), Problem> {
        let name = parse_name(typed)?;
        match self.registry.lookup(&name).await.map_err(Problem::reading)? {
            Some(entry) => Ok((name, entry)),
            None => Err(Problem::NotRegistered(name)),
        }
    }
}

/// Reads a name that was typed.
pub(crate) fn parse_name(typed: &str) -> Result<Name, Problem> {
    Name::parse(typed).map_err(|reason| Problem::InvalidName {
        typed: typed.to_owned(),
        reason,
    })
}

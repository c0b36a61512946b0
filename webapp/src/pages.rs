//! The pages: plain HTML, rendered here, working without JavaScript. askama escapes every text.

use crate::app::{App, parse_name};
use crate::assets::{ICON_PATH, script_link, style_link};
use crate::clock::{ago, rfc3339};
use crate::entry::Entry;
use crate::keys::Cursor;
use crate::name::Name;
use crate::problem::Problem;
use crate::registry::{Page, StoreError};
use crate::urls::{encode, fields, name_page, parse_form};
use crate::{body, clock::Clock};
use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::{HeaderMap, StatusCode, Uri, header};
use std::sync::Arc;

/// Names on one page.
const PAGE_LEN: usize = 20;

/// What stands around every page.
struct Shell<'a> {
    host: &'a str,
    style: String,
    icon: &'static str,
}

/// The registration form: what stands in its field, and what is wrong with that.
#[derive(Default)]
struct Form {
    typed: String,
    error: Option<String>,
}

/// An entry, ready to show.
struct Row {
    name: String,
    href: String,
    at: String,
    ago: String,
    host: String,
}

#[derive(Template)]
#[template(path = "list.html")]
struct ListPage<'a> {
    shell: Shell<'a>,
    form: Form,
    confirmed: Option<Row>,
    is_first: bool,
    script: String,
    revision: i64,
    total: Option<u64>,
    rows: Vec<Row>,
    newer: Option<String>,
    older: Option<String>,
}

/// The rows of a list alone.
#[derive(Template)]
#[template(path = "_rows.html")]
struct Rows {
    rows: Vec<Row>,
}

#[derive(Template)]
#[template(path = "entry.html")]
struct EntryPage<'a> {
    shell: Shell<'a>,
    row: Row,
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    shell: Shell<'a>,
    status: u16,
    title: String,
    text: String,
    /// Somebody's entry that stands in the way.
    earlier: Option<Row>,
    /// A name worth looking up: its text and its page.
    look_up: Option<(String, String)>,
    /// To try again, or another name.
    form: Option<Form>,
}

impl App {
    fn shell(&self) -> Shell<'_> {
        Shell {
            host: &self.host,
            style: style_link(),
            icon: ICON_PATH,
        }
    }

    fn row(&self, entry: Entry) -> Row {
        let Entry {
            name,
            registered_at,
            host,
        } = entry;
        Row {
            href: format!("/names/{}", encode(&name)),
            at: rfc3339(registered_at),
            ago: ago(self.clock.now(), registered_at),
            name,
            host,
        }
    }
}

fn render(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The rows of entries, as in the list.
pub(crate) fn rows(app: &App, entries: &[Entry]) -> String {
    let rows = entries.iter().map(|entry| app.row(entry.clone())).collect();
    Rows { rows }.render().unwrap_or_else(|error| {
        tracing::error!(%error, "rows could not be rendered");
        String::new()
    })
}

fn respond(app: &App, result: Result<Response, Problem>) -> Response {
    result.unwrap_or_else(|error| problem(app, &error))
}

/// `GET /`
pub(crate) async fn home(State(app): State<Arc<App>>, uri: Uri) -> Response {
    respond(&app, try_home(&app, &uri).await)
}

async fn try_home(app: &App, uri: &Uri) -> Result<Response, Problem> {
    let (mut cursor, mut registered) = (None, None);
    // Links to a page pick up parameters of others on their way; only ours count here.
    for (field, value) in parse_form(uri.query().unwrap_or_default().as_bytes()).map_err(Problem::BadQuery)? {
        match field.as_str() {
            "cursor" => cursor = Some(Cursor::decode(&value)?),
            "registered" => registered = Some(value),
            _ => {}
        }
    }
    let page = app.registry.page(cursor, PAGE_LEN).await;
    let Page {
        entries,
        newer,
        older,
        total,
        revision,
    } = page.map_err(|error| Problem::Store {
        registering: None,
        error,
    })?;
    // Anybody can write such a link, so it is the store that confirms, not the link.
    let confirmed = match registered.and_then(|text| Name::parse(&text).ok()) {
        Some(name) => app
            .registry
            .lookup(&name)
            .await
            .ok()
            .flatten()
            .map(|entry| app.row(entry)),
        None => None,
    };
    let link = |cursor: Cursor| format!("/?cursor={}", cursor.encode());
    let page = ListPage {
        shell: app.shell(),
        form: Form::default(),
        confirmed,
        is_first: total.is_some(),
        script: script_link(),
        revision,
        total: total.filter(|total| *total > 0),
        rows: entries.into_iter().map(|entry| app.row(entry)).collect(),
        newer: newer.map(link),
        older: older.map(link),
    };
    Ok(render(StatusCode::OK, &page))
}

/// `POST /names`
pub(crate) async fn register(State(app): State<Arc<App>>, request: Request) -> Response {
    respond(&app, try_register(&app, request).await)
}

async fn try_register(app: &App, request: Request) -> Result<Response, Problem> {
    if is_cross_site(request.headers()) {
        return Err(Problem::CrossSite);
    }
    let body = body::read(request, "application/x-www-form-urlencoded").await?;
    let [typed] = fields(&body, ["name"]).map_err(Problem::BadForm)?;
    let (name, _) = app.register(&typed.unwrap_or_default()).await?;
    Ok(Redirect::to(&format!("/?registered={}", encode(name.shown()))).into_response())
}

/// Whether a browser says that another site made it send this. There is nothing to steal here, but nobody should
/// register names by making others open a page.
fn is_cross_site(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_some_and(|value| value == "cross-site")
}

/// `GET /names?name=…`: where the lookup form leads.
pub(crate) async fn find(State(app): State<Arc<App>>, uri: Uri) -> Response {
    respond(&app, try_find(&uri))
}

fn try_find(uri: &Uri) -> Result<Response, Problem> {
    let query = uri.query().unwrap_or_default().as_bytes();
    let [typed] = fields(query, ["name"]).map_err(Problem::BadQuery)?;
    let Some(typed) = typed else {
        return Ok(Redirect::to("/").into_response());
    };
    let name = parse_name(&typed)?;
    Ok(Redirect::to(&name_page(&name)).into_response())
}

/// `GET /names/{name}`
pub(crate) async fn lookup(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Response {
    respond(&app, try_lookup(&app, name).await)
}

async fn try_lookup(app: &App, name: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    let (_, entry) = app.look_up(&name.map_err(|_| Problem::BadPath)?).await?;
    Ok(render(
        StatusCode::OK,
        &EntryPage {
            shell: app.shell(),
            row: app.row(entry),
        },
    ))
}

/// A problem as a page.
pub(crate) fn problem(app: &App, problem: &Problem) -> Response {
    let (status, _) = problem.status_and_code();
    let (title, text) = words(problem);
    let mut page = ProblemPage {
        shell: app.shell(),
        status: status.as_u16(),
        title,
        text,
        earlier: None,
        look_up: None,
        form: None,
    };
    match problem {
        Problem::InvalidName { typed, reason } => {
            page.form = Some(Form {
                typed: typed.clone(),
                error: Some(sentence(&reason.to_string())),
            });
        }
        Problem::Taken { name, earlier } => {
            page.earlier = Some(app.row((**earlier).clone()));
            page.form = Some(Form {
                typed: name.shown().to_owned(),
                error: None,
            });
        }
        Problem::NotRegistered(name) => {
            page.form = Some(Form {
                typed: name.shown().to_owned(),
                error: None,
            });
        }
        Problem::Store {
            registering: Some(name),
            error: StoreError::OutcomeUnknown(_),
        } => {
            page.look_up = Some((name.shown().to_owned(), name_page(name)));
        }
        Problem::Store {
            registering: Some(name),
            ..
        } => {
            page.form = Some(Form {
                typed: name.shown().to_owned(),
                error: None,
            });
        }
        _ => {}
    }
    let mut response = render(status, &page);
    if let Some(seconds) = problem.retry_after_s() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Title and text of a problem's page.
fn words(problem: &Problem) -> (String, String) {
    let plain = |title: &str| (title.to_owned(), sentence(&problem.to_string()));
    match problem {
        Problem::InvalidName { .. } => ("This cannot be a name".to_owned(), String::new()),
        Problem::Taken { name, .. } => (format!("“{}” is taken", name.shown()), String::new()),
        Problem::NotRegistered(name) => (
            format!("“{}” is not registered", name.shown()),
            "Nobody has this name yet. You can take it.".to_owned(),
        ),
        Problem::Store { error: StoreError::NoQuorum(_), .. } => (
            "No majority right now".to_owned(),
            "The store has no majority right now. Nothing was stored. Try again in a moment.".to_owned(),
        ),
        Problem::Store { error: StoreError::OutcomeUnknown(_), .. } => (
            "We do not know yet".to_owned(),
            "The store did not answer in time. The name may have been stored, or may be in a moment. Look it up."
                .to_owned(),
        ),
        Problem::Store { error: StoreError::Timeout(_), .. } => plain("No answer in time"),
        Problem::Store { error: StoreError::Refused(_), .. } => plain("The store refuses"),
        Problem::Store { error: StoreError::Corrupt(_), .. } => plain("Unreadable entry"),
        Problem::NoSuchPage => plain("Page not found"),
        Problem::MethodNotAllowed => plain("Method not allowed"),
        Problem::Busy => plain("Too busy"),
        Problem::CrossSite => plain("Sent from another site"),
        _ => plain("This request cannot be read"),
    }
}

/// A message as a sentence: `a name needs …` becomes `A name needs ….`
fn sentence(message: &str) -> String {
    let mut chars = message.chars();
    match chars.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), chars.as_str()),
        None => String::new(),
    }
}

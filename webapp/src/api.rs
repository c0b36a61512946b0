//! The JSON API. Strict: what it does not know, it names and refuses.

use crate::app::App;
use crate::body;
use crate::entry::Entry;
use crate::keys::Cursor;
use crate::problem::Problem;
use crate::urls::{fields, name_api};
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const PAGE_DEFAULT: usize = 20;
const PAGE_MAX: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the field `name`")]
struct NewName {
    name: String,
}

#[derive(Serialize)]
struct Names {
    names: Vec<Entry>,
    next: Option<String>,
}

#[derive(Serialize)]
struct Failure<'a> {
    error: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<&'a Entry>,
}

/// A problem as JSON.
pub(crate) fn problem(problem: &Problem) -> Response {
    let (status, error) = problem.status_and_code();
    let entry = match problem {
        Problem::Taken { earlier, .. } => Some(&**earlier),
        _ => None,
    };
    let mut response = (
        status,
        Json(Failure {
            error,
            message: problem.to_string(),
            entry,
        }),
    )
        .into_response();
    if let Some(seconds) = problem.retry_after_s() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn respond(result: Result<Response, Problem>) -> Response {
    result.unwrap_or_else(|error| problem(&error))
}

/// `POST /api/names`
pub(crate) async fn create(State(app): State<Arc<App>>, request: Request) -> Response {
    respond(try_create(&app, request).await)
}

async fn try_create(app: &App, request: Request) -> Result<Response, Problem> {
    let body = body::read(request, "application/json").await?;
    let new = parse_new(&body)?;
    let (name, entry) = app.register(&new.name).await?;
    let mut response = (StatusCode::CREATED, Json(entry)).into_response();
    if let Ok(location) = HeaderValue::from_str(&name_api(&name)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

fn parse_new(body: &[u8]) -> Result<NewName, Problem> {
    // serde also takes an array of the fields' values for a struct; this API does not.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::BadFields(
            "expected an object with the field `name`, not an array".to_owned(),
        ));
    }
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Problem::BadFields(error.to_string()),
        _ => Problem::BadJson(error.to_string()),
    })
}

/// `GET /api/names`
pub(crate) async fn list(State(app): State<Arc<App>>, uri: Uri) -> Response {
    respond(try_list(&app, &uri).await)
}

async fn try_list(app: &App, uri: &Uri) -> Result<Response, Problem> {
    let query = uri.query().unwrap_or_default().as_bytes();
    let [limit, cursor] = fields(query, ["limit", "cursor"]).map_err(Problem::BadQuery)?;
    let limit = match limit {
        None => PAGE_DEFAULT,
        Some(text) => match text.parse() {
            Ok(limit @ 1..=PAGE_MAX) => limit,
            _ => return Err(Problem::BadLimit { max: PAGE_MAX }),
        },
    };
    let cursor = cursor.as_deref().map(Cursor::decode).transpose()?;
    let page = app.registry.page(cursor, limit).await.map_err(Problem::reading)?;
    Ok(Json(Names {
        names: page.entries,
        next: page.older.map(Cursor::encode),
    })
    .into_response())
}

/// `GET /api/names/{name}`
pub(crate) async fn lookup(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Response {
    respond(try_lookup(&app, name).await)
}

async fn try_lookup(app: &App, name: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    let (_, entry) = app.look_up(&name.map_err(|_| Problem::BadPath)?).await?;
    Ok(Json(entry).into_response())
}

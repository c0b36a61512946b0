//! What goes back: messages, lines of a stream, failures.

use std::convert::Infallible;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use futures::stream;
use http::{HeaderValue, Method, StatusCode, header};
use prost_reflect::DynamicMessage;
use serde_json::json;
use tonic::{Code, Status};

use super::{call::Answers, json};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The HTTP status of a gRPC code, as grpc-gateway 1.16 has it, which etcd 3.5 uses.
pub(super) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A failure instead of an answer.
pub(in crate::api) fn failure(status: &Status) -> Response {
    problem(http_status(status.code()), status.code(), status.message())
}

fn problem(status: StatusCode, code: Code, message: &str) -> Response {
    let body = json!({"error": message, "code": code as i32, "message": message});
    (status, [(header::CONTENT_TYPE, JSON)], body.to_string()).into_response()
}

/// A path that is not in the table.
pub(super) fn no_such_path(path: &str) -> Response {
    problem(
        StatusCode::NOT_FOUND,
        Code::NotFound,
        &format!("there is nothing at {path}"),
    )
}

/// A method other than POST.
pub(super) fn method_not_allowed(method: &Method) -> Response {
    let message = format!("{method} is not possible here; POST is");
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, &message);
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

/// The answer of a method that gives one.
pub(super) async fn one(mut answers: Answers) -> Result<Response, Status> {
    let message = answers.next().await?;
    let message = message.ok_or_else(|| Status::internal("quorate: the service gave no answer"))?;
    let mut text = Vec::new();
    json::write(&message, &mut text)?;
    Ok(([(header::CONTENT_TYPE, JSON)], text).into_response())
}

/// The answers of a method that streams them. Like etcd's, the response begins with the first of them, so that
/// a call that fails before has its own status.
pub(super) async fn stream(mut answers: Answers) -> Result<Response, Status> {
    let first = answers.next().await?;
    let state = first.map(|message| (Some(message), answers));
    let lines = stream::unfold(state, |state| async {
        let (ready, mut answers) = state?;
        let message = match ready {
            Some(message) => Ok(Some(message)),
            None => answers.next().await,
        };
        let line = message.and_then(|message| message.map(|message| result_line(&message)).transpose());
        match line {
            Ok(line) => line.map(|line| (Ok::<_, Infallible>(line), Some((None, answers)))),
            Err(status) => Some((Ok(error_line(&status)), None)),
        }
    });
    Ok(([(header::CONTENT_TYPE, JSON)], Body::from_stream(lines)).into_response())
}

fn result_line(message: &DynamicMessage) -> Result<Vec<u8>, Status> {
    let mut line = br#"{"result":"#.to_vec();
    json::write(message, &mut line)?;
    line.extend_from_slice(b"}\n");
    Ok(line)
}

fn error_line(status: &Status) -> Vec<u8> {
    let http = http_status(status.code());
    let error = json!({
        "grpc_code": status.code() as i32,
        "http_code": http.as_u16(),
        "message": status.message(),
        "http_status": http.canonical_reason().unwrap_or_default(),
    });
    format!("{}\n", json!({ "error": error })).into_bytes()
}

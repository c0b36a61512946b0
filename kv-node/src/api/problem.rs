//! An HTTP answer that is no success: JSON that names the error for programs and explains it for people.
//!
//! `{"error": name, "message": text, "outcome": "not executed" | "unknown"}`. With `not executed` the request
//! may be sent again; with `unknown` it may have been executed, so look before sending it again.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value, json};

use super::errors::{ApiError, Executed, Row};

/// The answer.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    name: &'static str,
    message: String,
    executed: Executed,
    headers: Vec<(HeaderName, HeaderValue)>,
    facts: Map<String, Value>,
}

impl Problem {
    /// With a status and a name of its own; not executed.
    pub(super) fn new(status: StatusCode, name: &'static str, message: impl Into<String>) -> Problem {
        Problem {
            status,
            name,
            message: message.into(),
            executed: Executed::No,
            headers: Vec::new(),
            facts: Map::new(),
        }
    }

    /// A request that cannot be understood.
    pub(super) fn bad_request(name: &'static str, message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, name, message)
    }

    /// A method that a path does not have, and those it has.
    pub(super) fn method_not_allowed(method: &Method, allowed: &'static str) -> Problem {
        let message = format!("{method} is not possible here; {allowed} are");
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
            .header(header::ALLOW, HeaderValue::from_static(allowed))
    }

    /// Adds a header.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.push((name, value));
        self
    }

    /// Adds a field to the JSON.
    pub(super) fn fact(mut self, name: &str, value: impl Into<Value>) -> Problem {
        self.facts.insert(name.into(), value.into());
        self
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Problem {
        let Row {
            http,
            name,
            message,
            executed,
            ..
        } = error.row();
        let problem = Problem {
            executed,
            ..Problem::new(http, name, message)
        };
        let passes_soon = matches!(
            http,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        );
        if passes_soon {
            problem.header(header::RETRY_AFTER, HeaderValue::from_static("1"))
        } else {
            problem
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "error": self.name,
            "message": self.message,
            "outcome": self.executed.as_str(),
        });
        if let Value::Object(body) = &mut body {
            body.extend(self.facts);
        }
        (self.status, HeaderMap::from_iter(self.headers), Json(body)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::raft::{propose::ProposeError, read_index::ReadBarrierError};

    async fn shown(problem: impl Into<Problem>) -> (StatusCode, HeaderMap, Value) {
        let (parts, body) = problem.into().into_response().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (
            parts.status,
            parts.headers,
            serde_json::from_slice(&body).unwrap(),
        )
    }

    #[tokio::test]
    async fn whether_it_may_be_sent_again() {
        let (status, headers, body) = shown(ApiError::from(ProposeError::NoLeader)).await;
        assert_eq!(
            (status.as_u16(), &headers["retry-after"]),
            (503, &HeaderValue::from_static("1"))
        );
        let expected =
            json!({"error": "no_leader", "message": "etcdserver: no leader", "outcome": "not executed"});
        assert_eq!(body, expected);

        let (status, headers, body) = shown(ApiError::from(ProposeError::TimedOut)).await;
        assert_eq!((status.as_u16(), headers.get("retry-after")), (504, None));
        assert_eq!(
            (&body["error"], &body["outcome"]),
            (&json!("timed_out"), &json!("unknown"))
        );

        let (status, _, body) = shown(ApiError::from(ReadBarrierError::TimedOut)).await;
        assert_eq!((status.as_u16(), &body["outcome"]), (504, &json!("not executed")));
    }

    #[tokio::test]
    async fn methods_that_exist_are_told() {
        let (status, headers, _) = shown(Problem::method_not_allowed(&Method::POST, "GET, HEAD")).await;
        assert_eq!(
            (status.as_u16(), &headers["allow"]),
            (405, &HeaderValue::from_static("GET, HEAD"))
        );
    }
}

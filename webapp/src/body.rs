//! Taking in a request body: the right type, within a bound of size and of time.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::time::Duration;

/// The most bytes a request body may have.
pub const BODY_BYTES_MAX: usize = 16 * 1024;
/// The longest a body may take to arrive.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes that are read and thrown away of a body that is too large.
const DISCARD_BYTES_MAX: usize = 4 << 20;
/// The longest that this may take.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a body was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// The `Content-Type` is another one, or there is none.
    #[error("the body must be {expected}, and the Content-Type header must say so")]
    WrongType {
        /// The type that is taken here.
        expected: &'static str,
    },
    /// More than [`BODY_BYTES_MAX`].
    #[error("the body is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    /// It did not arrive within [`BODY_TIMEOUT`].
    #[error("the body did not arrive within {} seconds", BODY_TIMEOUT.as_secs())]
    TooSlow,
    /// The connection broke or the framing is wrong.
    #[error("the body broke off")]
    Broken,
}

/// The whole body of a request whose `Content-Type` is `expected`, parameters aside.
///
/// # Errors
/// Every [`BodyError`].
pub(crate) async fn read(request: Request<Body>, expected: &'static str) -> Result<Bytes, BodyError> {
    if !has_type(request.headers(), expected) {
        return Err(BodyError::WrongType { expected });
    }
    let mut body = request.into_body();
    let collect = Limited::new(&mut body, BODY_BYTES_MAX).collect();
    let refusal = match tokio::time::timeout(BODY_TIMEOUT, collect).await {
        Err(_) => BodyError::TooSlow,
        Ok(Ok(body)) => return Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => BodyError::TooLarge,
        Ok(Err(_)) => BodyError::Broken,
    };
    if refusal == BodyError::TooLarge {
        discard(body).await;
    }
    Err(refusal)
}

/// Reads the rest of a body that is too large, within [`DISCARD_BYTES_MAX`] and [`DISCARD_TIMEOUT`]. A connection closed
/// on unread data is reset, and many clients then lose the answer that was sent on it.
async fn discard(mut body: Body) {
    let read = async {
        let mut left = DISCARD_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let len = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(len) else { return };
            left = rest;
        }
    };
    // Out of time is as good as out of bytes: the answer goes out all the same.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, read).await;
}

fn has_type(headers: &HeaderMap, expected: &str) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_media_types() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            has_type(&headers, "application/json")
        };
        assert!(with("application/json"));
        assert!(with("Application/JSON; charset=utf-8"));
        assert!(!with("text/plain"));
        assert!(!with("application/json-patch+json"));
        assert!(!has_type(&HeaderMap::new(), "application/json"));
    }
}

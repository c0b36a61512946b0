//! Taking in a request's body, within bounds of size and time.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::Instant;

/// How much of a body that is too large is taken in, and for how long, before the answer.
const DISCARD_BYTES_MAX: usize = 16 << 20;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is larger than the limit.
    TooLarge,
    /// The connection ended before it did.
    BrokeOff,
    /// It did not arrive until the deadline.
    TimedOut,
}

/// The body, whole.
pub(super) async fn whole(mut body: Body, bytes_max: usize, deadline: Instant) -> Result<Bytes, BodyError> {
    match tokio::time::timeout_at(deadline, Limited::new(&mut body, bytes_max).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            discard(body).await;
            Err(BodyError::TooLarge)
        }
        Ok(Err(_)) => Err(BodyError::BrokeOff),
        Err(_) => Err(BodyError::TimedOut),
    }
}

/// Takes in what is left of a body that is too large: a client that is still sending when the connection
/// closes would see that, and not the answer.
async fn discard(body: Body) {
    let rest = Limited::new(body, DISCARD_BYTES_MAX).collect();
    // However it ends, the answer follows.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, rest).await;
}

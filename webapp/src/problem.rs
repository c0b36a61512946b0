//! Everything that can go wrong with a request, in one table: [`Problem::status_and_code`]. The page and the JSON API
//! say the same thing in their own form; neither makes up a status of its own.

use crate::body::BodyError;
use crate::entry::Entry;
use crate::keys::BadCursor;
use crate::name::{Name, NameError};
use crate::registry::StoreError;
use crate::urls::FormError;
use http::StatusCode;

/// Why a request did not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// The text is not a name.
    #[error("{reason}")]
    InvalidName {
        /// What was typed.
        typed: String,
        /// Which rule it breaks.
        reason: NameError,
    },
    /// Somebody has the name already.
    #[error("the name is taken")]
    Taken {
        /// The name that was asked for.
        name: Name,
        /// Who has it since when.
        earlier: Box<Entry>,
    },
    /// Nobody has registered the name.
    #[error("nobody has registered this name")]
    NotRegistered(Name),
    /// The store gave no answer.
    #[error("{}", store_message(.error))]
    Store {
        /// The name that was to be registered, if this was a registration.
        registering: Option<Name>,
        /// What the store did.
        error: StoreError,
    },
    /// The body could not be taken in.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The body is not JSON.
    #[error("the body is not JSON: {0}")]
    BadJson(String),
    /// The body is JSON, but not what is expected here.
    #[error("{0}")]
    BadFields(String),
    /// The form could not be read.
    #[error("the form cannot be read: {0}")]
    BadForm(FormError),
    /// The query part of the URL could not be read.
    #[error("the query cannot be read: {0}")]
    BadQuery(FormError),
    /// The path contains bytes that are not UTF-8.
    #[error("the name in the path is not UTF-8")]
    BadPath,
    /// `limit` is no number in its range.
    #[error("limit must be a number from 1 to {max}")]
    BadLimit {
        /// The highest value allowed.
        max: usize,
    },
    /// `cursor` is not one of ours.
    #[error(transparent)]
    BadCursor(#[from] BadCursor),
    /// A form that another site sent.
    #[error("this form came from another site")]
    CrossSite,
    /// There is nothing at this path.
    #[error("there is nothing at this address")]
    NoSuchPage,
    /// The path exists, the method does not.
    #[error("this address does not take this method; see the Allow header")]
    MethodNotAllowed,
    /// Too many requests are being served.
    #[error("too many requests at once; try again in a moment")]
    Busy,
}

impl Problem {
    /// A failure of the store while registering `name`.
    pub(crate) fn registering(name: &Name, error: StoreError) -> Problem {
        Problem::Store {
            registering: Some(name.clone()),
            error,
        }
    }

    /// A failure of the store while reading.
    pub(crate) fn reading(error: StoreError) -> Problem {
        Problem::Store {
            registering: None,
            error,
        }
    }

    /// The table: HTTP status and the code that stands in the `error` field of the JSON API.
    pub(crate) fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Problem::BadJson(_) => (StatusCode::BAD_REQUEST, "bad_json"),
            Problem::BadFields(_) => (StatusCode::BAD_REQUEST, "bad_fields"),
            Problem::BadForm(_) => (StatusCode::BAD_REQUEST, "bad_form"),
            Problem::BadQuery(_) => (StatusCode::BAD_REQUEST, "bad_query"),
            Problem::BadPath => (StatusCode::BAD_REQUEST, "bad_path"),
            Problem::BadLimit { .. } => (StatusCode::BAD_REQUEST, "bad_limit"),
            Problem::BadCursor(_) => (StatusCode::BAD_REQUEST, "bad_cursor"),
            Problem::Body(BodyError::Broken) => (StatusCode::BAD_REQUEST, "body_broken"),
            Problem::CrossSite => (StatusCode::FORBIDDEN, "cross_site"),
            Problem::NotRegistered(_) => (StatusCode::NOT_FOUND, "not_registered"),
            Problem::NoSuchPage => (StatusCode::NOT_FOUND, "no_such_page"),
            Problem::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Problem::Body(BodyError::TooSlow) => (StatusCode::REQUEST_TIMEOUT, "body_too_slow"),
            Problem::Taken { .. } => (StatusCode::CONFLICT, "taken"),
            Problem::Body(BodyError::TooLarge) => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Problem::Body(BodyError::WrongType { .. }) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            Problem::InvalidName { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_name"),
            Problem::Store {
                error: StoreError::Corrupt(_),
                ..
            } => (StatusCode::INTERNAL_SERVER_ERROR, "corrupt_entry"),
            Problem::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Problem::Store {
                error: StoreError::NoQuorum(_),
                ..
            } => (StatusCode::SERVICE_UNAVAILABLE, "no_quorum"),
            Problem::Store {
                error: StoreError::Refused(_),
                ..
            } => (StatusCode::SERVICE_UNAVAILABLE, "store_refused"),
            Problem::Store {
                error: StoreError::Timeout(_),
                ..
            } => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
            Problem::Store {
                error: StoreError::OutcomeUnknown(_),
                ..
            } => (StatusCode::GATEWAY_TIMEOUT, "outcome_unknown"),
        }
    }

    /// Seconds after which trying again makes sense, for the `Retry-After` header.
    pub(crate) fn retry_after_s(&self) -> Option<u32> {
        let (status, _) = self.status_and_code();
        (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1)
    }
}

fn store_message(error: &StoreError) -> String {
    match error {
        StoreError::NoQuorum(_) => {
            "the store has no majority right now; nothing was stored; try again".to_owned()
        }
        StoreError::Refused(why) => format!("the store refuses this right now ({why}); nothing was stored"),
        StoreError::Timeout(_) => {
            "the store did not answer in time; nothing was changed; try again".to_owned()
        }
        StoreError::OutcomeUnknown(_) => {
            "the store did not answer in time; the name may have been stored; look it up".to_owned()
        }
        StoreError::Corrupt(_) => {
            "the store holds something under this name that this app did not write".to_owned()
        }
    }
}

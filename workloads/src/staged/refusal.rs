//! Why a request gets no page, and what it is told.
//!
//! One enum for what the client did wrong and for what the server has no room or time for: each
//! maps to one status, and none says a word that came from the client.

use std::time::Duration;

use forebay::{CallError, RequestError, Shed};
use hyper::StatusCode;

/// When to come again, where nothing better is known: what a client may be told is whole seconds,
/// and a queue of this server empties in less than one.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a request gets no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    BadRequest,
    NotFound,
    Method,
    LengthRequired,
    BodyTooLarge,
    /// The body did not come in the request's time.
    BodySlow,
    TargetTooLong,
    /// The server has no room for it now.
    Shed {
        reason: &'static str,
        retry_after: Duration,
    },
    /// The server stops.
    Closing,
    /// The request's time was up.
    Late,
    /// A fault of the server or its host.
    Fault,
}

impl Refusal {
    /// The host has run out of something that comes back.
    pub(super) fn exhausted() -> Self {
        Self::Shed { reason: "exhausted", retry_after: RETRY_AFTER }
    }

    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::LengthRequired => StatusCode::LENGTH_REQUIRED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodySlow => StatusCode::REQUEST_TIMEOUT,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Shed { .. } | Self::Closing => StatusCode::SERVICE_UNAVAILABLE,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::Fault => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The word for it in `x-reason` and in metrics, where the server is the one who cannot.
    pub(super) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Shed { reason, .. } => Some(reason),
            Self::Closing => Some("closing"),
            Self::Late => Some("deadline"),
            Self::Fault => Some("fault"),
            _ => None,
        }
    }

    /// When the client may come again.
    pub(super) fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Shed { retry_after, .. } => Some(retry_after),
            Self::Closing => Some(RETRY_AFTER),
            _ => None,
        }
    }

    /// Whether what comes next on the connection cannot be told from a body that was not read, or
    /// will not be served.
    pub(super) fn closes(self) -> bool {
        matches!(
            self,
            Self::BadRequest
                | Self::LengthRequired
                | Self::BodyTooLarge
                | Self::BodySlow
                | Self::TargetTooLong
                | Self::Closing
        )
    }
}

impl<E> From<CallError<E>> for Refusal {
    fn from(error: CallError<E>) -> Self {
        match error {
            CallError::Shed(Shed { reason, retry_after }) => {
                Self::Shed { reason: reason.name(), retry_after }
            }
            CallError::Expired(_) => Self::Late,
            CallError::Closed(_) | CallError::PeerGone(_) => Self::Closing,
            // The rest is the file system's, or a fault of this code.
            _ => Self::Fault,
        }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Shed => Self::Shed { reason: "requests_max", retry_after: RETRY_AFTER },
            RequestError::Expired => Self::Late,
            RequestError::Closed | RequestError::PeerGone => Self::Closing,
            _ => Self::Fault,
        }
    }
}

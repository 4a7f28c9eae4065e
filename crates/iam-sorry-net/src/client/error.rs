//! What can go wrong with a request, by what it says about the server: has it perhaps seen the request?

use std::error::Error as StdError;
use std::time::Duration;

use hyper_util::client::legacy;

/// Why no connection came about. Nothing of the request was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The name is unknown, or nobody listens there; in the system's words.
    #[error("{0}")]
    Unreachable(String),
    /// The proxy is not to be had, or does not let us through.
    #[error("the proxy {proxy} {reason}")]
    Proxy {
        /// Its `HOST:PORT`.
        proxy: String,
        /// What is the matter with it, as the end of a sentence that begins with "the proxy".
        reason: String,
    },
    /// No TLS: the certificate is not trusted, expired, or another server's, or there is no TLS at all.
    #[error("{0}")]
    Tls(String),
    /// Plain http, and the name leads to another machine.
    #[error("the name leads to another machine, and plain http stays on this one")]
    NotLoopback,
    /// The URI's scheme is not the one that the client is for.
    #[error("the client does not speak {0:?}")]
    WrongScheme(String),
    /// Not within this time, TLS and the proxy included.
    #[error("no connection within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
}

/// Why there is no whole response. Only [`Error::Connect`] is certain that the server saw nothing of the request. No text
/// holds anything of a request or of a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No connection came about: nothing was sent.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection ended before the response did.
    #[error("the connection broke off: {0}")]
    Broken(String),
    /// What came back is not HTTP.
    #[error("the other side does not speak HTTP: {0}")]
    NotHttp(String),
    /// The request's time is over.
    #[error("no response within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The body is longer than so many bytes.
    #[error("the response is longer than {0} bytes")]
    TooLong(usize),
    /// The request can't be written down: a mistake of the caller's.
    #[error("the request can't be sent: {0}")]
    Unsendable(String),
}

impl Error {
    pub(super) fn of_request(error: &legacy::Error) -> Self {
        let text = innermost(error);
        match find::<ConnectError>(error) {
            Some(connect) => Self::Connect(connect.clone()),
            None if error.is_connect() => Self::Connect(ConnectError::Unreachable(text)),
            None => match find::<hyper::Error>(error) {
                Some(error) => Self::of_connection(error),
                // hyper-util's own: a URI without a host, a version that it doesn't speak.
                None => Self::Unsendable(text),
            },
        }
    }

    pub(super) fn of_connection(error: &hyper::Error) -> Self {
        let text = innermost(error);
        if error.is_parse() {
            Self::NotHttp(text)
        } else if error.is_user() {
            Self::Unsendable(text)
        } else {
            Self::Broken(text)
        }
    }
}

fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
}

/// What lies at the bottom of a chain of errors says the most: "Connection refused (os error 111)".
pub(super) fn innermost(error: &(dyn StdError + 'static)) -> String {
    let last = std::iter::successors(Some(error), |&error| error.source()).last();
    last.unwrap_or(error).to_string()
}

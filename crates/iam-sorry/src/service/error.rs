//! Errors between the client and the service, as the person reads them.

use iam_sorry_core::api::{Problem, ProblemCode};
use iam_sorry_core::ssh::login::Origin;
use iam_sorry_net::ConnectError;

use crate::error::{Error, ErrorKind};

/// Each text says what happened, then what to do. None contains a secret: bodies are never repeated.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// There is no connection.
    #[error("{origin} can't be reached: {why}\nCheck the address and the network; nothing was done")]
    Unreachable { origin: Origin, why: String },
    /// The TLS handshake failed.
    #[error(
        "The TLS connection to {origin} failed: {why}\nIf your department has its own certificate authority: --ca-file FILE"
    )]
    Tls { origin: Origin, why: String },
    /// The connection broke off after the request was sent.
    #[error(
        "The connection to {origin} broke off ({why}): whether the request was carried out is not known\nRun the command again: what was done already is not done twice"
    )]
    ConnectionLost { origin: Origin, why: String },
    /// There was no response in time.
    #[error(
        "{origin} did not answer within {seconds} seconds\nRun the command again: what was done already is not done twice"
    )]
    TimedOut { origin: Origin, seconds: u64 },
    /// The service redirected the request. Signature and session are for the address that was named.
    #[error(
        "{origin} sends us somewhere else ({status}), where your session does not go\nUse the service's own address"
    )]
    Redirected { origin: Origin, status: u16 },
    /// Something other than a department service answered.
    #[error(
        "{origin} does not answer like a department service: {what}\nIs the address right? See what answers: curl {origin}/api/v1/service"
    )]
    UnexpectedResponse { origin: Origin, what: String },
    /// The service reported a problem.
    #[error("{}", .problem.detail)]
    Problem { origin: Origin, problem: Box<Problem>, retry_after: Option<u32> },
    /// The person pressed Ctrl-C.
    #[error("Interrupted.")]
    Interrupted,
}

impl ServiceError {
    /// The error of a request to `origin`.
    pub fn of(origin: &Origin, error: iam_sorry_net::Error) -> Self {
        use iam_sorry_net::Error::{Broken, Connect, NotHttp, TimedOut, TooLong, Unsendable};
        let origin = origin.clone();
        match error {
            Connect(ConnectError::Tls(why)) => Self::Tls { origin, why },
            Connect(ConnectError::TimedOut(_)) => {
                Self::Unreachable { origin, why: "it did not answer in time".to_owned() }
            }
            Connect(ConnectError::Proxy { proxy, reason }) => {
                Self::Unreachable { origin, why: format!("the proxy {proxy} (HTTPS_PROXY) {reason}") }
            }
            Connect(error) => Self::Unreachable { origin, why: error.to_string() },
            Broken(why) | NotHttp(why) => Self::ConnectionLost { origin, why },
            TimedOut(limit) => Self::TimedOut { origin, seconds: limit.as_secs() },
            TooLong(limit) => {
                let what = format!("its answer is longer than {} MiB", limit >> 20);
                Self::UnexpectedResponse { origin, what }
            }
            Unsendable(why) => {
                let what = format!("the request can't be written down: {why}");
                Self::UnexpectedResponse { origin, what }
            }
        }
    }

    /// The problem's code, if it is a problem.
    pub fn code(&self) -> Option<ProblemCode> {
        match self {
            Self::Problem { problem, .. } => Some(problem.code),
            _ => None,
        }
    }

    /// `what` is "You are not signed in to" or the like.
    pub fn not_signed_in(origin: &Origin, what: &str) -> Error {
        Error::profile(format!("{what} {origin}")).hint(format!("Sign in: iam-sorry login {origin}"))
    }
}

impl From<ServiceError> for Error {
    fn from(error: ServiceError) -> Self {
        let kind = match &error {
            ServiceError::Interrupted => ErrorKind::Interrupted,
            _ => ErrorKind::Aws,
        };
        let ServiceError::Problem { origin, problem, retry_after } = error else {
            return Self::new(kind, error.to_string());
        };
        if problem.code == ProblemCode::SignInNeeded {
            return ServiceError::not_signed_in(&origin, "Your session has ended at");
        }
        let mut error = Self::new(kind, problem.detail.clone());
        for reason in problem.reasons.iter().filter(|reason| !problem.detail.contains(reason.as_str())) {
            error = error.hint(format!("Why: {reason}"));
        }
        if let Some(seconds) = retry_after {
            error = error.hint(format!("Try again in {seconds} s"));
        }
        if problem.status >= 500 {
            error = error.hint(format!(
                "The operator of {origin} finds it in the log as request {}",
                problem.request_id
            ));
        }
        error
    }
}

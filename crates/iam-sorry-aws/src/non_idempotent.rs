//! Requests that make something are tried once: a retry after a lost answer would make a second one, or hide that there is a
//! first. The error says whether AWS certainly did nothing, or perhaps did it.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::errors::AwsError;
use crate::request_context::RequestContext;
use crate::transport::never_connected;
use crate::work::NotAllowed;

/// Why nothing can be said to have been made.
#[derive(Debug)]
pub enum NotMade {
    /// AWS did nothing.
    Certainly(AwsError),
    /// The answer is lost: AWS may have done it.
    Perhaps(AwsError),
}

impl NotMade {
    /// What AWS or the network said.
    pub fn into_error(self) -> AwsError {
        let (Self::Certainly(error) | Self::Perhaps(error)) = self;
        error
    }

    /// The error of a request that was tried once: a retry would hide what became of the first try.
    pub(crate) fn from_only_try<E>(context: &RequestContext<'_>, error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let never_sent = never_sent(&error);
        let server_side =
            error.raw_response().is_none_or(|r| r.status().is_server_error() || r.status().is_success());
        match context.failed(error) {
            error @ AwsError::Throttled { .. } => Self::Certainly(error),
            error if never_sent || !server_side => Self::Certainly(error),
            error => {
                iam_sorry_core::planted!("lost-answer-means-nothing": Self::Certainly(error), Self::Perhaps(error))
            }
        }
    }
}

/// Whether the connection never came about, so that AWS can't have seen the request.
fn never_sent<E, R>(error: &SdkError<E, R>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => true,
        SdkError::DispatchFailure(failure) => {
            failure.as_connector_error().is_some_and(|error| was_not_allowed(error) || never_connected(error))
        }
        _ => false,
    }
}

/// Whether it was held back here ([`crate::only_while`]).
fn was_not_allowed(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<NotAllowed>())
}

#[cfg(test)]
mod tests {
    use iam_sorry_core::credentials::AccessKey;

    use super::*;
    use crate::client::{Aws, Settings};

    /// What the search for a lost key hangs on: only a request that may have left counts as lost.
    #[test]
    fn a_connection_that_never_came_about_sent_nothing() {
        let port = {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
            listener.local_addr().unwrap().port()
        };
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let open = listener.local_addr().unwrap().port();
        let closing = std::thread::spawn(move || drop(listener.accept().unwrap()));
        let sent_nothing = |endpoint: String| {
            let mut settings = Settings::new("us-east-1");
            settings.endpoint_iam = Some(endpoint);
            settings.max_attempts = 1;
            let key = AccessKey { id: "AKIAEXAMPLE".into(), secret: "s".into() };
            let client = Aws::new(&settings).unwrap().iam(&key.into());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            never_sent(&runtime.block_on(client.create_access_key().user_name("alice").send()).unwrap_err())
        };
        assert!(sent_nothing(format!("http://127.0.0.1:{port}")), "refused");
        assert!(sent_nothing("https://no-such-host.invalid".into()), "no such host");
        assert!(!sent_nothing(format!("http://127.0.0.1:{open}")), "accepted, then closed");
        closing.join().unwrap();
    }
}

//! Requests that make something are tried once: a retry after a lost answer would make a second one, or hide that there is a
//! first. Whoever asks is told whether AWS certainly did nothing, or perhaps did it.

use aws_sdk_iam::config::retry::RetryConfig;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::UserName;
use secrecy::SecretString;

use crate::client::Aws;
use crate::clock::NotAllowed;
use crate::errors::AwsError;
use crate::request_context::RequestContext;
use crate::transport::never_connected;

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
            error => Self::Perhaps(error),
        }
    }
}

/// iam:CreateAccessKey, tried once. Whoever calls it has written down before that a key may come of it.
///
/// # Errors
/// [`NotMade`], which tells a refusal from a lost answer.
pub async fn create_access_key(
    aws: &Aws,
    manager: &Credentials,
    user: &UserName,
) -> Result<AccessKey, NotMade> {
    let context = aws.context("iam:CreateAccessKey", &manager.access_key_id, user.as_str());
    let once = aws_sdk_iam::config::Builder::new().retry_config(RetryConfig::disabled());
    let request = aws.iam(manager).create_access_key().user_name(user.as_str());
    match request.customize().config_override(once).send().await {
        Ok(output) => match output.access_key {
            Some(key) if UserName::parse(key.user_name()).as_ref() == Ok(user) => {
                Ok(AccessKey { id: key.access_key_id, secret: SecretString::from(key.secret_access_key) })
            }
            _ => Err(NotMade::Perhaps(context.bad_answer("no access key of that user"))),
        },
        Err(error) => Err(NotMade::from_only_try(&context, error)),
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
    use super::*;
    use crate::client::Settings;

    /// Held back is never sent: no key is looked for.
    #[test]
    fn what_may_not_leave_was_certainly_not_done() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut settings = Settings::new("us-east-1");
        settings.endpoint_iam = Some(format!("http://{}", listener.local_addr().unwrap()));
        settings.attempt_timeout = std::time::Duration::from_secs(2);
        let aws = Aws::new(&settings).unwrap();
        let key = Credentials::from(AccessKey { id: "AKIAEXAMPLE".into(), secret: "s".into() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let work = async {
            crate::only_while(std::sync::Arc::new(|| false));
            create_access_key(&aws, &key, &UserName::parse("alice").unwrap()).await
        };
        let answer = runtime.block_on(crate::keeping_request_ids(work));
        let Err(NotMade::Certainly(error)) = answer else { panic!("{answer:?}") };
        assert!(error.to_string().contains("may not act"), "{error}");
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "nobody connected");
    }

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

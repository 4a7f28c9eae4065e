//! Making a key.

use aws_sdk_iam::config::retry::RetryConfig;
use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::UserName;
use secrecy::SecretString;

use crate::client::Aws;
use crate::errors::AwsError;
use crate::key::journal::Journal;
use crate::non_idempotent::NotMade;

/// Why there is no key to go on with.
#[derive(Debug)]
pub enum MakeError<E> {
    /// AWS certainly made none.
    NotMade(AwsError),
    /// The answer is lost, and AWS may have made one: see [`crate::key::decide`].
    Lost(AwsError),
    /// It is made, and its ID could not be written down: it must be taken back.
    NotNoted(AccessKey, E),
}

/// Makes a key and writes its ID down.
///
/// # Errors
/// [`MakeError`].
pub async fn make<J: Journal>(
    aws: &Aws,
    signer: &Credentials,
    user: &UserName,
    journal: &J,
) -> Result<AccessKey, MakeError<J::Error>> {
    let key = create(aws, signer, user, journal).await?;
    match journal.note_made(&key.id).await {
        Ok(()) => Ok(key),
        Err(error) => Err(MakeError::NotNoted(key, error)),
    }
}

/// The same for a program that saves the time that writing takes: the key is used for the first time while its ID is on its
/// way to the disk. See [`crate::key::lost::FirstUse`].
///
/// # Errors
/// [`MakeError`].
pub async fn make_and_use<J: Journal, T, F: Future<Output = T>>(
    aws: &Aws,
    signer: &Credentials,
    user: &UserName,
    journal: &J,
    first_use: impl FnOnce(AccessKey) -> F,
) -> Result<(AccessKey, T), MakeError<J::Error>> {
    let key = create(aws, signer, user, journal).await?;
    let (noted, used) = tokio::join!(journal.note_made(&key.id), first_use(key.clone()));
    match noted {
        Ok(()) => Ok((key, used)),
        Err(error) => Err(MakeError::NotNoted(key, error)),
    }
}

async fn create<J: Journal>(
    aws: &Aws,
    signer: &Credentials,
    user: &UserName,
    journal: &J,
) -> Result<AccessKey, MakeError<J::Error>> {
    journal.while_making(create_access_key(aws, signer, user)).await.map_err(|error| match error {
        NotMade::Certainly(error) => MakeError::NotMade(error),
        NotMade::Perhaps(error) => MakeError::Lost(error),
    })
}

/// iam:CreateAccessKey, tried once: a retry after a lost answer would make a second key.
///
/// # Errors
/// [`NotMade`].
async fn create_access_key(aws: &Aws, signer: &Credentials, user: &UserName) -> Result<AccessKey, NotMade> {
    let context = aws.context("iam:CreateAccessKey", &signer.access_key_id, user.as_str());
    let once = aws_sdk_iam::config::Builder::new().retry_config(
        iam_sorry_core::planted!("creation-repeated": RetryConfig::standard(), RetryConfig::disabled()),
    );
    let request = aws.iam(signer).create_access_key().user_name(user.as_str());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Settings;

    /// A request that was held back was never sent: no key is searched for.
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
}

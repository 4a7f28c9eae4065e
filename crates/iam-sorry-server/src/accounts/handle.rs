//! A handle to AWS: a client, and the credentials that it signs with.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use iam_sorry_aws::Aws;
use iam_sorry_core::credentials::Credentials;

use crate::clock::Clock;

/// AWS, and who signs the requests to it.
#[derive(Clone, Debug)]
pub struct AwsHandle {
    /// With clients made once for `credentials`.
    pub aws: Aws,
    /// The service's own.
    pub credentials: Arc<Credentials>,
}

impl AwsHandle {
    /// AWS's time, which no clock of a machine moves: seconds since 1970.
    pub(crate) fn now(&self, clock: &Clock) -> i64 {
        self.aws.server_time().unwrap_or_else(|| clock.now()).unix()
    }

    /// How old something is that was made then (milliseconds since 1970, by AWS's clock); none before AWS has told its time.
    pub(crate) fn age_ms(&self, made_ms: i64) -> Option<i64> {
        self.aws.server_time().map(|now| now.unix() * 1000 - made_ms)
    }

    /// The two that every request of the AWS crate takes.
    pub(crate) fn pair(&self) -> (&Aws, &Credentials) {
        (&self.aws, &self.credentials)
    }
}

/// The handle that was used last, for as long as the credentials stay the same.
#[derive(Default)]
pub(crate) struct CachedHandle(ArcSwapOption<AwsHandle>);

impl CachedHandle {
    /// The handle with these very credentials, if it is kept.
    pub fn with(&self, credentials: &Arc<Credentials>) -> Option<Arc<AwsHandle>> {
        self.0.load_full().filter(|handle| Arc::ptr_eq(&handle.credentials, credentials))
    }

    /// Keeps it instead of the one before.
    pub fn keep(&self, handle: Arc<AwsHandle>) {
        self.0.store(Some(handle));
    }
}

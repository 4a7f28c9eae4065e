//! A handle to AWS: a client, and the credentials that it signs with.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use iam_sorry_aws::Aws;
use iam_sorry_core::credentials::Credentials;

/// AWS, and who signs the requests to it.
#[derive(Clone, Debug)]
pub struct AwsHandle {
    /// With clients made once for `credentials`.
    pub aws: Aws,
    /// The service's own.
    pub credentials: Arc<Credentials>,
}

impl AwsHandle {
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

//! For the simulator: AWS in this process, at a time of its own. Nothing here is in a program that ships (the feature
//! `simulation`).
//!
//! The SDK's own code runs: it builds and signs each request, repeats it, gives it up, and reads its answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_smithy_runtime::client::retries::{ClientRateLimiter, RetryPartition, TokenBucket};
use aws_smithy_runtime_api::client::result::ConnectorError;
use iam_sorry_net::{ConnectError, Error};

pub use aws_smithy_runtime_api as smithy;
pub use aws_smithy_types::body::SdkBody;

pub use crate::clock::set_clock;

/// What a client gets of a connection that never came about: AWS can't have seen the request.
pub fn no_connection() -> ConnectorError {
    let refused = ConnectError::Unreachable("Connection refused (os error 111)".to_owned());
    crate::transport::connector_error(Error::Connect(refused))
}

/// What the clients of one [`crate::Aws`] share.
#[derive(Clone, Debug)]
pub(crate) struct Simulated {
    sts: RetryPartition,
    iam: RetryPartition,
}

impl Simulated {
    /// With retry budgets of its own: the SDK's are the process's, and one run must not use up another's.
    pub fn new() -> Self {
        let partition = |name: &'static str| {
            RetryPartition::custom(name)
                .token_bucket(TokenBucket::default())
                .client_rate_limiter(ClientRateLimiter::default())
                .build()
        };
        Self { sts: partition("sts"), iam: partition("iam") }
    }

    pub fn retries(&self, service: &str) -> RetryPartition {
        if service == "sts" { self.sts.clone() } else { self.iam.clone() }
    }

    pub fn time(&self) -> SharedTimeSource {
        SharedTimeSource::new(Clock)
    }
}

#[derive(Debug)]
struct Clock;

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(u64::try_from(crate::clock::now_ms()).unwrap_or(0))
    }
}

//! STS and IAM clients from settings that come in by value: one HTTP client for all of them, started when first needed.
//!
//! No aws-config: it would look at the environment, at files, at the instance's metadata. Endpoints, partitions, FIPS
//! and dual-stack names are the SDK's own resolver's; STS is reached at the regional endpoint, since tokens of the global
//! one fail in opt-in regions. The SDK's silent clock correction is off: with a wrong clock every other tool on the
//! machine fails next, and an expiry computed by it is wrong, so the user hears of the clock at once.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials as SdkCredentials;
use aws_sdk_iam::config::{AppName, BehaviorVersion, IdentityCache, Region, StalledStreamProtectionConfig};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::timestamp::Timestamp;
use secrecy::ExposeSecret;

use crate::clock::{Listen, ServerClock};
use crate::errors::AwsError;
use crate::request_context::RequestContext;
pub use crate::transport::Proxy;
use crate::transport::{EndpointKind, Transport, endpoint_kind};

/// How AWS is reached. [`Settings::new`] gives the defaults; change fields from there.
#[derive(Clone, Debug)]
pub struct Settings {
    /// AWS region, such as `eu-central-1`; decides the partition too.
    pub region: String,
    /// Address to use for STS instead of AWS's own.
    pub endpoint_sts: Option<String>,
    /// Address to use for IAM instead of AWS's own.
    pub endpoint_iam: Option<String>,
    /// FIPS 140 endpoints.
    pub use_fips: bool,
    /// Endpoints that answer on IPv6 too.
    pub use_dualstack: bool,
    /// PEM text of the only CAs to trust; `None` trusts the system's.
    pub ca_bundle: Option<Vec<u8>>,
    /// Proxy for https requests; plain http is for this machine and never proxied.
    pub proxy: Option<Proxy>,
    /// Tries per request, the first included (default 3).
    pub max_attempts: u32,
    /// Standard or adaptive (AWS SDKs and Tools Reference Guide, "Retry behavior").
    pub retry_mode: RetryMode,
    /// For the TCP and TLS handshake (default 10 s).
    pub connect_timeout: Duration,
    /// For one try, handshake included (default 20 s).
    pub attempt_timeout: Duration,
    /// For a request with all its tries; none by default. A server that must know when a request can't have any effect
    /// any more sets it.
    pub operation_timeout: Option<Duration>,
    /// Allow plain-http endpoints on other machines.
    pub allow_http: bool,
    /// What to call ourselves in the User-Agent, for CloudTrail; at most 50 letters, digits and a few signs.
    pub app_name: Option<String>,
}

/// How the SDK spaces its retries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryMode {
    /// Exponential backoff with a retry budget.
    #[default]
    Standard,
    /// The same, and slowing down on throttling.
    Adaptive,
}

impl Settings {
    /// AWS's own endpoints in `region`, the system's CAs, no proxy.
    pub fn new(region: impl Into<String>) -> Self {
        Self {
            region: region.into(),
            endpoint_sts: None,
            endpoint_iam: None,
            use_fips: false,
            use_dualstack: false,
            ca_bundle: None,
            proxy: None,
            max_attempts: 3,
            retry_mode: RetryMode::Standard,
            connect_timeout: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(20),
            operation_timeout: None,
            allow_http: false,
            app_name: None,
        }
    }
}

/// One service's configuration. A macro, since each service's crate has builders of its own with the same methods.
macro_rules! config_of {
    ($sdk:ident, $aws:expr, $credentials:expr, $service:literal, $http:expr, $endpoint:expr) => {{
        let mut config = $sdk::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new($aws.settings.region.clone()))
            .use_fips($aws.settings.use_fips)
            .use_dual_stack($aws.settings.use_dualstack)
            .http_client($http.clone())
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .retry_config($aws.retry())
            .timeout_config($aws.timeouts())
            .identity_cache(IdentityCache::no_cache())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .disable_clock_skew_correction(true)
            .interceptor(Listen { clock: $aws.clock.clone(), service: $service })
            .credentials_provider(sdk_credentials($credentials));
        config.set_endpoint_url($endpoint.clone());
        config.set_app_name($aws.app_name.clone());
        #[cfg(feature = "simulation")]
        if let Some(simulated) = &$aws.simulated {
            config.set_time_source(Some(simulated.time()));
            config.set_retry_partition(Some(simulated.retries($service)));
        }
        config.build()
    }};
}

/// The way to AWS: makes clients that share one HTTP client and its connections.
#[derive(Clone, Debug)]
pub struct Aws {
    settings: Arc<Settings>,
    app_name: Option<AppName>,
    sts_http: SharedHttpClient,
    iam_http: SharedHttpClient,
    clock: Arc<ServerClock>,
    kept: Option<Arc<Kept>>,
    #[cfg(feature = "simulation")]
    simulated: Option<crate::simulation::Simulated>,
}

/// Clients that are made once: building one costs more than a request's own work.
#[derive(Debug)]
struct Kept {
    credentials: Credentials,
    sts: aws_sdk_sts::Client,
    iam: aws_sdk_iam::Client,
}

impl Kept {
    fn is_of(&self, other: &Credentials) -> bool {
        let token = |c: &Credentials| c.session_token.as_ref().map(|t| t.expose_secret().to_owned());
        let own = &self.credentials;
        own.access_key_id == other.access_key_id
            && own.secret_access_key.expose_secret() == other.secret_access_key.expose_secret()
            && token(own) == token(other)
    }
}

impl Aws {
    /// Checks the settings; opens no connection and loads no certificates yet.
    ///
    /// # Errors
    /// [`AwsError::PlainHttp`] for an http endpoint on another machine, [`AwsError::Settings`] for an address, proxy,
    /// CA bundle or region that can't work.
    pub fn new(settings: &Settings) -> Result<Self, AwsError> {
        if settings.region.is_empty()
            || !settings.region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        {
            return Err(AwsError::Settings(format!(
                "{:?} can't be an AWS region.\nSet one such as eu-central-1: export AWS_REGION=eu-central-1",
                settings.region
            )));
        }
        for endpoint in [&settings.endpoint_sts, &settings.endpoint_iam].into_iter().flatten() {
            if endpoint_kind(endpoint)? == EndpointKind::RemoteHttp && !settings.allow_http {
                return Err(AwsError::PlainHttp { endpoint: endpoint.clone() });
            }
            if settings.use_fips || settings.use_dualstack {
                return Err(AwsError::Settings(format!(
                    "The endpoint {endpoint} can't be combined with FIPS or dual-stack names.\nUnset AWS_ENDPOINT_URL, \
                     or AWS_USE_FIPS_ENDPOINT and AWS_USE_DUALSTACK_ENDPOINT."
                )));
            }
        }
        let app_name = match &settings.app_name {
            Some(name) => Some(
                AppName::new(name.clone())
                    .map_err(|_| AwsError::Settings(format!("{name:?} can't be an application name")))?,
            ),
            None => None,
        };
        let (connect, proxy) = (settings.connect_timeout, settings.proxy.as_ref());
        let https = Transport::https(settings.ca_bundle.as_deref(), proxy, connect)?;
        let https = SharedHttpClient::new(https);
        let http = SharedHttpClient::new(Transport::plain(settings.allow_http, connect));
        let pick = |endpoint: &Option<String>| match endpoint {
            Some(url) if url.get(..5).is_some_and(|s| s.eq_ignore_ascii_case("http:")) => http.clone(),
            _ => https.clone(),
        };
        Ok(Self {
            app_name,
            sts_http: pick(&settings.endpoint_sts),
            iam_http: pick(&settings.endpoint_iam),
            settings: Arc::new(settings.clone()),
            clock: Arc::default(),
            kept: None,
            #[cfg(feature = "simulation")]
            simulated: None,
        })
    }

    /// To a simulator's AWS: every request goes to `http`, whatever the endpoints of the settings are.
    #[cfg(feature = "simulation")]
    pub fn simulated(settings: &Settings, http: SharedHttpClient) -> Self {
        Self {
            app_name: None,
            sts_http: http.clone(),
            iam_http: http,
            settings: Arc::new(settings.clone()),
            clock: Arc::default(),
            kept: None,
            simulated: Some(crate::simulation::Simulated::new()),
        }
    }

    /// The same way to AWS, with the clients for `credentials` made once: for a server, which signs every request with
    /// the same ones. Clients for other credentials are made as before.
    #[must_use]
    pub fn keeping(&self, credentials: &Credentials) -> Self {
        let kept =
            Kept { credentials: credentials.clone(), sts: self.sts(credentials), iam: self.iam(credentials) };
        Self { kept: Some(Arc::new(kept)), ..self.clone() }
    }

    /// An STS client that signs with `credentials`.
    pub fn sts(&self, credentials: &Credentials) -> aws_sdk_sts::Client {
        if let Some(kept) = self.kept.as_ref().filter(|kept| kept.is_of(credentials)) {
            return kept.sts.clone();
        }
        let config =
            config_of!(aws_sdk_sts, self, credentials, "sts", &self.sts_http, &self.settings.endpoint_sts);
        aws_sdk_sts::Client::from_conf(config)
    }

    /// An IAM client that signs with `credentials`.
    pub fn iam(&self, credentials: &Credentials) -> aws_sdk_iam::Client {
        if let Some(kept) = self.kept.as_ref().filter(|kept| kept.is_of(credentials)) {
            return kept.iam.clone();
        }
        let config =
            config_of!(aws_sdk_iam, self, credentials, "iam", &self.iam_http, &self.settings.endpoint_iam);
        aws_sdk_iam::Client::from_conf(config)
    }

    /// The settings this was made from.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many seconds AWS's clock is ahead of this machine's (negative: behind), by the latest answer; `None` before
    /// the first.
    pub fn clock_offset(&self) -> Option<i64> {
        self.clock.offset_seconds()
    }

    /// AWS's time, from the latest answer on by a clock that nobody sets; `None` before the first. For what is compared
    /// with AWS's own times later: a step of this machine's clock does not touch it.
    pub fn server_time(&self) -> Option<Timestamp> {
        self.clock.steady()
    }

    /// Context for the errors of one request.
    pub(crate) fn context<'a>(
        &'a self,
        action: &'static str,
        key_id: &'a str,
        subject: &'a str,
    ) -> RequestContext<'a> {
        let service = if action.starts_with("sts:") {
            &self.settings.endpoint_sts
        } else {
            &self.settings.endpoint_iam
        };
        RequestContext { action, configured: service.as_deref(), key_id, clock: &self.clock, subject }
    }

    fn retry(&self) -> RetryConfig {
        let config = match self.settings.retry_mode {
            RetryMode::Standard => RetryConfig::standard(),
            RetryMode::Adaptive => RetryConfig::adaptive(),
        };
        config.with_max_attempts(self.settings.max_attempts.max(1))
    }

    fn timeouts(&self) -> TimeoutConfig {
        let mut timeouts = TimeoutConfig::builder()
            .connect_timeout(self.settings.connect_timeout)
            .operation_attempt_timeout(self.settings.attempt_timeout);
        timeouts.set_operation_timeout(self.settings.operation_timeout);
        timeouts.build()
    }
}

fn sdk_credentials(credentials: &Credentials) -> SdkCredentials {
    SdkCredentials::new(
        credentials.access_key_id.clone(),
        credentials.secret_access_key.expose_secret(),
        credentials.session_token.as_ref().map(|token| token.expose_secret().to_owned()),
        None,
        "iam-sorry",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_needs_permission() {
        let mut settings = Settings::new("us-east-1");
        settings.endpoint_sts = Some("http://10.1.2.3:4566".into());
        let error = Aws::new(&settings).unwrap_err();
        assert!(
            matches!(&error, AwsError::PlainHttp { endpoint } if endpoint.contains("10.1.2.3")),
            "{error}"
        );
        settings.allow_http = true;
        assert!(Aws::new(&settings).is_ok());
    }

    #[test]
    fn bad_settings_are_errors_not_panics() {
        let with = |change: &dyn Fn(&mut Settings)| {
            let mut settings = Settings::new("us-east-1");
            change(&mut settings);
            Aws::new(&settings).map(drop).map_err(|e| e.to_string())
        };
        assert!(with(&|s| s.ca_bundle = Some(b"not a certificate".to_vec())).is_err());
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
        assert!(with(&|s| s.ca_bundle = Some(broken.clone())).is_err());
        assert!(with(&|s| s.region = "us east".into()).is_err());
        let proxy = |url: &str| Some(Proxy { url: url.into(), no_proxy: None });
        let error = with(&|s| s.proxy = proxy("nonsense user:hunter2")).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        assert!(with(&|s| s.proxy = proxy("http://user:hunter2@proxy:3128")).is_ok());
    }

    #[test]
    fn debug_shows_no_proxy_password() {
        let mut settings = Settings::new("us-east-1");
        settings.proxy = Some(Proxy { url: "http://u:hunter2@proxy:1".into(), no_proxy: Some("x".into()) });
        let shown = format!("{settings:?} {:?}", Aws::new(&settings).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

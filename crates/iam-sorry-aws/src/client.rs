//! STS and IAM clients from settings that come in by value: one HTTP client for all of them, started when first needed.
//!
//! No aws-config: it would look at the environment, at files, at the instance's metadata. Endpoints, partitions, FIPS
//! and dual-stack names are the SDK's own resolver's; STS is asked at the regional endpoint, since tokens of the global
//! one fail in opt-in regions. The SDK's silent clock correction is off: with a wrong clock every other tool on the
//! machine fails next, and an expiry computed by it is wrong, so the user hears of the clock at once.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials as SdkCredentials;
use aws_sdk_iam::config::{AppName, BehaviorVersion, IdentityCache, Region, StalledStreamProtectionConfig};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::{DateTime, Format};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::timestamp::Timestamp;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};

use crate::errors::{Asked, AwsError};

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

/// An HTTP proxy; the address may carry a password.
#[derive(Clone)]
pub struct Proxy {
    /// `http://[user:password@]host:port`.
    pub url: SecretString,
    /// Hosts not to use it for, comma-separated, as in NO_PROXY.
    pub no_proxy: Option<String>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("no_proxy", &self.no_proxy).finish_non_exhaustive()
    }
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
            allow_http: false,
            app_name: None,
        }
    }
}

/// The way to AWS: makes clients that share one HTTP client and its connections.
#[derive(Clone, Debug)]
pub struct Aws {
    settings: Arc<Settings>,
    app_name: Option<AppName>,
    sts_http: SharedHttpClient,
    iam_http: SharedHttpClient,
    clock: Arc<ServerClock>,
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
        let proxy = settings.proxy.as_ref().map(proxy_config).transpose()?;
        let tls = tls_context(settings.ca_bundle.as_deref())?;
        let https = SharedHttpClient::new(Transport { tls: Some((tls, proxy)), connector: OnceLock::new() });
        let http = SharedHttpClient::new(Transport { tls: None, connector: OnceLock::new() });
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
        })
    }

    /// An STS client that signs with `credentials`.
    pub fn sts(&self, credentials: &Credentials) -> aws_sdk_sts::Client {
        let mut config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.settings.region.clone()))
            .use_fips(self.settings.use_fips)
            .use_dual_stack(self.settings.use_dualstack)
            .http_client(self.sts_http.clone())
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .retry_config(self.retry())
            .timeout_config(self.timeouts())
            .identity_cache(IdentityCache::no_cache())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .disable_clock_skew_correction(true)
            .interceptor(Listen { clock: self.clock.clone(), service: "sts" })
            .credentials_provider(sdk_credentials(credentials));
        config.set_endpoint_url(self.settings.endpoint_sts.clone());
        config.set_app_name(self.app_name.clone());
        aws_sdk_sts::Client::from_conf(config.build())
    }

    /// An IAM client that signs with `credentials`.
    pub fn iam(&self, credentials: &Credentials) -> aws_sdk_iam::Client {
        let mut config = aws_sdk_iam::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.settings.region.clone()))
            .use_fips(self.settings.use_fips)
            .use_dual_stack(self.settings.use_dualstack)
            .http_client(self.iam_http.clone())
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .retry_config(self.retry())
            .timeout_config(self.timeouts())
            .identity_cache(IdentityCache::no_cache())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .disable_clock_skew_correction(true)
            .interceptor(Listen { clock: self.clock.clone(), service: "iam" })
            .credentials_provider(sdk_credentials(credentials));
        config.set_endpoint_url(self.settings.endpoint_iam.clone());
        config.set_app_name(self.app_name.clone());
        aws_sdk_iam::Client::from_conf(config.build())
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

    /// Context for the errors of one request.
    pub(crate) fn asked<'a>(&'a self, action: &'static str, key_id: &'a str, subject: &'a str) -> Asked<'a> {
        let configured = if action.starts_with("sts:") {
            &self.settings.endpoint_sts
        } else {
            &self.settings.endpoint_iam
        };
        let service = action.split(':').next().unwrap_or(action);
        let endpoint = configured
            .clone()
            .or_else(|| self.clock.host(service))
            .unwrap_or_else(|| format!("{service} in {}", self.settings.region));
        Asked { action, endpoint, key_id, clock: &self.clock, subject }
    }

    fn retry(&self) -> RetryConfig {
        let config = match self.settings.retry_mode {
            RetryMode::Standard => RetryConfig::standard(),
            RetryMode::Adaptive => RetryConfig::adaptive(),
        };
        config.with_max_attempts(self.settings.max_attempts.max(1))
    }

    fn timeouts(&self) -> TimeoutConfig {
        TimeoutConfig::builder()
            .connect_timeout(self.settings.connect_timeout)
            .operation_attempt_timeout(self.settings.attempt_timeout)
            .build()
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndpointKind {
    Https,
    LoopbackHttp,
    RemoteHttp,
}

/// Reads scheme and host of an endpoint; strict, so that nothing passes for loopback that is not
/// (`http://127.0.0.1@example.com`, `http://localhost.example.com`).
fn endpoint_kind(endpoint: &str) -> Result<EndpointKind, AwsError> {
    let invalid = || {
        AwsError::Settings(format!(
            "{endpoint:?} can't be an endpoint.\nGive an address such as https://sts.eu-central-1.amazonaws.com"
        ))
    };
    let (scheme, rest) = endpoint.split_once("://").ok_or_else(invalid)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    if authority.is_empty()
        || authority.contains(|c: char| c == '@' || c == '\\' || c == '%' || !c.is_ascii_graphic())
    {
        return Err(invalid());
    }
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']').ok_or_else(invalid)?.0,
        None => authority.split(':').next().unwrap_or(authority),
    };
    let loopback =
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match scheme.to_ascii_lowercase().as_str() {
        "https" => Ok(EndpointKind::Https),
        "http" if loopback => Ok(EndpointKind::LoopbackHttp),
        "http" => Ok(EndpointKind::RemoteHttp),
        _ => Err(invalid()),
    }
}

fn proxy_config(proxy: &Proxy) -> Result<ProxyConfig, AwsError> {
    // The SDK's error would repeat the address, password and all.
    let config = ProxyConfig::https(proxy.url.expose_secret()).map_err(|_| {
        AwsError::Settings(
            "The address of the proxy can't be read.\nSet it like this: export HTTPS_PROXY=http://proxy.example.org:3128"
                .into(),
        )
    })?;
    Ok(match &proxy.no_proxy {
        Some(hosts) => config.no_proxy(hosts),
        None => config,
    })
}

fn tls_context(ca_bundle: Option<&[u8]>) -> Result<TlsContext, AwsError> {
    let mut builder = TlsContext::builder();
    if let Some(pem) = ca_bundle {
        // The SDK panics on a bundle that it can't read, so every certificate is tried here first.
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let mut roots = RootCertStore::empty();
        let usable = certificates.is_ok_and(|list| {
            !list.is_empty() && list.into_iter().all(|certificate| roots.add(certificate).is_ok())
        });
        if !usable {
            return Err(AwsError::Settings(
                "The CA bundle holds no PEM certificates, or one that can't be read.\nCheck the file that \
                 AWS_CA_BUNDLE or ca_bundle names."
                    .into(),
            ));
        }
        builder =
            builder.with_trust_store(TrustStore::empty().with_native_roots(false).with_pem_certificate(pem));
    }
    builder.build().map_err(|e| AwsError::Settings(format!("TLS could not be set up: {e}")))
}

/// One connector with its pool, made at the first request: loading the system's CAs takes tens of milliseconds, and a
/// plain-http endpoint needs none. (The SDK's own client loads them whenever a service client is made.)
struct Transport {
    tls: Option<(TlsContext, Option<ProxyConfig>)>,
    connector: OnceLock<SharedHttpConnector>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

impl HttpClient for Transport {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        // The timeouts in `settings` are the same for every client that one `Aws` makes, so one connector serves all.
        self.connector
            .get_or_init(|| {
                let builder = Connector::builder()
                    .connector_settings(settings.clone())
                    .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()));
                SharedHttpConnector::new(match &self.tls {
                    None => builder.build_http(),
                    Some((tls, proxy)) => {
                        let mut builder = builder;
                        builder.set_proxy_config(proxy.clone());
                        builder
                            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
                            .tls_context(tls.clone())
                            .build()
                    }
                })
            })
            .clone()
    }
}

/// What AWS's answers tell about its clock, and where the requests went.
#[derive(Debug, Default)]
pub(crate) struct ServerClock(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    offset: Option<i64>,
    sts_host: Option<String>,
    iam_host: Option<String>,
}

impl ServerClock {
    /// Seconds that AWS's clock is ahead of ours.
    pub fn offset_seconds(&self) -> Option<i64> {
        self.heard().offset
    }

    pub fn local(&self) -> Timestamp {
        now()
    }

    pub fn server(&self) -> Option<Timestamp> {
        Timestamp::from_unix(now().unix().checked_add(self.offset_seconds()?)?)
    }

    fn host(&self, service: &str) -> Option<String> {
        let heard = self.heard();
        if service == "sts" { heard.sts_host.clone() } else { heard.iam_host.clone() }
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// This machine's clock, whole seconds.
pub(crate) fn now() -> Timestamp {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    i64::try_from(seconds)
        .ok()
        .and_then(Timestamp::from_unix)
        .unwrap_or_else(|| unreachable!("the clock is past the year 9999"))
}

/// Notes where a request goes and the `Date` of its answer.
#[derive(Debug)]
struct Listen {
    clock: Arc<ServerClock>,
    service: &'static str,
}

impl Intercept for Listen {
    fn name(&self) -> &'static str {
        "iam-sorry-listen"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let uri = context.request().uri();
        let origin: String = uri.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        let mut heard = self.clock.heard();
        *(if self.service == "sts" { &mut heard.sts_host } else { &mut heard.iam_host }) = Some(origin);
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // RFC 9110, section 6.6.1; a response from a cache (Age) would tell an old time.
        let headers = context.response().headers();
        if headers.get("age").is_none()
            && let Some(date) = headers.get("date")
            && let Ok(date) = DateTime::from_str(date, Format::HttpDate)
        {
            self.clock.heard().offset = Some(date.secs() - now().unix());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for local in ["http://localhost:4566", "http://127.0.0.1", "HTTP://127.8.9.1:1/x", "http://[::1]:99/"]
        {
            assert_eq!(endpoint_kind(local).unwrap(), EndpointKind::LoopbackHttp, "{local}");
        }
        for remote in [
            "http://example.com",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://10.0.0.1:80",
            "http://[::2]",
            "http://0.0.0.0:1",
            "http://127.1",
        ] {
            assert_eq!(endpoint_kind(remote).unwrap(), EndpointKind::RemoteHttp, "{remote}");
        }
        for bad in [
            "localhost:4566",
            "ftp://localhost",
            "http://",
            "http:///x",
            "http://127.0.0.1@example.com/",
            "http://example.com\\@localhost",
            "http://local host",
            "http://[::1",
            "",
        ] {
            assert!(endpoint_kind(bad).is_err(), "{bad}");
        }
        assert_eq!(endpoint_kind("https://sts.amazonaws.com").unwrap(), EndpointKind::Https);
    }

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

//! Builds the AWS client from profile and variables. The only module that starts an async runtime.

use std::future::Future;

use iam_sorry_aws::client::{Proxy, RetryMode};
use iam_sorry_aws::{Aws, Cancel, Settings};

use crate::app::App;
use crate::error::{Error, Result};
use crate::profile::Profile;
use crate::settings::read_regular;

/// A client for STS and IAM, configured for `profile`.
pub fn connect(app: &App, profile: Option<&Profile>) -> Result<Aws> {
    let env = &app.settings;
    let setting = |key: &str| profile.and_then(|p| p.setting(key));
    let region = app.global.region.as_deref().or(env.region.as_deref()).or_else(|| setting("region"));
    let mut settings = Settings::new(region.unwrap_or("us-east-1"));
    settings.endpoint_sts = endpoint(app, profile, "sts").map(str::to_owned);
    settings.endpoint_iam = endpoint(app, profile, "iam").map(str::to_owned);
    let truth = |key| setting(key).map(|value| value.eq_ignore_ascii_case("true"));
    settings.use_fips = env.use_fips.or_else(|| truth("use_fips_endpoint")).unwrap_or(false);
    settings.use_dualstack = env.use_dualstack.or_else(|| truth("use_dualstack_endpoint")).unwrap_or(false);
    settings.allow_http = env.allow_http || app.global.allow_http;
    settings.proxy = env.proxy.clone().map(|url| Proxy { url, no_proxy: env.no_proxy.clone() });
    settings.app_name = Some(format!("iam-sorry-{}", env!("CARGO_PKG_VERSION")));
    let bundle = env.ca_bundle.clone().or_else(|| setting("ca_bundle").map(Into::into));
    if let Some(path) = bundle {
        let pem = read_regular(&path).map_err(|e| {
            Error::usage(format!("The CA bundle {} can't be read: {e}", path.display()))
                .hint("Set AWS_CA_BUNDLE to a PEM file, or unset it")
        })?;
        settings.ca_bundle = Some(pem);
    }
    if let Some(text) = env.max_attempts.as_deref().or_else(|| setting("max_attempts")) {
        settings.max_attempts = text.parse().ok().filter(|n| (1..=20).contains(n)).ok_or_else(|| {
            Error::usage(format!("AWS_MAX_ATTEMPTS is {text:?}; it must be a whole number from 1 to 20"))
        })?;
    }
    settings.retry_mode = match env.retry_mode.as_deref().or_else(|| setting("retry_mode")) {
        None | Some("standard" | "legacy") => RetryMode::Standard,
        Some("adaptive") => RetryMode::Adaptive,
        Some(other) => {
            return Err(Error::usage(format!(
                "AWS_RETRY_MODE is {other:?}; it must be standard or adaptive"
            )));
        }
    };
    Ok(Aws::new(&settings)?)
}

/// The endpoint, in this order: the service's own variable, the variable for all services, the profile's `services`
/// section, its `endpoint_url` (AWS SDKs and Tools Reference Guide, "Service-specific endpoints").
fn endpoint<'a>(app: &'a App, profile: Option<&'a Profile>, service: &str) -> Option<&'a str> {
    let env = &app.settings;
    if env.ignore_endpoints {
        return None;
    }
    let own = if service == "sts" { &env.endpoint_sts } else { &env.endpoint_iam };
    own.as_deref().or(env.endpoint.as_deref()).or_else(|| {
        let wanted = |p: &&Profile| {
            !p.setting("ignore_configured_endpoint_urls").is_some_and(|v| v.eq_ignore_ascii_case("true"))
        };
        profile.filter(wanted).and_then(|p| p.service_endpoint(service).or_else(|| p.setting("endpoint_url")))
    })
}

/// Endpoint and region of STS as [`connect`] finds them. Cache keys contain them, so that emulators and partitions
/// share no sessions.
pub fn address(app: &App, profile: &Profile) -> (String, String) {
    let endpoint = endpoint(app, Some(profile), "sts");
    (endpoint.unwrap_or_default().to_owned(), app.region_of(profile).unwrap_or_default().to_owned())
}

/// Runs `work` to its end. Ctrl-C and SIGTERM cancel it; it still undoes what it has begun.
pub fn block_on<T, W>(work: impl FnOnce(Cancel) -> W) -> Result<T>
where
    W: Future<Output = Result<T>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::other(format!("The async runtime could not be started: {e}")))?;
    let cancel = Cancel::new();
    runtime.block_on(async {
        let signals = cancel_on_signal(cancel.clone());
        let done = work(cancel.clone());
        tokio::pin!(done);
        tokio::select! {
            // Handlers first: the work may prompt, and must never be dropped half way.
            biased;
            watched = signals => match watched {
                Ok(()) => done.await,
                Err(e) => Err(Error::other(format!("Signals can't be watched: {e}"))),
            },
            result = &mut done => result,
        }
    })
}

async fn cancel_on_signal(cancel: Cancel) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    cancel.cancel();
    Ok(())
}

//! What every answer says besides its content: AWS's clock against this machine's (`Date`), which hosts answered, and the
//! request's id, for an audit trail.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
    FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::{DateTime, Format};
use iam_sorry_core::timestamp::Timestamp;
use tokio::time::Instant;

/// What AWS's answers say about its clock, and where the requests went.
#[derive(Debug, Default)]
pub(crate) struct ServerClock(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    offset: Option<i64>,
    /// AWS's time, and when it was heard by a clock that nobody sets.
    at: Option<(i64, Instant)>,
    sts_host: Option<String>,
    iam_host: Option<String>,
}

impl ServerClock {
    /// Seconds that AWS's clock is ahead of this machine's.
    pub fn offset_seconds(&self) -> Option<i64> {
        self.heard().offset
    }

    pub fn local(&self) -> Timestamp {
        now()
    }

    pub fn server(&self) -> Option<Timestamp> {
        Timestamp::from_unix(now().unix().checked_add(self.offset_seconds()?)?)
    }

    /// AWS's time now, however this machine's clock was set meanwhile.
    pub fn steady(&self) -> Option<Timestamp> {
        let (seconds, heard) = self.heard().at?;
        let since = i64::try_from(heard.elapsed().as_secs()).ok()?;
        Timestamp::from_unix(seconds.checked_add(since)?)
    }

    pub fn host(&self, service: &str) -> Option<String> {
        let heard = self.heard();
        if service == "sts" { heard.sts_host.clone() } else { heard.iam_host.clone() }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(feature = "simulation")]
thread_local! {
    static SIMULATED: std::cell::Cell<Option<fn() -> i64>> = const { std::cell::Cell::new(None) };
}

/// What time it is on this thread, in the place of the machine's clock: milliseconds since 1970. None: the machine's.
#[cfg(feature = "simulation")]
pub fn set_clock(clock: Option<fn() -> i64>) {
    SIMULATED.set(clock);
}

/// This machine's clock, whole seconds.
pub(crate) fn now() -> Timestamp {
    // A clock past the year 9999 is as wrong as one before 1970, and AWS's answer will say so.
    Timestamp::from_unix(now_ms().div_euclid(1000)).unwrap_or(Timestamp::EPOCH)
}

/// This machine's clock, milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    #[cfg(feature = "simulation")]
    if let Some(simulated) = SIMULATED.get() {
        return simulated();
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Notes where a request goes and the `Date` of its answer.
#[derive(Debug)]
pub(crate) struct Listen {
    pub clock: Arc<ServerClock>,
    pub service: &'static str,
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
        crate::work::sending(context.request().body().bytes().unwrap_or_default())?;
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
        // RFC 9110, section 6.6.1; a response from a cache (Age) would give an old time.
        let headers = context.response().headers();
        let id = headers.get("x-amzn-requestid").map(crate::text::clean);
        crate::work::answered(id, !context.response().status().is_server_error());
        if headers.get("age").is_none()
            && let Some(date) = headers.get("date")
            && let Ok(date) = DateTime::from_str(date, Format::HttpDate)
        {
            let mut heard = self.clock.heard();
            heard.offset = Some(date.secs() - now().unix());
            heard.at = Some((date.secs(), Instant::now()));
        }
        Ok(())
    }

    /// Not called for a try that ran out of time: then its answer never came.
    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(Err(error)) = context.output_or_error()
            && let Some(error) = error.as_connector_error()
            && crate::transport::never_connected(error)
        {
            crate::work::never_sent();
        }
        Ok(())
    }
}

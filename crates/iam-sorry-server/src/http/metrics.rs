//! `/metrics` in Prometheus's text format. No label names a person, an address, a user or a key: only routes, codes and
//! the operator's own names.

use std::fmt;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::service::Service;

/// What is counted.
pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    seconds: Family<Route, Histogram>,
    under_way: Gauge,
    limited: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

impl Metrics {
    /// With everything at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("iam_sorry");
        let (requests, under_way, limited) =
            (Family::default(), Gauge::<i64, AtomicI64>::default(), Counter::default());
        // 0.5 ms to 65 s.
        let seconds = Family::new_with_constructor(
            (|| Histogram::new(exponential_buckets(0.0005, 2.0, 18))) as fn() -> _,
        );
        registry.register("http_requests", "Requests answered", Family::clone(&requests));
        registry.register("http_request_seconds", "Time to the answer's head", Family::clone(&seconds));
        registry.register("http_requests_under_way", "Requests that are being worked on", under_way.clone());
        registry.register("http_requests_limited", "Requests refused as too many", limited.clone());
        Self { registry, requests, seconds, under_way, limited }
    }

    /// For what other parts count; before the metrics are served.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    pub(super) fn answered(&self, method: &http::Method, route: &str, status: u16, took: Duration) {
        let method = match method.as_str() {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "POST" => "POST",
            "DELETE" => "DELETE",
            _ => "other",
        };
        self.requests.get_or_create(&Request { method, route: route.to_owned(), status }).inc();
        self.seconds.get_or_create(&Route { route: route.to_owned() }).observe(took.as_secs_f64());
        if status == 429 {
            self.limited.inc();
        }
    }

    pub(super) fn under_way(&self) -> &Gauge {
        &self.under_way
    }

    /// All metrics in the OpenMetrics text format; none if the encoder fails.
    pub fn text(&self) -> Option<String> {
        let mut text = String::new();
        encode(&mut text, &self.registry).ok()?;
        Some(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// How the audit sinks and the access keys are, asked for whenever somebody reads the metrics. Their names are the operator's own.
pub(super) struct SinkMetrics(pub(super) Service);

impl fmt::Debug for SinkMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SinkMetrics")
    }
}

impl Collector for SinkMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sinks = self.0.sinks();
        let help = "Audit records that a sink does not have yet";
        let mut behind =
            encoder.encode_descriptor("audit_sink_behind_records", help, None, MetricType::Gauge)?;
        for sink in &sinks {
            let labels = [("sink", sink.name.as_str())];
            behind.encode_family(&labels)?.encode_gauge(&i64::try_from(sink.behind).unwrap_or(i64::MAX))?;
        }
        let help = "Seconds since a sink last had everything";
        let mut seconds =
            encoder.encode_descriptor("audit_sink_behind_seconds", help, None, MetricType::Gauge)?;
        for sink in &sinks {
            let labels = [("sink", sink.name.as_str())];
            seconds.encode_family(&labels)?.encode_gauge(&i64::try_from(sink.seconds).unwrap_or(i64::MAX))?;
        }
        let help = "Access keys that a lost answer may have left, and nobody has decided about";
        encoder
            .encode_descriptor("unaccounted_keys", help, None, MetricType::Gauge)?
            .encode_gauge(&i64::try_from(self.0.unaccounted_keys()).unwrap_or(i64::MAX))?;
        Ok(())
    }
}

/// How AWS and the directory are.
pub(super) struct NeighbourMetrics(pub(super) Service);

impl fmt::Debug for NeighbourMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NeighbourMetrics")
    }
}

impl Collector for NeighbourMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "1 while AWS or the directory answers, 0 while it does not";
        let mut up = encoder.encode_descriptor("component_up", help, None, MetricType::Gauge)?;
        for neighbour in self.0.neighbours() {
            let labels = [("component", neighbour.name)];
            up.encode_family(&labels)?.encode_gauge(&i64::from(neighbour.state.is_ok()))?;
        }
        Ok(())
    }
}

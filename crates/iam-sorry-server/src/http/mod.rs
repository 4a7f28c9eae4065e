//! The HTTP face: how requests come in and answers go out. Nothing here decides what anybody may do.
//!
//! `server` accepts connections, `boundary` is what every request goes through (the pages' too), `extract` reads
//! requests strictly, `api/` has the handlers, `problem` the one error type, `openapi` the published document. Beside the
//! API: `health` (/healthz, /readyz) and `metrics`, on a listener of its own. What is logged says `logging`.

mod address;
mod api;
mod app;
mod attempts;
mod boundary;
mod extract;
mod face;
mod health;
mod limits;
mod logging;
mod metrics;
mod metrics_endpoint;
mod openapi;
mod problem;
mod server;
mod settings;
mod slow;
mod tls;

pub use address::{AddressRange, InvalidRange};
pub use api::{paths as api_paths, router as api_router};
pub use app::App;
pub use boundary::{BODY_BYTES, Boundary, RequestContext};
pub use extract::{Context, Json, Name, NoBody, Query};
pub use face::{Http, Pages};
pub use health::{Check, CheckResult, Health, Readiness};
pub use logging::{LogFormat, LogLevel, LogSettings, start as start_logging};
pub use metrics::Metrics;
pub use metrics_endpoint::router as metrics_router;
pub use openapi::openapi;
pub use problem::{ApiError, DrawPage};
pub use server::{Peer, Server, ServerError};
pub use settings::{HttpSettings, HttpSettingsError, LimitSettings, Rate, TlsSettings};
pub use tls::{Certificates, NewCertificate, TlsError};

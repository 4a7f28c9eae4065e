//! `GET /metrics`, on a listener of its own.

use std::sync::Arc;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header::CONTENT_TYPE;

use super::boundary::Boundary;

/// The route; `boundary` counts what is shown.
pub fn router(boundary: Arc<Boundary>) -> Router {
    Router::new().route(
        "/metrics",
        get(move || async move {
            match boundary.metrics().text() {
                Some(text) => {
                    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                    ([(CONTENT_TYPE, kind)], text).into_response()
                }
                None => http::StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            }
        }),
    )
}

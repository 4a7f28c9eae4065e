//! The style sheet and the icon. The style sheet's address holds its hash, so that browsers may keep it for good.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header;

const STYLE: &str = include_str!("../../static/style.css");
const ICON: &str = include_str!("../../static/icon.svg");

static STYLE_PATH: LazyLock<String> = LazyLock::new(|| {
    let hash = digest::digest(&digest::SHA256, STYLE.as_bytes());
    format!("/static/style-{}.css", URL_SAFE_NO_PAD.encode(&hash.as_ref()[..9]))
});

/// Where the style sheet is.
pub fn style_path() -> &'static str {
    &STYLE_PATH
}

/// Both, for anybody.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let file = |kind: &'static str, keep: &'static str, text: &'static str| async move {
        let headers = [
            (header::CONTENT_TYPE, kind),
            (header::CACHE_CONTROL, keep),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
        ];
        (headers, text).into_response()
    };
    Router::new()
        .route(
            style_path(),
            get(move || file("text/css; charset=utf-8", "public, max-age=31536000, immutable", STYLE)),
        )
        .route("/static/icon.svg", get(move || file("image/svg+xml", "public, max-age=86400", ICON)))
}

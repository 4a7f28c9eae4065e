//! Answers that hold a secret.

use axum::body::{Body, Bytes};
use axum::response::Response;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use zeroize::Zeroizing;

/// An answer that holds a secret: its only copy is wiped when it was sent.
pub fn secret_json(json: Zeroizing<String>) -> Response {
    struct Wiped(Zeroizing<String>);
    impl AsRef<[u8]> for Wiped {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    let mut response = Response::new(Body::from(Bytes::from_owner(Wiped(json))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

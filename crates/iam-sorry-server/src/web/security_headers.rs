//! What keeps browsers from doing more than showing a page.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The headers that keep browsers from doing more than showing the page; the boundary has those that are the same for
/// the API.
///
/// The referrer policy is same-origin and not no-referrer: both tell other sites nothing, but under the latter browsers
/// send `Origin: null` with our own forms (Fetch, "append a request Origin header").
pub(super) fn harden(headers: &mut HeaderMap) {
    let policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
                  frame-ancestors 'none'; base-uri 'none'";
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

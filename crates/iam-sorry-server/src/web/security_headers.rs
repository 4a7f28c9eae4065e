//! What keeps browsers from doing more than showing a page.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The Content-Security-Policy of all pages. `leads_to` are the origins of the providers that a form may lead to: browsers hold
/// the redirect that answers a form against `form-action`, too (CSP3, section 4.1.2, in Chromium).
pub(super) fn policy(leads_to: &BTreeSet<String>) -> Result<HeaderValue, header::InvalidHeaderValue> {
    let targets: String = leads_to.iter().map(|origin| format!(" {origin}")).collect();
    HeaderValue::try_from(format!(
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'{targets}; frame-ancestors 'none'; \
         base-uri 'none'"
    ))
}

/// The headers that keep browsers from doing more than showing the page; the boundary has those that are the same for
/// the API.
///
/// The referrer policy is same-origin and not no-referrer: both tell other sites nothing, but under the latter browsers
/// send `Origin: null` with our own forms (Fetch, "append a request Origin header").
pub(super) fn harden(headers: &mut HeaderMap, policy: &HeaderValue) {
    headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    for (name, value) in [
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_leads_to_the_service_and_to_the_providers_and_nowhere_else() {
        let of =
            |origins: &[&str]| policy(&origins.iter().map(|&origin| origin.to_owned()).collect()).unwrap();
        assert!(of(&[]).to_str().unwrap().contains("; form-action 'self'; "));
        let two = of(&["https://b.example", "https://a.example:8443"]);
        let wanted = "; form-action 'self' https://a.example:8443 https://b.example; ";
        assert!(two.to_str().unwrap().contains(wanted), "{two:?}");
    }
}

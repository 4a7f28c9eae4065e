//! What is sent to the pages, and why it is believed: every POST must come from a page of ours, seen by this browser.
//!
//! 1. The browser says from where: `Sec-Fetch-Site` must be `same-origin`; where a browser doesn't send it, `Origin` must
//!    be ours. Neither: refused.
//! 2. The form carries the token of its session ([`crate::sessions::secrets::form_secret`]), or, before anybody is signed in, one
//!    made from a random cookie, so that nobody can be signed in under a foreign name by a page of somebody else.
//!
//! A form that changes something also carries a random `key`. Together with what was sent it becomes the idempotency
//! key: loading the answer again does nothing again, and another choice in the same form is another request.

use aws_lc_rs::digest;
use axum::extract::rejection::{FormRejection, FormRejection::*};
use axum::extract::{Form, FromRequest, Request};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use iam_sorry_core::api::ProblemCode;
use iam_sorry_core::ssh::login::Origin;
use zeroize::Zeroizing;

use super::context::PageContext;
use crate::error::ServiceError;
use crate::operations::idempotency::IdempotencyKey;

/// The fields of a form that was believed.
pub struct Sent {
    fields: Vec<(String, Zeroizing<String>)>,
}

impl Sent {
    /// A field's value; empty where it was not sent.
    pub fn text(&self, name: &str) -> &str {
        self.fields.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// Every value of a field.
    pub fn all(&self, name: &str) -> Vec<String> {
        let wanted = self.fields.iter().filter(|(found, _)| found == name);
        wanted.map(|(_, value)| value.to_string()).collect()
    }

    /// Whether the button "Only check" was used.
    pub fn dry_run(&self) -> bool {
        self.text("dry_run") == "true"
    }

    /// The idempotency key of this request: of the form's key, its address and all that was chosen.
    ///
    /// # Errors
    /// bad-request where the form had no key.
    pub fn key(&self, path: &str) -> Result<IdempotencyKey, ServiceError> {
        let given = self.text("key");
        if given.len() < 16 {
            return Err(ServiceError::new(
                ProblemCode::BadRequest,
                "The form was not complete.\nGo back, load the page again and send it once more.",
            ));
        }
        let mut context = digest::Context::new(&digest::SHA256);
        let mut add = |text: &str| {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        };
        add(path);
        for (name, value) in self.fields.iter().filter(|(name, _)| name != "form_token") {
            add(name);
            add(value);
        }
        IdempotencyKey::parse(&URL_SAFE_NO_PAD.encode(context.finish()))
    }
}

/// Takes the form of a POST, and refuses it unless it came from a page of ours.
impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = ServiceError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ServiceError> {
        let context = PageContext::of(request.extensions())?;
        from_here(request.headers(), context.site().origin())?;
        let Form(fields) =
            Form::<Vec<(String, String)>>::from_request(request, state).await.map_err(refused)?;
        let fields = fields.into_iter().map(|(name, value)| (name, Zeroizing::new(value))).collect();
        let sent = Self { fields };
        if !context.sent_form(sent.text("form_token")) {
            return Err(cross_site("The form is not of this session, or the session is over."));
        }
        Ok(sent)
    }
}

fn refused(rejection: FormRejection) -> ServiceError {
    match rejection {
        InvalidFormContentType(_) => ServiceError::new(
            ProblemCode::UnsupportedMediaType,
            "Pages take forms (application/x-www-form-urlencoded).\nPrograms use the API under /api/v1.",
        ),
        BytesRejection(body) if body.status() == http::StatusCode::PAYLOAD_TOO_LARGE => {
            ServiceError::new(ProblemCode::TooLarge, "What was sent is larger than any form of ours.")
        }
        _ => ServiceError::new(ProblemCode::BadRequest, "What was sent is no form."),
    }
}

fn cross_site(what: &str) -> ServiceError {
    ServiceError::new(
        ProblemCode::CrossSite,
        format!(
            "{what} Nothing was done.\nGo to the page yourself, load it again, and send the form from there."
        ),
    )
}

/// Whether the browser says that a page of ours sent this (Fetch Metadata, and RFC 6454, 7.3, where it has none).
fn from_here(headers: &HeaderMap, origin: &Origin) -> Result<(), ServiceError> {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        (values.next(), values.next().is_none())
    };
    let elsewhere = || cross_site("The form was sent by another site.");
    let (site, single_site) = one("sec-fetch-site");
    let (from, single_from) = one(header::ORIGIN.as_str());
    if !single_site || !single_from {
        return Err(elsewhere());
    }
    if from.is_some_and(|from| from != "null" && from.as_bytes() != origin.as_str().as_bytes()) {
        return Err(elsewhere());
    }
    match site {
        Some(site) if site == "same-origin" => Ok(()),
        Some(_) => Err(elsewhere()),
        None if from.is_some_and(|from| from != "null") => Ok(()),
        None => Err(cross_site("The browser does not say which page sent the form.")),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(pairs: &[(&'static str, &'static str)]) -> bool {
        let headers = pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        from_here(&headers, &Origin::parse("https://aws.example.edu").unwrap()).is_ok()
    }

    #[test]
    fn only_our_own_pages_may_send_forms() {
        assert!(check(&[("sec-fetch-site", "same-origin"), ("origin", "https://aws.example.edu")]));
        assert!(check(&[("sec-fetch-site", "same-origin"), ("origin", "null")]));
        assert!(check(&[("origin", "https://aws.example.edu")]));
        for (why, pairs) in [
            ("nothing", &[][..]),
            ("another site", &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")]),
            ("a sister host", &[("sec-fetch-site", "same-site"), ("origin", "https://x.example.edu")]),
            ("typed", &[("sec-fetch-site", "none")]),
            ("null alone", &[("origin", "null")]),
            ("lying origin", &[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")]),
            ("another port", &[("origin", "https://aws.example.edu:8443")]),
            ("plain", &[("origin", "http://aws.example.edu")]),
            ("a longer host", &[("origin", "https://aws.example.edu.evil.example")]),
            ("two", &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "same-origin")]),
        ] {
            assert!(!check(pairs), "{why}");
        }
    }

    fn sent(pairs: &[(&str, &str)]) -> Sent {
        let fields = pairs.iter().map(|(n, v)| ((*n).to_owned(), Zeroizing::new((*v).to_owned())));
        Sent { fields: fields.collect() }
    }

    #[test]
    fn the_same_form_is_the_same_request_and_another_choice_is_another() {
        let form = [("key", "0123456789abcdef"), ("target", "user:a"), ("form_token", "x")];
        let key = |pairs: &[(&str, &str)], path| sent(pairs).key(path).unwrap();
        let first = key(&form, "/credentials");
        assert_eq!(first, key(&[form[0], form[1], ("form_token", "other")], "/credentials"));
        assert_ne!(first, key(&[form[0], ("target", "user:b")], "/credentials"));
        assert_ne!(first, key(&form, "/namespace/users"));
        // What runs together must not be the same.
        assert_ne!(key(&[form[0], ("a", "bc")], "/"), key(&[form[0], ("ab", "c")], "/"));
        assert!(sent(&[("target", "x")]).key("/").is_err());
    }
}

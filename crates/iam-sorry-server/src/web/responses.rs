//! What handlers answer: a page, a way on, or a problem's page.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use iam_sorry_core::api::{Problem, ProblemCode};

use super::context::{PageContext, Place, Site};
use super::urls;
use super::views::{Flash, Frame, Link, ProblemPage, Section};
use crate::error::ServiceError;

/// What a handler gives.
pub type Answer = Result<Response, ServiceError>;

/// A page.
///
/// # Errors
/// internal, where the template fails (it does not).
pub fn page(template: &impl Template) -> Answer {
    match template.render() {
        Ok(text) => Ok(Html(text).into_response()),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            Err(ServiceError::new(ProblemCode::Internal, "The service could not make this page."))
        }
    }
}

/// A page with another status than 200.
///
/// # Errors
/// As [`page`].
pub fn page_with(code: ProblemCode, template: &impl Template) -> Answer {
    let mut response = page(template)?;
    *response.status_mut() = status(code);
    Ok(response)
}

/// Go on by GET (303, RFC 9110, 15.4.4), to a place of ours.
pub fn go(place: &str) -> Response {
    let place = HeaderValue::try_from(place).unwrap_or(HeaderValue::from_static(urls::HOME));
    (StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response()
}

/// Go on, and say there what was done.
pub fn go_saying(context: &PageContext, place: &str, note: &Flash) -> Response {
    let mut response = go(place);
    if let Some(cookie) = context.note_cookie(note) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// A problem, as a page in the same style; who only has to sign in is sent there and comes back.
pub(super) fn problem(context: &PageContext, place: &Place, refusal: ServiceError) -> Response {
    let reading = [Method::GET, Method::HEAD].contains(&place.method);
    if refusal.code == ProblemCode::SignInNeeded && reading {
        let wish = urls::local(&place.path_and_query);
        return go(&match wish == urls::HOME {
            true => "/sign-in".to_owned(),
            false => format!("/sign-in?next={}", urls::encode(wish)),
        });
    }
    problem_page(context, place, refusal).unwrap_or_else(|refusal| {
        // The frame itself can't be had: the least that still says what happened.
        let text = format!("{}\n\nRequest {}\n", refusal.detail, context.source().request_id);
        (status(refusal.code), [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
    })
}

/// A problem of an address that is no page's, or before anybody knows who asks: the same page without a name in the bar.
pub(super) fn draw(site: &Site, problem: &Problem) -> Response {
    let frame = Frame {
        service: site.service.service_info().map_or_else(|_| "iam-sorry".to_owned(), |info| info.name),
        version: env!("CARGO_PKG_VERSION"),
        style: super::assets::style_path(),
        title: title(problem.code).to_owned(),
        section: Section::None,
        narrow: true,
        person: None,
        form_token: String::new(),
        key: String::new(),
        note: None,
    };
    let lines = match problem.code {
        ProblemCode::NotFound => vec!["There is no such page.".to_owned()],
        _ => problem.detail.lines().map(str::to_owned).collect(),
    };
    let drawn = page(&ProblemPage {
        frame,
        title: title(problem.code).to_owned(),
        lines,
        reasons: problem.reasons.clone(),
        retry_after: None,
        links: vec![Link { href: "/".to_owned(), label: "To the first page".to_owned() }],
        code: name(problem.code),
        status: problem.status,
        request_id: problem.request_id.clone(),
    });
    let mut response = drawn.unwrap_or_else(|refusal| status(refusal.code).into_response());
    super::security_headers::harden(response.headers_mut(), site.policy());
    response
}

fn problem_page(context: &PageContext, place: &Place, refusal: ServiceError) -> Answer {
    let title = title(refusal.code);
    let mut frame = context.frame(title, section(&place.path))?;
    frame.narrow = true;
    let page = ProblemPage {
        title: title.to_owned(),
        lines: refusal.detail.lines().map(str::to_owned).collect(),
        reasons: refusal.reasons,
        retry_after: refusal.retry_after,
        links: ways_on(context, place, refusal.code),
        code: name(refusal.code),
        status: refusal.code.status(),
        request_id: context.source().request_id.clone(),
        frame,
    };
    let mut response = page_with(refusal.code, &page)?;
    if let Some(seconds) = refusal.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    Ok(response)
}

fn ways_on(context: &PageContext, place: &Place, code: ProblemCode) -> Vec<Link> {
    let link = |href: &str, label: &str| Link { href: href.to_owned(), label: label.to_owned() };
    if context.caller().is_none() {
        return vec![link("/sign-in", "Sign in")];
    }
    let mut methods = match code {
        ProblemCode::AlreadyDone => vec![link("/credentials", "What you were issued")],
        ProblemCode::NotAllowed | ProblemCode::Guardrail => vec![link("/rules", "Ask the rules")],
        _ => Vec::new(),
    };
    // Back to where the form was, or one level up from what isn't there.
    let back = match place.path.strip_prefix("/namespace/users/") {
        Some(rest) if code != ProblemCode::NotFound => {
            format!("/namespace/users/{}", rest.split('/').next().unwrap_or_default())
        }
        _ => section_path(section(&place.path)).to_owned(),
    };
    methods.push(Link { href: urls::local(&back).to_owned(), label: "Back".to_owned() });
    methods
}

/// The page of the bar that an address belongs to.
fn section(path: &str) -> Section {
    let first = path.split('/').nth(1).unwrap_or_default();
    match first {
        "credentials" => Section::Credentials,
        "namespace" => Section::Users,
        "audit" => Section::Audit,
        "rules" => Section::Rules,
        "sessions" => Section::Sessions,
        _ => Section::None,
    }
}

fn section_path(section: Section) -> &'static str {
    let found = super::views::SECTIONS.iter().find(|(other, _, _)| *other == section);
    found.map_or(urls::HOME, |(_, path, _)| path)
}

fn status(code: ProblemCode) -> StatusCode {
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The code as it is written everywhere: `not-allowed`.
pub(super) fn name(code: ProblemCode) -> String {
    match serde_json::to_value(code) {
        Ok(serde_json::Value::String(name)) => name,
        _ => "internal".to_owned(),
    }
}

/// A heading for each code.
fn title(code: ProblemCode) -> &'static str {
    match code {
        ProblemCode::BadRequest | ProblemCode::UnsupportedMediaType => "That could not be understood",
        ProblemCode::InvalidName => "That name can't be used",
        ProblemCode::SignInNeeded => "Please sign in again",
        ProblemCode::SignInRefused => "Sign-in refused",
        ProblemCode::NotAllowed => "Not allowed",
        ProblemCode::Guardrail => "Not allowed to anybody",
        ProblemCode::CrossSite => "Form refused",
        ProblemCode::NotFound => "Not found",
        ProblemCode::MethodNotAllowed => "Not in this way",
        ProblemCode::Conflict => "That does not fit",
        ProblemCode::IdempotencyMismatch => "Already used for something else",
        ProblemCode::AlreadyDone => "Already done, and shown once",
        ProblemCode::Busy => "Something else is at work on it",
        ProblemCode::TooLarge => "Too large",
        ProblemCode::QueryTooBroad => "That takes too long",
        ProblemCode::TooManyRequests => "Too many requests",
        ProblemCode::AwsRefused => "AWS refused",
        ProblemCode::AwsUnavailable => "AWS can't be reached",
        ProblemCode::AuditUnavailable => "Nothing can be written down",
        ProblemCode::StoreUnavailable => "The database can't be reached",
        ProblemCode::DirectoryUnavailable => "The directory can't be reached",
        ProblemCode::Stopping => "The service is stopping",
        _ => "Something went wrong here",
    }
}

//! What handlers get from a request, each read strictly: JSON, queries, names in the path, who asks.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{
    FromRequest, FromRequestParts, OptionalFromRequestParts, Path as AxumPath, Query as AxumQuery, Request,
};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use http::request::Parts;
use iam_sorry_core::api::{IDEMPOTENCY_KEY, ProblemCode};
use iam_sorry_core::ids::{AccountName, UserRef};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::app::App;
use super::boundary::RequestContext;
use super::problem::ApiError;
use crate::caller::Caller;
use crate::operations::idempotency::IdempotencyKey;

/// A body of JSON: one object, whose fields are known, each there once.
pub struct Json<T>(pub T);

/// No body: an option that was put into one by mistake must not go unheard.
pub struct NoBody;

/// The query; unknown and repeated fields are refused.
pub struct Query<T>(pub T);

/// A name in the path, percent-decoded.
pub struct Name(pub String);

/// The user in the path, `/users/{name}` or `/accounts/{account}/users/{name}`.
pub struct PathUser(pub UserRef);

/// The same, and the access key that the path goes on with.
pub struct PathUserKey(pub UserRef, pub String);

/// The account in the path, if there is one in it.
pub struct PathAccount(pub Option<AccountName>);

/// Whoever signed in (`Authorization: Bearer`, RFC 6750; cookies are for pages alone).
pub struct SignedIn(pub Caller);

/// What is known about the request.
pub struct Context(pub Arc<RequestContext>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::new(
                ProblemCode::UnsupportedMediaType,
                "The body must be JSON, and the header Content-Type say so: application/json",
            ));
        }
        let bytes = body(request, state).await?;
        // serde would also take a list for a struct, field by field.
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(ApiError::bad_request("The body is not a JSON object."));
        }
        if has_nul(&bytes) {
            return Err(ApiError::bad_request("The body has a NUL character in it."));
        }
        serde_json::from_slice(&bytes).map(Self).map_err(|error| ApiError::bad_request(what_is_wrong(&error)))
    }
}

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = body(request, state).await?;
        let text = bytes.trim_ascii();
        if text.is_empty() || text == b"{}" {
            return Ok(Self);
        }
        Err(ApiError::bad_request(
            "This request takes no body; its options go into the query, such as ?dry_run=true",
        ))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let raw = parts.uri.query().unwrap_or_default();
        if raw.contains("%00") || raw.contains('\0') {
            return Err(ApiError::bad_request("The query has a NUL character in it."));
        }
        let query: Result<AxumQuery<T>, QueryRejection> = AxumQuery::from_request_parts(parts, state).await;
        // Values are not repeated in the text; which field is wrong, is.
        query.map(|AxumQuery(query)| Self(query)).map_err(|rejection| {
            let text = rejection.body_text();
            let text = text.rsplit_once("query string: ").map_or(text.as_str(), |(_, text)| text);
            ApiError::bad_request(format!("The query is not of its form: {}", printable(text)))
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let AxumPath(name) = <AxumPath<String> as FromRequestParts<S>>::from_request_parts(parts, state)
            .await
            .map_err(|_| garbled())?;
        path_part(name).map(Self)
    }
}

/// The named parts of the path.
struct PathParts(HashMap<String, String>);

impl PathParts {
    async fn of<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        type Found = AxumPath<HashMap<String, String>>;
        let found = <Found as FromRequestParts<S>>::from_request_parts(parts, state).await;
        let AxumPath(parts) = found.map_err(|_| garbled())?;
        Ok(Self(parts))
    }

    fn take(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        self.0.remove(name).map(path_part).transpose()
    }

    fn account(&mut self, app: &App) -> Result<Option<AccountName>, ApiError> {
        Ok(self.take("account")?.map(|text| app.service.account_name(&text)).transpose()?)
    }

    fn user(&mut self, app: &App) -> Result<UserRef, ApiError> {
        let account = self.account(app)?;
        let name = self.take("name")?.ok_or_else(garbled)?;
        Ok(app.service.user_in(account, &name)?)
    }
}

impl FromRequestParts<App> for PathAccount {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Ok(Self(PathParts::of(parts, app).await?.account(app)?))
    }
}

impl FromRequestParts<App> for PathUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Ok(Self(PathParts::of(parts, app).await?.user(app)?))
    }
}

impl FromRequestParts<App> for PathUserKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let mut path = PathParts::of(parts, app).await?;
        let user = path.user(app)?;
        Ok(Self(user, path.take("id")?.ok_or_else(garbled)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Context {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        context(parts).map(Self)
    }
}

impl FromRequestParts<App> for SignedIn {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let context = context(parts)?;
        let token = bearer(&parts.headers)?;
        let caller = app.service.caller_by_token(context.source.clone(), token).await?;
        context.signed_in(&caller)?;
        Ok(Self(caller))
    }
}

/// The `Idempotency-Key`, where there is one.
impl<S: Send + Sync> OptionalFromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, ApiError> {
        let Some(value) = only(&parts.headers, IDEMPOTENCY_KEY)? else { return Ok(None) };
        Ok(Some(Self::parse(value)?))
    }
}

fn context(parts: &Parts) -> Result<Arc<RequestContext>, ApiError> {
    parts.extensions.get().cloned().ok_or_else(|| {
        ApiError::new(
            ProblemCode::Internal,
            "The service made a mistake: a request came around its boundary.",
        )
    })
}

fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let needed = || {
        ApiError::new(
            ProblemCode::SignInNeeded,
            "Nobody is signed in.\nSign in with: iam-sorry login URL (or send Authorization: Bearer TOKEN).",
        )
    };
    let value = only(headers, AUTHORIZATION.as_str())?.ok_or_else(needed)?;
    let (scheme, token) = value.split_once(' ').ok_or_else(needed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(needed());
    }
    Ok(token.trim_ascii())
}

/// A header that may come once at most: two of them are read differently by different programs.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(ApiError::bad_request(format!("The header {name} came twice.")));
    }
    first
        .map(|value| {
            value.to_str().map_err(|_| ApiError::bad_request(format!("The header {name} is garbled.")))
        })
        .transpose()
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let (kind, parameters) = kind.split_once(';').unwrap_or((kind, ""));
    let charset = parameters.trim().to_ascii_lowercase();
    kind.trim().eq_ignore_ascii_case("application/json")
        && (charset.is_empty() || charset == "charset=utf-8" || charset == "charset=\"utf-8\"")
}

async fn body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    // The boundary has read it and kept to the limit.
    Bytes::from_request(request, state).await.map_err(|_| ApiError::bad_request("The body can't be read."))
}

/// A NUL character, which JSON can only spell as an escape, and which no name, key or text of ours has. (PostgreSQL's text
/// can't hold it.)
fn has_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        if rest[at..].starts_with(b"\\u0000") {
            return true;
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    false
}

fn path_part(name: String) -> Result<String, ApiError> {
    // Longer than any name, ARN or fingerprint.
    if name.len() > 512 || name.contains(char::is_control) {
        return Err(ApiError::new(ProblemCode::InvalidName, "The name in the address can't be used."));
    }
    Ok(name)
}

fn garbled() -> ApiError {
    ApiError::bad_request("The address is not UTF-8 where it is percent-encoded.")
}

/// What is wrong with the JSON, and where. serde's own text would repeat values, and a value may be a password.
fn what_is_wrong(error: &serde_json::Error) -> String {
    let place = format!("line {}, column {}", error.line(), error.column());
    let text = error.to_string();
    match error.classify() {
        Category::Data
            if ["unknown field", "missing field", "duplicate field"]
                .iter()
                .any(|it| text.starts_with(it)) =>
        {
            format!("The body is not of its form: {}", printable(&text))
        }
        Category::Data => {
            format!("The body is not of its form: a value has the wrong type or size ({place})")
        }
        Category::Syntax | Category::Eof | Category::Io => format!("The body is not JSON ({place})"),
    }
}

/// No control characters, and no page-long field names.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_is_found_however_it_is_written_and_nothing_else_is() {
        assert!(has_nul(br#"{"a":"\u0000"}"#));
        assert!(has_nul(br#"{"a":"\\\u0000"}"#));
        assert!(!has_nul(br#"{"a":"\\u0000"}"#), "a backslash and the text u0000");
        assert!(!has_nul(br#"{"a":"\u0001\n\""}"#));
        assert!(!has_nul(br#"\"#));
    }

    proptest::proptest! {
        #[test]
        fn nul_is_found_exactly_where_it_is(text in proptest::collection::vec("[\\PC\"\\\\u0]|\\u{0}", 0..6)) {
            let text = text.concat();
            let json = serde_json::json!({ "name": text }).to_string();
            proptest::prop_assert_eq!(has_nul(json.as_bytes()), text.contains('\0'));
        }
    }

    #[test]
    fn no_value_comes_back_in_an_error() {
        let error = serde_json::from_str::<iam_sorry_core::api::CreateUser>(r#"{"name": {"hunter2": 1}}"#)
            .unwrap_err();
        assert!(!what_is_wrong(&error).contains("hunter2"));
        let error =
            serde_json::from_str::<iam_sorry_core::api::CreateUser>(r#"{"name":"a","nmae":1}"#).unwrap_err();
        assert!(what_is_wrong(&error).contains("unknown field `nmae`"));
    }
}

//! The published document (OpenAPI 3.1), made from the handlers and the types that are really sent.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use iam_sorry_core::api::{PREFIX, Problem};
use utoipa::openapi::header::Header;
use utoipa::openapi::path::{HttpMethod, Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, ResponseBuilder, Schema};
use utoipa::{Modify, OpenApi};

use super::api::schemas::{IN_ACCOUNT, USERS};
use super::api::{actions, audit, credentials, login, people};
use crate::authz::authorize::action_names;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "iam-sorry",
        description = "AWS credentials and IAM users for the people of a department, decided by rules, done on their \
                       behalf, written down under their names.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    paths(
        document,
        login::service, login::ssh_challenge, login::ssh, login::ldap, login::logout,
        people::me, people::sessions, people::end_session,
        people::ssh_keys, people::ssh_key_challenge, people::register_ssh_key, people::remove_ssh_key,
        actions::run,
        actions::users, actions::create_user, actions::user, actions::delete_user, actions::adopt_user,
        actions::attach_policy, actions::detach_policy, actions::policies, actions::roles,
        actions::keys, actions::create_key, actions::rotate_key, actions::confirm_key, actions::restore_key,
        actions::delete_key,
        credentials::grants, credentials::issue, credentials::explain,
        audit::page, audit::export, audit::key,
    ),
    components(schemas(Problem)),
    tags(
        (name = "sign-in", description = "Signing in and out"),
        (name = "sessions", description = "Who is signed in, and with what"),
        (name = "actions", description = "Any action, as a value"),
        (name = "users", description = "IAM users"),
        (name = "policies", description = "Their policies"),
        (name = "keys", description = "Their permanent keys"),
        (name = "credentials", description = "Temporary credentials"),
        (name = "audit", description = "The audit trail"),
        (name = "meta", description = "This document"),
    ),
    modifiers(&InAccounts, &Common)
)]
struct Document;

static JSON: LazyLock<String> = LazyLock::new(|| openapi().to_pretty_json().unwrap_or_default());

/// The document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", operation_id = "openapi", tag = "meta",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")))]
pub async fn document() -> Response {
    ([(CONTENT_TYPE, "application/json")], JSON.as_str()).into_response()
}

/// What is about users, once more for users of a named account.
struct InAccounts;

impl Modify for InAccounts {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let users = format!("{PREFIX}{USERS}");
        let paths = &mut document.paths.paths;
        let of_users: Vec<_> = paths
            .iter()
            .filter(|(path, _)| path.starts_with(&users))
            .map(|(path, item)| (path.clone(), item.clone()))
            .collect();
        for (path, mut item) in of_users {
            for operation in [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten() {
                if let Some(id) = &mut operation.operation_id {
                    id.push_str("InAccount");
                }
                operation.parameters.get_or_insert_default().insert(0, RefOr::T(account_parameter()));
            }
            let rest = path.strip_prefix(PREFIX).unwrap_or_default();
            paths.insert(format!("{PREFIX}{IN_ACCOUNT}{rest}"), item);
        }
    }
}

fn account_parameter() -> Parameter {
    let name = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some("^[a-z0-9][a-z0-9-]{0,31}$"))
        .examples(["default"]);
    ParameterBuilder::new()
        .name("account")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("The AWS account, by the name that the service's configuration gives it"))
        .schema(Some(name))
        .build()
}

const REQUEST_ID: &str = "The request's id, as in log and audit trail";

/// What all operations have in common: the ways in which they fail, and the headers of their answers.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The session token that a sign-in answers with"))
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("session", SecurityScheme::Http(scheme));
        name_actions(document);
        for (path, item) in &mut document.paths.paths {
            for (method, operation) in [
                (HttpMethod::Get, &mut item.get),
                (HttpMethod::Post, &mut item.post),
                (HttpMethod::Delete, &mut item.delete),
            ] {
                if let Some(operation) = operation {
                    complete(path, &method, operation);
                }
            }
        }
    }
}

/// What rules decide about is a list of its own, of the rules.
fn name_actions(document: &mut utoipa::openapi::OpenApi) {
    let request = document.components.get_or_insert_default().schemas.get_mut("ExplainRequest");
    if let Some(RefOr::T(Schema::Object(request))) = request
        && let Some(RefOr::T(Schema::Object(action))) = request.properties.get_mut("action")
    {
        action.enum_values = Some(action_names().map(Into::into).collect());
    }
}

fn complete(path: &str, method: &HttpMethod, operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter {
            plain_parameter(parameter);
        }
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response.headers.insert("x-request-id".to_owned(), RefOr::T(text_header(REQUEST_ID)));
        }
    }
    let signed_in = operation.security.is_some();
    let signing_in = path.starts_with("/api/v1/login/");
    let named = path.contains('{');
    let body = operation.request_body.is_some();
    let changes = signed_in && *method != HttpMethod::Get && path != "/api/v1/logout";
    let problems = [
        (400, true, "The request, or a name in it, is not of its form", "bad-request, invalid-name"),
        (401, signed_in, "Nobody is signed in", "sign-in-needed"),
        (
            401,
            signing_in,
            "The sign-in was refused, never which part was wrong; or the key is several people's",
            "sign-in-refused, name-needed",
        ),
        (
            403,
            signed_in,
            "The rules or a guardrail forbid it, and `reasons` says which",
            "not-allowed, guardrail",
        ),
        (
            404,
            named || signing_in || path.ends_with("/key") || changes,
            "There is none, or none that the caller may know of",
            "not-found",
        ),
        (
            409,
            changes,
            "It does not fit what is there, or was done before",
            "conflict, idempotency-mismatch, already-done, busy",
        ),
        (413, body, "The body is larger than 64 KiB", "too-large"),
        (415, body, "The body is not JSON", "unsupported-media-type"),
        (
            422,
            signed_in && path.starts_with("/api/v1/audit") && !named,
            "The query takes too long: narrow it",
            "query-too-broad",
        ),
        (429, true, "Too many requests from this person or address", "too-many-requests"),
        (500, true, "A mistake of the service's", "internal"),
        (
            502,
            signed_in && named || changes,
            "AWS refused the service itself, or answered nonsense",
            "aws-refused",
        ),
        (
            503,
            true,
            "AWS, the database, the directory or the audit trail can't be reached, or the service is stopping",
            "aws-unavailable, audit-unavailable, store-unavailable, directory-unavailable, stopping",
        ),
    ];
    for (status, applies, description, codes) in problems {
        if applies {
            let problem = problem(status, &format!("{description} (`code`: {codes})."));
            operation.responses.responses.insert(status.to_string(), RefOr::T(problem));
        }
    }
}

/// A query or header has no null: what is optional is left out.
fn plain_parameter(parameter: &mut Parameter) {
    if parameter.parameter_in == ParameterIn::Path {
        return;
    }
    let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema else { return };
    let optional = match &schema.schema_type {
        SchemaType::Array(types) => types.iter().find(|it| **it != Type::Null).cloned(),
        SchemaType::Type(Type::Boolean) => Some(Type::Boolean),
        _ => None,
    };
    if let Some(kind) = optional {
        schema.schema_type = SchemaType::Type(kind);
        parameter.required = Required::False;
    }
}

fn problem(status: u16, description: &str) -> utoipa::openapi::Response {
    let schema = Ref::from_schema_name("Problem");
    let mut response = ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", ContentBuilder::new().schema(Some(schema)).build())
        .header("x-request-id", text_header(REQUEST_ID));
    if status == 401 {
        response = response.header("www-authenticate", text_header("`Bearer` (RFC 6750)"));
    }
    if status == 429 || status == 503 {
        let seconds = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer)).build();
        let mut header = Header::new(seconds);
        header.description = Some("Seconds after which it may work".to_owned());
        response = response.header("retry-after", header);
    }
    response.build()
}

fn text_header(description: &str) -> Header {
    let mut header = Header::new(ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).build());
    header.description = Some(description.to_owned());
    header
}

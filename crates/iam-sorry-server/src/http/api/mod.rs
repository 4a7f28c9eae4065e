//! The interface under `/api/v1`: handlers that read a request, ask the services, and write the answer. They decide
//! nothing. Each one's `#[utoipa::path]` is its part of the published document.

mod action_body;
pub mod actions;
pub mod audit;
pub mod credentials;
pub mod login;
pub mod people;
pub mod schemas;
mod secret;

use axum::Router;
use axum::routing::{MethodRouter, delete, get, post};
use iam_sorry_core::api::PREFIX;

use self::schemas::{IN_ACCOUNT, USERS};
use super::app::App;

/// Every route, under [`PREFIX`]. A test holds it against the published document. What is about users is there twice: for a user
/// whose account goes without saying, and in an account.
fn table() -> Vec<(String, MethodRouter<App>)> {
    let routes = routes();
    let in_accounts = routes.iter().filter(|(path, _)| path.starts_with(USERS));
    let in_accounts = in_accounts.map(|(path, methods)| (format!("{IN_ACCOUNT}{path}"), methods.clone()));
    let in_accounts: Vec<_> = in_accounts.collect();
    routes.into_iter().map(|(path, methods)| (path.to_owned(), methods)).chain(in_accounts).collect()
}

fn routes() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/openapi.json", get(super::openapi::document)),
        ("/service", get(login::service)),
        ("/login/ssh/challenge", post(login::ssh_challenge)),
        ("/login/ssh", post(login::ssh)),
        ("/login/ldap", post(login::ldap)),
        ("/logout", post(login::logout)),
        ("/me", get(people::me)),
        ("/sessions", get(people::sessions)),
        ("/sessions/{id}", delete(people::end_session)),
        ("/ssh-keys", get(people::ssh_keys).post(people::register_ssh_key)),
        ("/ssh-keys/challenge", post(people::ssh_key_challenge)),
        ("/ssh-keys/{fingerprint}", delete(people::remove_ssh_key)),
        ("/actions", post(actions::run)),
        ("/users", get(actions::users).post(actions::create_user)),
        ("/users/{name}", get(actions::user).delete(actions::delete_user)),
        ("/users/{name}/adopt", post(actions::adopt_user)),
        ("/users/{name}/policies", post(actions::attach_policy).delete(actions::detach_policy)),
        ("/users/{name}/keys", get(actions::keys).post(actions::create_key)),
        ("/users/{name}/keys/{id}", delete(actions::delete_key)),
        ("/users/{name}/keys/{id}/rotate", post(actions::rotate_key)),
        ("/users/{name}/keys/{id}/confirm", post(actions::confirm_key)),
        ("/users/{name}/keys/{id}/restore", post(actions::restore_key)),
        ("/policies", get(actions::policies)),
        ("/roles", get(actions::roles)),
        ("/credentials", get(credentials::grants).post(credentials::issue)),
        ("/explain", post(credentials::explain)),
        ("/audit", get(audit::page)),
        ("/audit/export", get(audit::export)),
        ("/audit/key", get(audit::key)),
    ]
}

/// The interface.
pub fn router(app: App) -> Router {
    table()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(&format!("{PREFIX}{path}"), methods))
        .with_state(app)
}

/// The paths of the interface.
pub fn paths() -> Vec<String> {
    table().into_iter().map(|(path, _)| format!("{PREFIX}{path}")).collect()
}

//! The pages: rendered on the server, no scripts, a strict Content-Security-Policy. Everything goes through the same
//! services as the API; a page knows no more than a program.
//!
//! `middleware` is around every page (session, problems, headers), `context` is what it knows, `forms` decides which forms are believed, `views` are the
//! pages as data, the rest are their handlers.

mod assets;
mod audit;
pub mod chart;
mod context;
mod cookies;
mod credentials;
mod flash;
mod forms;
mod middleware;
#[cfg(test)]
mod preview;
mod responses;
mod rules;
mod security_headers;
mod sessions;
mod sign_in;
mod time_format;
mod tokens;
mod urls;
mod users;
pub mod views;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use iam_sorry_core::ssh::login::Origin;

use crate::http::Pages;
use crate::service::Service;
use context::{SignedIn, Site};

/// All pages, for a service that people reach at `origin`; to be put behind [`crate::http::Boundary`].
pub fn pages(service: Service, origin: Origin) -> Pages {
    let site = Site::new(service, origin);
    let drawn_for = site.clone();
    Pages {
        routes: routes(site),
        draw_problem: Arc::new(move |problem| responses::draw(&drawn_for, problem)),
    }
}

fn routes(site: Site) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/sign-in", get(sign_in::show).post(sign_in::sign_in))
        .route("/sign-in/dev", get(sign_in::show_link).post(sign_in::use_link))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/signed-out", get(sign_in::signed_out))
        .route("/credentials", get(credentials::show).post(credentials::issue))
        .route("/namespace", get(users::list))
        .route("/namespace/users", post(users::create))
        .route("/namespace/users/{name}", get(users::show))
        .route("/namespace/users/{name}/attach", post(users::attach))
        .route("/namespace/users/{name}/detach", post(users::detach))
        .route("/namespace/users/{name}/delete", get(users::confirm_delete).post(users::delete))
        .route("/namespace/users/{name}/keys", post(users::create_key))
        .route("/namespace/users/{name}/keys/{id}/rotate", post(users::rotate_key))
        .route("/namespace/users/{name}/keys/{id}/confirm", post(users::confirm_key))
        .route("/namespace/users/{name}/keys/{id}/restore", post(users::restore_key))
        .route(
            "/namespace/users/{name}/keys/{id}/delete",
            get(users::confirm_delete_key).post(users::delete_key),
        )
        .route("/audit", get(audit::show))
        .route("/audit/{record}", get(audit::record))
        .route("/rules", get(rules::show).post(rules::authz_request))
        .route("/sessions", get(sessions::show))
        .route("/sessions/end", post(sessions::end))
        .route("/sessions/ssh-keys", post(sessions::register_key))
        .route("/sessions/ssh-keys/signed", post(sessions::register_signed_key))
        .route("/sessions/ssh-keys/remove", post(sessions::remove_key))
        .layer(from_fn_with_state(site.clone(), middleware::around))
        .merge(assets::routes())
        .with_state(site)
}

async fn home(_signed: SignedIn) -> responses::Answer {
    Ok(responses::go(urls::HOME))
}

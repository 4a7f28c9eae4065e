//! How the verbs ask the service, and the paths that they share.

use iam_sorry_core::api::PageQuery;

use crate::app::App;
use crate::aws;
use crate::error::Result;
use crate::service::{self, Client, ServiceError, encoded, query};

/// Nobody has more sessions, users or records on a screen than this.
pub const MOST: usize = 10_000;

/// Asks the service that this command is about, with the person's session.
pub fn ask<T>(
    app: &App,
    work: impl AsyncFnOnce(&Client) -> std::result::Result<T, ServiceError>,
) -> Result<T> {
    let client = service::open(app)?;
    aws::block_on(|cancel| async move {
        let client = client.with_cancel(cancel);
        Ok(work(&client).await?)
    })
}

/// The address of a list whose pages are as long as may be.
pub fn paged(path: &str, all: bool) -> String {
    let asked = PageQuery { cursor: None, limit: Some(500), all };
    let limit = asked.limit.map(|limit| limit.to_string());
    path.to_owned() + &query(&[("limit", limit.as_deref()), ("all", asked.all.then_some("true"))])
}

/// The path of an IAM user.
pub fn user_path(name: &str) -> String {
    format!("/users/{}", encoded(name))
}

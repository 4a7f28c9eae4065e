//! Requests to the service, and paths that several verbs share.

use iam_sorry_core::api::PageQuery;

use crate::app::App;
use crate::aws;
use crate::error::Result;
use crate::service::{self, Client, ServiceError, encoded, query};

/// The maximum number of items in a printed list.
pub const MAX_LISTED: usize = 10_000;

/// Runs requests with the person's session at the service of this command.
pub fn with_client<T>(
    app: &App,
    work: impl AsyncFnOnce(&Client) -> std::result::Result<T, ServiceError>,
) -> Result<T> {
    let client = service::open(app)?;
    aws::block_on(|cancel| async move {
        let client = client.with_cancel(cancel);
        Ok(work(&client).await?)
    })
}

/// The path of a list, with the longest pages that the service allows.
pub fn list_path(path: &str, all: bool) -> String {
    let asked = PageQuery { cursor: None, limit: Some(500), all };
    let limit = asked.limit.map(|limit| limit.to_string());
    path.to_owned() + &query(&[("limit", limit.as_deref()), ("all", asked.all.then_some("true"))])
}

/// The path of an IAM user.
pub fn user_path(name: &str) -> String {
    format!("/users/{}", encoded(name))
}

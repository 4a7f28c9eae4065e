//! Requests to the service, and paths that several verbs share.

use iam_sorry_core::api::PageQuery;
use iam_sorry_core::ids::AccountName;

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

/// The path of an IAM user: `NAME`, whose account the service knows, or `ACCOUNT/NAME`.
pub fn user_path(user: &str) -> String {
    let (users, name) = users_path(user);
    format!("{users}/{}", encoded(name))
}

/// The path of the users among which a user is, and its name there. No name has a slash.
pub fn users_path(user: &str) -> (String, &str) {
    match user.split_once('/') {
        Some((account, name)) if AccountName::parse(account).is_ok() => {
            (format!("/accounts/{account}/users"), name)
        }
        // What is no name, the service refuses.
        _ => ("/users".to_owned(), user),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_of_a_named_account_is_found_there() {
        assert_eq!(user_path("lab-anna"), "/users/lab-anna");
        assert_eq!(user_path("archive/lab-anna"), "/accounts/archive/users/lab-anna");
        // It leads nowhere else.
        assert_eq!(user_path("a/b/../c"), "/accounts/a/users/b%2F..%2Fc");
        assert_eq!(user_path("../x"), "/users/..%2Fx");
    }
}

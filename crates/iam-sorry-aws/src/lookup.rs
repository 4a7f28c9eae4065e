//! Who is it? The user behind an access key, a user by name, the caller behind credentials: one request each, however
//! many users the account has.

use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::names::{CallerArn, UserName};
use iam_sorry_core::timestamp::Timestamp;

use crate::client::Aws;
use crate::clock::now;
use crate::errors::{AwsError, KeyFacts, LastUsed};

/// An IAM user as iam:GetUser describes it.
#[derive(Clone, Debug)]
pub struct User {
    /// The name in IAM's own spelling.
    pub name: UserName,
    /// `/`, or a path such as `/division/`.
    pub path: String,
    /// Partition, account and name.
    pub arn: CallerArn,
    /// The whole ARN, path included.
    pub arn_text: String,
    /// The unique ID (`AIDA...`), which a later user of the same name does not share.
    pub id: String,
}

/// The user who owns an access key (iam:GetAccessKeyLastUsed answers with the name).
///
/// # Errors
/// [`AwsError::InvalidKey`] if AWS knows no such key in this account; otherwise as any request.
pub async fn user_of_key(
    aws: &Aws,
    manager: &Credentials,
    access_key_id: &str,
) -> Result<UserName, AwsError> {
    let context = aws.context("iam:GetAccessKeyLastUsed", &manager.access_key_id, access_key_id);
    let answer = aws.iam(manager).get_access_key_last_used().access_key_id(access_key_id).send().await;
    let answer = answer.map_err(|e| match context.failed(e) {
        AwsError::Refused { action, code, .. } if code.starts_with("NoSuchEntity") => {
            AwsError::InvalidKey { action, key_id: access_key_id.to_owned(), code }
        }
        other => other,
    })?;
    let name = answer.user_name().ok_or_else(|| context.bad_answer("no user name"))?;
    UserName::parse(name).map_err(|e| context.bad_answer(e.0))
}

/// The user of that name, as IAM spells it.
///
/// # Errors
/// [`AwsError::NoSuchUser`]; otherwise as any request.
pub async fn user_exists(aws: &Aws, manager: &Credentials, name: &UserName) -> Result<User, AwsError> {
    let context = aws.context("iam:GetUser", &manager.access_key_id, name.as_str());
    let answer =
        aws.iam(manager).get_user().user_name(name.as_str()).send().await.map_err(|e| context.failed(e))?;
    let user = answer.user().ok_or_else(|| context.bad_answer("no user"))?;
    let found = User {
        name: UserName::parse(user.user_name()).map_err(|e| context.bad_answer(e.0))?,
        path: user.path().to_owned(),
        arn: CallerArn::parse(user.arn()).map_err(|e| context.bad_answer(e.0))?,
        arn_text: user.arn().to_owned(),
        id: user.user_id().to_owned(),
    };
    if found.name != *name || found.arn.user() != Some(name) {
        return Err(context.bad_answer(format!("it is about user '{}'", found.name)));
    }
    Ok(found)
}

/// Who the credentials belong to (sts:GetCallerIdentity; needs no permission and can't be denied).
///
/// # Errors
/// As any request.
pub async fn caller(aws: &Aws, credentials: &Credentials) -> Result<CallerArn, AwsError> {
    let context = aws.context("sts:GetCallerIdentity", &credentials.access_key_id, "");
    let answer = aws.sts(credentials).get_caller_identity().send().await.map_err(|e| context.failed(e))?;
    let arn = answer.arn().ok_or_else(|| context.bad_answer("no ARN"))?;
    CallerArn::parse(arn).map_err(|e| context.bad_answer(e.0))
}

/// The caller in words, for messages.
pub fn describe(caller: &CallerArn) -> String {
    use iam_sorry_core::names::Principal;
    match &caller.principal {
        Principal::Root => format!("the root user of account {}", caller.account),
        Principal::User(name) => format!("the IAM user '{name}' of account {}", caller.account),
        Principal::AssumedRole(role, session) => {
            format!("the role '{role}' (session '{session}') of account {}", caller.account)
        }
        Principal::Other(other) => format!("{other} of account {}", caller.account),
    }
}

/// An access key as iam:ListAccessKeys describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedKey {
    /// Access key ID.
    pub id: String,
    /// Whether it may sign requests.
    pub active: bool,
    /// When it was made, by AWS's clock.
    pub created: Option<Timestamp>,
}

/// The user's access keys; at most two, so one page (IAM quotas).
///
/// # Errors
/// As any request.
pub async fn keys_of(aws: &Aws, manager: &Credentials, user: &UserName) -> Result<Vec<ListedKey>, AwsError> {
    let context = aws.context("iam:ListAccessKeys", &manager.access_key_id, user.as_str());
    let answer = aws.iam(manager).list_access_keys().user_name(user.as_str()).send().await;
    let answer = answer.map_err(|e| match context.failed(e) {
        AwsError::Refused { code, .. } if code.starts_with("NoSuchEntity") => {
            AwsError::NoSuchUser { user: user.to_string() }
        }
        other => other,
    })?;
    let listed = answer.access_key_metadata().iter().filter_map(|key| {
        Some(ListedKey {
            id: key.access_key_id()?.to_owned(),
            active: key.status().is_some_and(|s| s.as_str() == "Active"),
            created: key.create_date().and_then(|at| Timestamp::from_unix(at.secs())),
        })
    });
    Ok(listed.collect())
}

/// When the key was last used.
///
/// # Errors
/// As any request.
pub async fn last_used(aws: &Aws, manager: &Credentials, access_key_id: &str) -> Result<LastUsed, AwsError> {
    let context = aws.context("iam:GetAccessKeyLastUsed", &manager.access_key_id, access_key_id);
    let answer = aws.iam(manager).get_access_key_last_used().access_key_id(access_key_id).send().await;
    let answer = answer.map_err(|e| context.failed(e))?;
    // No LastUsedDate means never used (IAM API reference, AccessKeyLastUsed).
    let used = answer.access_key_last_used();
    Ok(used
        .and_then(|u| Some((Timestamp::from_unix(u.last_used_date()?.secs())?, u.service_name().to_owned())))
        .map_or(LastUsed::Never, |(at, service)| LastUsed::At(at, crate::text::clean(&service))))
}

/// Facts about keys for a person to decide by; what AWS does not say is left unknown.
pub async fn key_facts(aws: &Aws, manager: &Credentials, keys: &[ListedKey]) -> Vec<KeyFacts> {
    let mut facts = Vec::with_capacity(keys.len());
    for key in keys {
        facts.push(KeyFacts {
            id: key.id.clone(),
            active: key.active,
            created: key.created,
            last_used: last_used(aws, manager, &key.id).await.unwrap_or(LastUsed::Unknown),
            age_days: key.created.map(|at| now().seconds_after(at).max(0) / 86_400),
        });
    }
    facts
}

//! Users that a service makes and keeps: with a path, tags and a permissions boundary, by which they are known again.

use std::collections::BTreeMap;

use aws_sdk_iam::config::retry::RetryConfig;
use aws_sdk_iam::types::Tag;
use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::names::UserName;
use iam_sorry_core::timestamp::Timestamp;

use crate::client::Aws;
use crate::errors::AwsError;
use crate::non_idempotent::NotMade;

/// A user as iam:GetUser describes it, with what it is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The name in IAM's spelling.
    pub name: UserName,
    /// The ARN, path included.
    pub arn: String,
    /// `/`, or a path such as `/iam-sorry/dirk/`.
    pub path: String,
    /// The unique ID (`AIDA...`), which a later user of the same name does not share.
    pub id: String,
    /// When it was made, by AWS's clock.
    pub created: Option<Timestamp>,
    /// ARN of its permissions boundary.
    pub boundary: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A user to be made.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Its name.
    pub name: UserName,
    /// Its path, with a slash at both ends.
    pub path: String,
    /// ARN of its permissions boundary.
    pub boundary: Option<String>,
    /// Its tags: keys to 128 characters, values to 256 of letters, digits, space and `_.:/=+-@` (IAM API reference, Tag).
    pub tags: Vec<(String, String)>,
}

/// iam:CreateUser, tried once: whether a lost answer left a user is seen by [`facts`], whose tags name the maker.
///
/// # Errors
/// [`NotMade`]; a user of that name that exists already is [`NotMade::Certainly`] with `EntityAlreadyExists`.
pub async fn create(aws: &Aws, service: &Credentials, user: &NewUser) -> Result<Facts, NotMade> {
    let context = aws.context("iam:CreateUser", &service.access_key_id, user.name.as_str());
    let once = aws_sdk_iam::config::Builder::new().retry_config(RetryConfig::disabled());
    let request = aws
        .iam(service)
        .create_user()
        .user_name(user.name.as_str())
        .path(&user.path)
        .set_permissions_boundary(user.boundary.clone())
        .set_tags(Some(sdk_tags(&user.tags).map_err(NotMade::Certainly)?));
    let answer = match request.customize().config_override(once).send().await {
        Ok(answer) => answer,
        Err(error) => return Err(NotMade::from_only_try(&context, error)),
    };
    let made = answer
        .user()
        .ok_or_else(|| context.bad_answer("no user"))
        .and_then(|user| from_sdk(user).ok_or_else(|| context.bad_answer("a user whose name can't be read")));
    made.map_err(NotMade::Perhaps)
}

/// iam:GetUser, tags and boundary included.
///
/// # Errors
/// [`AwsError::NoSuchUser`]; otherwise as any request.
pub async fn facts(aws: &Aws, service: &Credentials, name: &UserName) -> Result<Facts, AwsError> {
    let context = aws.context("iam:GetUser", &service.access_key_id, name.as_str());
    let answer = aws.iam(service).get_user().user_name(name.as_str()).send().await;
    let answer = answer.map_err(|e| context.failed(e))?;
    let found = answer.user().and_then(from_sdk).ok_or_else(|| context.bad_answer("no user"))?;
    if found.name != *name {
        return Err(context.bad_answer(format!("it is about user '{}'", found.name)));
    }
    Ok(found)
}

fn from_sdk(user: &aws_sdk_iam::types::User) -> Option<Facts> {
    Some(Facts {
        name: UserName::parse(user.user_name()).ok()?,
        arn: user.arn().to_owned(),
        path: user.path().to_owned(),
        id: user.user_id().to_owned(),
        created: Timestamp::from_unix(user.create_date().secs()),
        boundary: user
            .permissions_boundary()
            .and_then(|b| b.permissions_boundary_arn())
            .filter(|arn| !arn.is_empty())
            .map(str::to_owned),
        tags: user.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect(),
    })
}

/// iam:TagUser.
///
/// # Errors
/// As any request.
pub async fn tag(
    aws: &Aws,
    service: &Credentials,
    name: &UserName,
    tags: &[(String, String)],
) -> Result<(), AwsError> {
    let context = aws.context("iam:TagUser", &service.access_key_id, name.as_str());
    let request = aws.iam(service).tag_user().user_name(name.as_str()).set_tags(Some(sdk_tags(tags)?));
    request.send().await.map(drop).map_err(|e| context.failed(e))
}

/// iam:UpdateUser with a new path: how an adopted user comes under the service's policy.
///
/// # Errors
/// As any request.
pub async fn move_to(aws: &Aws, service: &Credentials, name: &UserName, path: &str) -> Result<(), AwsError> {
    let context = aws.context("iam:UpdateUser", &service.access_key_id, name.as_str());
    let request = aws.iam(service).update_user().user_name(name.as_str()).new_path(path);
    request.send().await.map(drop).map_err(|e| context.failed(e))
}

/// iam:PutUserPermissionsBoundary. There is no way to take one away in this crate.
///
/// # Errors
/// As any request.
pub async fn put_boundary(
    aws: &Aws,
    service: &Credentials,
    name: &UserName,
    boundary: &str,
) -> Result<(), AwsError> {
    let context = aws.context("iam:PutUserPermissionsBoundary", &service.access_key_id, name.as_str());
    let request = aws.iam(service).put_user_permissions_boundary().user_name(name.as_str());
    request.permissions_boundary(boundary).send().await.map(drop).map_err(|e| context.failed(e))
}

/// iam:AttachUserPolicy; attaching what is attached changes nothing.
///
/// # Errors
/// As any request.
pub async fn attach(aws: &Aws, service: &Credentials, name: &UserName, arn: &str) -> Result<(), AwsError> {
    let context = aws.context("iam:AttachUserPolicy", &service.access_key_id, name.as_str());
    let request = aws.iam(service).attach_user_policy().user_name(name.as_str()).policy_arn(arn);
    request.send().await.map(drop).map_err(|e| context.failed(e))
}

/// iam:DetachUserPolicy. `false`: it was not attached, or there is no such user.
///
/// # Errors
/// As any request.
pub async fn detach(aws: &Aws, service: &Credentials, name: &UserName, arn: &str) -> Result<bool, AwsError> {
    let context = aws.context("iam:DetachUserPolicy", &service.access_key_id, name.as_str());
    let request = aws.iam(service).detach_user_policy().user_name(name.as_str()).policy_arn(arn);
    crate::removal::unless_gone(request.send().await.map_err(|e| context.failed(e)))
}

/// ARNs of the attached managed policies (iam:ListAttachedUserPolicies).
///
/// # Errors
/// As any request.
pub async fn attached(aws: &Aws, service: &Credentials, name: &UserName) -> Result<Vec<String>, AwsError> {
    let context = aws.context("iam:ListAttachedUserPolicies", &service.access_key_id, name.as_str());
    let pages = aws.iam(service).list_attached_user_policies().user_name(name.as_str()).into_paginator();
    let all: Vec<_> = pages.items().send().collect::<Result<_, _>>().await.map_err(|e| context.failed(e))?;
    Ok(all.into_iter().filter_map(|policy| policy.policy_arn).collect())
}

/// Names of the inline policies (iam:ListUserPolicies).
///
/// # Errors
/// As any request.
pub async fn inline(aws: &Aws, service: &Credentials, name: &UserName) -> Result<Vec<String>, AwsError> {
    let context = aws.context("iam:ListUserPolicies", &service.access_key_id, name.as_str());
    let pages = aws.iam(service).list_user_policies().user_name(name.as_str()).into_paginator();
    pages.items().send().collect::<Result<_, _>>().await.map_err(|e| context.failed(e))
}

/// The ARNs of the groups that the user is in (iam:ListGroupsForUser).
///
/// # Errors
/// As any request.
pub async fn group_arns(aws: &Aws, service: &Credentials, name: &UserName) -> Result<Vec<String>, AwsError> {
    let context = aws.context("iam:ListGroupsForUser", &service.access_key_id, name.as_str());
    let pages = aws.iam(service).list_groups_for_user().user_name(name.as_str()).into_paginator();
    let all: Vec<_> = pages.items().send().collect::<Result<_, _>>().await.map_err(|e| context.failed(e))?;
    Ok(all.into_iter().map(|group| group.arn).collect())
}

/// Their names, without paths.
///
/// # Errors
/// As any request.
pub async fn groups(aws: &Aws, service: &Credentials, name: &UserName) -> Result<Vec<String>, AwsError> {
    let arns = group_arns(aws, service, name).await?;
    Ok(arns.into_iter().map(|arn| arn.rsplit('/').next().unwrap_or_default().to_owned()).collect())
}

fn sdk_tags(tags: &[(String, String)]) -> Result<Vec<Tag>, AwsError> {
    let mut made = Vec::with_capacity(tags.len());
    for (key, value) in tags {
        let tag = Tag::builder().key(key).value(value).build();
        made.push(tag.map_err(|e| AwsError::Settings(format!("the tag {key:?} can't be used: {e}")))?);
    }
    Ok(made)
}

//! The least IAM policy that a manager needs: exactly the actions that this crate asks for.
//!
//! Those that change something have the resource type `user` (Service Authorization Reference, "AWS Identity and Access
//! Management"; IAM User Guide, "Permissions required to manage access keys"), so they can be held to some users. STS
//! needs nothing: GetSessionToken and GetCallerIdentity can't be granted or denied to a key's owner.

use crate::errors::AwsError;

/// Which users the manager may serve, and whether it also rotates their keys.
#[derive(Clone, Debug)]
pub struct PolicyRequest {
    /// `aws`, `aws-cn`, ...
    pub partition: String,
    /// Twelve digits; `None` leaves it open, which in an identity policy means the manager's own account.
    pub account: Option<String>,
    /// Names with their paths, as in `alice`, `team/*`, `*`. Everyone who matches can be impersonated by the manager.
    pub users: Vec<String>,
    /// Also allow what `rotate` needs.
    pub rotate: bool,
}

/// The actions, with what each is for.
pub const ACTIONS: [(&str, &str); 5] = [
    ("iam:GetUser", "the user exists, and how IAM spells the name"),
    ("iam:ListAccessKeys", "is there room for a key; which one is ours, where an answer was lost"),
    ("iam:CreateAccessKey", "the key that STS is asked with"),
    ("iam:DeleteAccessKey", "the key goes again"),
    ("iam:GetAccessKeyLastUsed", "whose key is it; is it in use by somebody else"),
];

/// This request names a key and no user, so whoever evaluates the policy from the request alone (emulators, policy
/// simulators) can't match it to users; it tells the owner and last use of a key whose ID one must know.
const BY_KEY: &str = "iam:GetAccessKeyLastUsed";

/// What `rotate` needs on top.
pub const ROTATE: (&str, &str) = ("iam:UpdateAccessKey", "the old key is deactivated before it is deleted");

/// The policy as JSON, ready for `aws iam put-user-policy --policy-document`.
///
/// # Errors
/// [`AwsError::Settings`] where a name, account or partition can't stand in an ARN.
pub fn manager_policy(request: &PolicyRequest) -> Result<String, AwsError> {
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    if !plain(&request.partition) {
        return Err(AwsError::Settings(format!("{:?} can't be an AWS partition", request.partition)));
    }
    let account = request.account.as_deref().unwrap_or("*");
    if account != "*" && (account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit())) {
        return Err(AwsError::Settings(format!("{account:?} can't be an AWS account: twelve digits are")));
    }
    let mut resources = Vec::with_capacity(request.users.len());
    for user in &request.users {
        // Of IAM's letters for names and paths; `*` and `?` only because the caller asked for a pattern.
        let fits = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-/*?".contains(c);
        let name = user.trim_start_matches('/');
        if name.is_empty() || !name.chars().all(fits) {
            return Err(AwsError::Settings(format!(
                "{user:?} can't stand for IAM users: give a name, a path and name, or a pattern such as team/*"
            )));
        }
        resources.push(format!("arn:{}:iam::{account}:user/{name}", request.partition));
    }
    if resources.is_empty() {
        return Err(AwsError::Settings("Name at least one user, or a pattern such as team/*".into()));
    }
    let rotate = request.rotate.then_some(ROTATE);
    let actions = ACTIONS.iter().copied().chain(rotate).map(|(action, _)| action);
    let actions: Vec<&str> = actions.filter(|action| *action != BY_KEY).collect();
    let policy = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [
            { "Sid": "IamSorryAccessKeys", "Effect": "Allow", "Action": actions, "Resource": resources },
            { "Sid": "IamSorryWhoseKey", "Effect": "Allow", "Action": BY_KEY, "Resource": "*" },
        ],
    });
    serde_json::to_string_pretty(&policy).map_err(|e| AwsError::Settings(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(account: Option<&str>, users: &[&str]) -> Result<serde_json::Value, AwsError> {
        let text = manager_policy(&PolicyRequest {
            partition: "aws-cn".into(),
            account: account.map(Into::into),
            users: users.iter().map(|&u| u.into()).collect(),
            rotate: false,
        })?;
        Ok(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn it_is_held_to_the_users_named() {
        let json = policy(Some("123456789012"), &["alice", "/team/*"]).unwrap();
        assert_eq!(
            json["Statement"][0]["Resource"],
            serde_json::json!([
                "arn:aws-cn:iam::123456789012:user/alice",
                "arn:aws-cn:iam::123456789012:user/team/*"
            ])
        );
        assert!(!json.to_string().contains("UpdateAccessKey"));
    }

    #[test]
    fn what_cannot_stand_in_an_arn_is_refused() {
        assert!(policy(Some("12345678901"), &["alice"]).is_err());
        for user in ["", "/", "a b", "a\"", "${aws:username}", "a:b"] {
            assert!(policy(None, &[user]).is_err(), "{user}");
        }
        assert!(policy(None, &[]).is_err());
    }
}

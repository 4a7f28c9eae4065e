//! The least IAM policy that a manager needs: exactly the requests that this crate makes.
//!
//! Those that change something have the resource type `user` (Service Authorization Reference, "AWS Identity and Access
//! Management"; IAM User Guide, "Permissions required to manage access keys"), so they can be held to some users. STS
//! needs nothing: GetSessionToken and GetCallerIdentity can't be granted or denied to a key's owner.

use crate::errors::AwsError;

/// Which users the manager may serve.
#[derive(Clone, Debug)]
pub struct PolicyRequest {
    /// `aws`, `aws-cn`, ...
    pub partition: String,
    /// Twelve digits; `None` leaves it open, which in an identity policy means the manager's own account.
    pub account: Option<String>,
    /// Names with their paths, as in `alice`, `team/*`, `*`. Everyone who matches can be impersonated by the manager.
    pub users: Vec<String>,
}

/// The actions, with what each is for.
pub const ACTIONS: [(&str, &str); 6] = [
    ("iam:GetUser", "whether the user exists, and how IAM spells the name"),
    (
        "iam:ListAccessKeys",
        "whether IAM allows one more key; which key may have been made if an answer was lost",
    ),
    ("iam:CreateAccessKey", "the key for a session, and the new one of a rotation"),
    ("iam:DeleteAccessKey", "the key goes again; so does the old one of a rotation"),
    ("iam:GetAccessKeyLastUsed", "whose a key is; whether somebody uses it"),
    (
        "iam:UpdateAccessKey",
        "a key that may have been made by a request whose answer was lost is deactivated, and a person decides; the old key of a \
         rotation is deactivated before it is deleted",
    ),
];

/// This request names a key and no user, so whoever evaluates the policy from the request alone (emulators, policy
/// simulators) can't match it to users; its answer names the owner and last use of a key whose ID one must know.
const BY_KEY: &str = "iam:GetAccessKeyLastUsed";

/// What a manager who makes users needs on top.
pub const CREATE_USER: (&str, &str) = ("iam:CreateUser", "users of the namespace, with the boundary");

/// The policy as JSON, ready for `aws iam put-user-policy --policy-document`.
///
/// # Errors
/// [`AwsError::Settings`] if a name, account or partition can't stand in an ARN.
pub fn manager_policy(request: &PolicyRequest) -> Result<String, AwsError> {
    pretty(&policy(access_keys(request)?))
}

/// The same for a manager who also makes users: of these names only, and only with `boundary` (the name of a customer
/// managed policy, or its ARN) as their permissions boundary. Without that condition whoever may make a user and its
/// key could be given anything that is attached to it later (IAM User Guide, "Permissions boundaries for IAM
/// entities", "Delegating responsibility to others using permissions boundaries").
///
/// # Errors
/// As [`manager_policy`]; also if `boundary` is neither a name nor an ARN.
pub fn namespace_admin_policy(request: &PolicyRequest, boundary: &str) -> Result<String, AwsError> {
    let mut statements = access_keys(request)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
    let account = request.account.as_deref().unwrap_or("*");
    let is_arn = boundary.starts_with("arn:")
        && boundary.contains(":policy/")
        && boundary.chars().all(|c| fits(c) || ":/".contains(c));
    let boundary = if is_arn {
        boundary.to_owned()
    } else if !boundary.is_empty() && boundary.chars().all(fits) {
        format!("arn:{}:iam::{account}:policy/{boundary}", request.partition)
    } else {
        return Err(AwsError::Settings(format!(
            "{boundary:?} can't be a permissions boundary: give the name or the ARN of a managed policy"
        )));
    };
    // An open account is sound here: a boundary is always a policy of the user's own account, or one of AWS's.
    let operator = if boundary.contains('*') { "StringLike" } else { "StringEquals" };
    statements.push(serde_json::json!({
        "Sid": "IamSorryCreateUsers",
        "Effect": "Allow",
        "Action": CREATE_USER.0,
        "Resource": statements[0]["Resource"],
        "Condition": { operator: { "iam:PermissionsBoundary": boundary } },
    }));
    pretty(&policy(statements))
}

fn policy(statements: Vec<serde_json::Value>) -> serde_json::Value {
    serde_json::json!({ "Version": "2012-10-17", "Statement": statements })
}

fn pretty(policy: &serde_json::Value) -> Result<String, AwsError> {
    serde_json::to_string_pretty(policy).map_err(|e| AwsError::Settings(e.to_string()))
}

/// What every manager needs; the first statement is the one that is held to users.
fn access_keys(request: &PolicyRequest) -> Result<Vec<serde_json::Value>, AwsError> {
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
    let actions = ACTIONS.iter().map(|(action, _)| *action);
    let actions: Vec<&str> = actions.filter(|action| *action != BY_KEY).collect();
    Ok(vec![
        serde_json::json!({
            "Sid": "IamSorryAccessKeys", "Effect": "Allow", "Action": actions, "Resource": resources,
        }),
        serde_json::json!({ "Sid": "IamSorryWhoseKey", "Effect": "Allow", "Action": BY_KEY, "Resource": "*" }),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(account: Option<&str>, users: &[&str]) -> Result<serde_json::Value, AwsError> {
        let text = manager_policy(&PolicyRequest {
            partition: "aws-cn".into(),
            account: account.map(Into::into),
            users: users.iter().map(|&u| u.into()).collect(),
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
    }

    #[test]
    fn who_makes_users_makes_them_with_the_boundary() {
        let request = |account: Option<&str>| PolicyRequest {
            partition: "aws".into(),
            account: account.map(Into::into),
            users: vec!["dirk".into(), "dirk-*".into()],
        };
        let condition = |account, boundary| -> serde_json::Value {
            let text = namespace_admin_policy(&request(account), boundary).unwrap();
            let policy: serde_json::Value = serde_json::from_str(&text).unwrap();
            for statement in policy["Statement"].as_array().unwrap() {
                // The one that is open says whose a key is, and changes nothing.
                if statement["Action"] == BY_KEY {
                    continue;
                }
                let resources = statement["Resource"].as_array().unwrap();
                let held = |r: &serde_json::Value| r.as_str().unwrap().contains(":user/dirk");
                assert!(resources.iter().all(held), "{text}");
            }
            policy["Statement"][2]["Condition"].clone()
        };
        let key = "iam:PermissionsBoundary";
        assert_eq!(
            condition(Some("123456789012"), "edge"),
            serde_json::json!({"StringEquals": {key: "arn:aws:iam::123456789012:policy/edge"}})
        );
        assert_eq!(
            condition(None, "edge"),
            serde_json::json!({"StringLike": {key: "arn:aws:iam::*:policy/edge"}})
        );
        let arn = "arn:aws:iam::aws:policy/PowerUserAccess";
        assert_eq!(condition(None, arn), serde_json::json!({"StringEquals": {key: arn}}));
        for bad in ["", "*", "a*", "arn:aws:iam::1:policy/*", "a b"] {
            assert!(namespace_admin_policy(&request(None), bad).is_err(), "{bad}");
        }
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

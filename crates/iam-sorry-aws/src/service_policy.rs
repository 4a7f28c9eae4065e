//! The least IAM policy for the identity of a department service: the actions that [`crate::managed`],
//! [`crate::removal`], [`crate::primitives`] and AssumeRole ask for, held to the paths of the service's own users.
//!
//! What no policy language can say is said by the service itself: that only users with its tags are touched.

use serde_json::{Value, json};

use crate::errors::AwsError;

/// What the service is configured for.
#[derive(Clone, Debug, Default)]
pub struct ServicePolicy {
    /// `aws`, `aws-cn`, ...
    pub partition: String,
    /// Twelve digits; `None` leaves it open, which in an identity policy means the service's own account.
    pub account: Option<String>,
    /// The paths of the users that it makes, such as `/iam-sorry/dirk/`; those below `/iam-sorry/` become one pattern.
    pub paths: Vec<String>,
    /// ARN of the permissions boundary that every user gets.
    pub boundary: Option<String>,
    /// ARNs of the policies that may be attached.
    pub policies: Vec<String>,
    /// ARNs of the roles that people may assume through it.
    pub roles: Vec<String>,
    /// ARNs of the groups that users may be taken out of; `None`: any.
    ///
    /// IAM can't say this by the user: the only resource type of iam:RemoveUserFromGroup is the group, groups have no tags,
    /// and there is no condition key for the member (Service Authorization Reference, AWS Identity and Access Management).
    /// So whoever may take the service's users out of a group may take out anybody's, and the list of groups is all that
    /// narrows it.
    pub groups: Option<Vec<String>>,
    /// Names or patterns (`dirk`, `dirk-*`) of users elsewhere that it may adopt; none by default.
    pub adopt: Vec<String>,
}

/// On the service's users, without a condition.
const ON_USERS: [(&str, &str); 20] = [
    ("iam:TagUser", "owner and operation, by which a user is known again"),
    ("iam:DeleteUser", "delete-user, and taking back what failed half-way"),
    ("iam:CreateAccessKey", "keys, and the key for a session"),
    ("iam:DeleteAccessKey", "the same keys go again"),
    ("iam:UpdateAccessKey", "rotation deactivates before it deletes"),
    ("iam:ListAccessKeys", "show, rotate, delete, and what a lost answer left"),
    ("iam:ListAttachedUserPolicies", "show, delete"),
    ("iam:DetachUserPolicy", "detach-policy; delete-user, whatever is attached"),
    ("iam:ListUserPolicies", "delete-user"),
    ("iam:DeleteUserPolicy", "delete-user"),
    ("iam:ListGroupsForUser", "delete-user"),
    ("iam:DeleteLoginProfile", "delete-user"),
    ("iam:ListMFADevices", "delete-user"),
    ("iam:DeactivateMFADevice", "delete-user"),
    ("iam:ListSigningCertificates", "delete-user"),
    ("iam:DeleteSigningCertificate", "delete-user"),
    ("iam:ListSSHPublicKeys", "delete-user"),
    ("iam:DeleteSSHPublicKey", "delete-user"),
    ("iam:ListServiceSpecificCredentials", "delete-user"),
    ("iam:DeleteServiceSpecificCredential", "delete-user"),
];

/// On any user, but it only looks: a user that was deleted or moved behind the service's back is outside every path of its
/// own, for which AWS would answer AccessDenied and not NoSuchEntity.
const LOOK: &str = "iam:GetUser";

/// Only with the configured boundary.
const WITH_BOUNDARY: [&str; 2] = ["iam:CreateUser", "iam:PutUserPermissionsBoundary"];

/// For each role: who is behind the session is set by the service (STS API reference, AssumeRole).
const ON_ROLES: [&str; 3] = ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"];

/// To look at a user elsewhere and to bring it under the service's path.
const ADOPT: [&str; 5] = [
    "iam:TagUser",
    "iam:UpdateUser",
    "iam:ListAttachedUserPolicies",
    "iam:ListUserPolicies",
    "iam:ListGroupsForUser",
];

/// The folder of IAM paths that the service has for itself by default.
const OWN_FOLDER: &str = "/iam-sorry/";

impl ServicePolicy {
    /// Every action in the policy, for those who check that each is needed.
    pub fn actions(&self) -> Vec<&'static str> {
        let mut actions: Vec<&str> = ON_USERS.iter().map(|(action, _)| *action).collect();
        actions.extend(WITH_BOUNDARY);
        actions.extend([
            LOOK,
            "iam:AttachUserPolicy",
            "iam:RemoveUserFromGroup",
            "iam:DeleteVirtualMFADevice",
            "iam:GetAccessKeyLastUsed",
        ]);
        actions.extend(ON_ROLES);
        actions.push("iam:UpdateUser");
        actions
    }

    /// The policy as JSON, ready for `aws iam put-user-policy --policy-document`.
    ///
    /// # Errors
    /// [`AwsError::Settings`] if a path, ARN, account or partition can't stand in a policy.
    pub fn to_json(&self) -> Result<String, AwsError> {
        let account = self.checked_account()?;
        let arn = |kind: &str, name: &str| format!("arn:{}:iam::{account}:{kind}/{name}", self.partition);
        let users = self.user_patterns(&arn)?;
        let mut statements = vec![statement("Users", &ON_USERS.map(|(action, _)| action), &users)];
        statements.push(statement("IsItOurs", &[LOOK], &[arn("user", "*")]));
        let mut with_boundary = statement("UsersWithBoundary", &WITH_BOUNDARY, &users);
        if let Some(boundary) = &self.boundary {
            let boundary = checked_arn(boundary)?;
            with_boundary["Condition"] = json!({ "StringEquals": { "iam:PermissionsBoundary": boundary } });
        }
        statements.push(with_boundary);
        if !self.policies.is_empty() {
            let listed: Vec<&str> =
                self.policies.iter().map(|arn| checked_arn(arn)).collect::<Result<_, _>>()?;
            let mut attach = statement("AttachListedPolicies", &["iam:AttachUserPolicy"], &users);
            attach["Condition"] = json!({ "ArnEquals": { "iam:PolicyARN": listed } });
            statements.push(attach);
        }
        let groups = match &self.groups {
            None => vec![arn("group", "*")],
            Some(listed) => {
                listed.iter().map(|arn| checked_arn(arn).map(str::to_owned)).collect::<Result<_, _>>()?
            }
        };
        // The resource of these is the group or the device, each of one of them only. A device's name is its maker's choice;
        // it can be deleted only when it is nobody's.
        let mut actions = vec!["iam:RemoveUserFromGroup", "iam:DeleteVirtualMFADevice"];
        actions.retain(|action| !groups.is_empty() || *action != "iam:RemoveUserFromGroup");
        let others = [groups, vec![arn("mfa", "*")]].concat();
        statements.push(statement("TakenAwayWithAUser", &actions, &others));
        statements.push(statement("KeyInUse", &["iam:GetAccessKeyLastUsed"], &["*".to_owned()]));
        if !self.roles.is_empty() {
            let roles: Vec<String> =
                self.roles.iter().map(|arn| checked_arn(arn).map(str::to_owned)).collect::<Result<_, _>>()?;
            statements.push(statement("AssumeRoles", &ON_ROLES, &roles));
        }
        statements.extend(self.adoption(&arn, &users)?);
        let policy = json!({ "Version": "2012-10-17", "Statement": statements });
        serde_json::to_string_pretty(&policy).map_err(|e| AwsError::Settings(e.to_string()))
    }

    fn adoption(&self, arn: &dyn Fn(&str, &str) -> String, users: &[String]) -> Result<Vec<Value>, AwsError> {
        if self.adopt.is_empty() {
            return Ok(Vec::new());
        }
        let fits = |name: &&String| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "+=,.@_-*".contains(c))
        };
        let mut found = Vec::new();
        for name in &self.adopt {
            if !fits(&name) {
                return Err(AwsError::Settings(format!("{name:?} can't stand for users to be adopted")));
            }
            found.push(arn("user", name));
        }
        let mut boundary = statement("AdoptWithBoundary", &["iam:PutUserPermissionsBoundary"], &found);
        if let Some(arn) = &self.boundary {
            boundary["Condition"] = json!({ "StringEquals": { "iam:PermissionsBoundary": arn } });
        }
        // UpdateUser needs the right on the path that a user comes from and on the one that it goes to (IAM API
        // reference, UpdateUser).
        found.extend(users.iter().cloned());
        Ok(vec![statement("Adopt", &ADOPT, &found), boundary])
    }

    fn checked_account(&self) -> Result<&str, AwsError> {
        let plain =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        if !plain(&self.partition) {
            return Err(AwsError::Settings(format!("{:?} can't be an AWS partition", self.partition)));
        }
        let account = self.account.as_deref().unwrap_or("*");
        if account != "*" && (account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit())) {
            return Err(AwsError::Settings(format!(
                "{account:?} can't be an AWS account: twelve digits are"
            )));
        }
        Ok(account)
    }

    fn user_patterns(&self, arn: &dyn Fn(&str, &str) -> String) -> Result<Vec<String>, AwsError> {
        let mut patterns = Vec::new();
        for path in &self.paths {
            let inside = path.strip_prefix('/').and_then(|p| p.strip_suffix('/'));
            let fits = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-/".contains(c);
            let Some(inside) = inside.filter(|p| !p.is_empty() && p.chars().all(fits)) else {
                return Err(AwsError::Settings(format!(
                    "{path:?} can't be the path of the service's users: give one such as /iam-sorry/dirk/"
                )));
            };
            let inside = if path.starts_with(OWN_FOLDER) { OWN_FOLDER.trim_matches('/') } else { inside };
            let pattern = arn("user", &format!("{inside}/*"));
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
        if patterns.is_empty() {
            return Err(AwsError::Settings("The configuration has no namespace: name at least one.".into()));
        }
        Ok(patterns)
    }
}

fn statement(sid: &str, actions: &[&str], resources: &[String]) -> Value {
    json!({ "Sid": format!("IamSorry{sid}"), "Effect": "Allow", "Action": actions, "Resource": resources })
}

/// An ARN without wildcards and variables, so that it can't widen the policy that it stands in.
fn checked_arn(arn: &str) -> Result<&str, AwsError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-:/".contains(c);
    if arn.starts_with("arn:") && arn.chars().all(fits) {
        return Ok(arn);
    }
    Err(AwsError::Settings(format!("{arn:?} can't be an ARN of the policy")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> ServicePolicy {
        ServicePolicy {
            partition: "aws".into(),
            account: Some("123456789012".into()),
            paths: vec!["/iam-sorry/dirk/".into(), "/iam-sorry/lab/".into(), "/other/".into()],
            boundary: Some("arn:aws:iam::123456789012:policy/edge".into()),
            policies: vec!["arn:aws:iam::aws:policy/ReadOnlyAccess".into()],
            roles: vec!["arn:aws:iam::123456789012:role/cluster".into()],
            groups: None,
            adopt: Vec::new(),
        }
    }

    /// Issue 9, number 12: the group is the only resource that IAM knows here, so a list of groups is all that narrows it.
    #[test]
    fn users_are_taken_out_of_listed_groups_only() {
        let reach = |groups: Option<Vec<String>>| {
            let policy = ServicePolicy { groups, ..request() }.to_json().unwrap();
            let policy: Value = serde_json::from_str(&policy).unwrap();
            let statements = policy["Statement"].as_array().unwrap().clone();
            let found =
                statements.into_iter().find(|s| s["Action"].to_string().contains("RemoveUserFromGroup"));
            found.map(|statement| statement["Resource"].clone())
        };
        let devices = "arn:aws:iam::123456789012:mfa/*";
        let listed = "arn:aws:iam::123456789012:group/lab/staff".to_owned();
        assert_eq!(reach(None), Some(json!(["arn:aws:iam::123456789012:group/*", devices])));
        assert_eq!(reach(Some(vec![listed.clone()])), Some(json!([listed, devices])));
        assert_eq!(reach(Some(Vec::new())), None);
        let wide = Some(vec!["arn:aws:iam::123456789012:group/*".to_owned()]);
        assert!(ServicePolicy { groups: wide, ..request() }.to_json().is_err());
    }

    #[test]
    fn only_the_services_own_paths_are_in_reach() {
        let policy: Value = serde_json::from_str(&request().to_json().unwrap()).unwrap();
        let users =
            json!(["arn:aws:iam::123456789012:user/iam-sorry/*", "arn:aws:iam::123456789012:user/other/*"]);
        for statement in policy["Statement"].as_array().unwrap() {
            let actions = statement["Action"].to_string();
            if actions.contains("User\"") && !actions.contains("Group") && !actions.contains(LOOK) {
                assert_eq!(statement["Resource"], users, "{statement}");
            }
            let open = statement["Resource"] == json!(["*"]);
            assert_eq!(open, actions == "[\"iam:GetAccessKeyLastUsed\"]", "{statement}");
        }
        assert!(!policy.to_string().contains("DeleteUserPermissionsBoundary"));
    }

    #[test]
    fn users_are_made_with_the_boundary_and_only_listed_policies_attached() {
        let policy: Value = serde_json::from_str(&request().to_json().unwrap()).unwrap();
        let of = |action: &str| {
            let statements = policy["Statement"].as_array().unwrap();
            statements.iter().find(|s| s["Action"].to_string().contains(action)).unwrap()["Condition"].clone()
        };
        let boundary =
            json!({"StringEquals": {"iam:PermissionsBoundary": "arn:aws:iam::123456789012:policy/edge"}});
        assert_eq!(of("iam:CreateUser"), boundary);
        assert_eq!(of("PutUserPermissionsBoundary"), boundary);
        let listed = json!({"ArnEquals": {"iam:PolicyARN": ["arn:aws:iam::aws:policy/ReadOnlyAccess"]}});
        assert_eq!(of("AttachUserPolicy"), listed);
    }

    /// A name with a wildcard or a policy variable in it would widen the policy (GHSA-59w7).
    #[test]
    fn what_could_widen_the_policy_is_refused() {
        let refused = |change: &dyn Fn(&mut ServicePolicy)| {
            let mut policy = request();
            change(&mut policy);
            assert!(policy.to_json().is_err(), "{policy:?}");
        };
        for path in ["/", "", "iam-sorry/", "/a*/", "/${aws:username}/", "/a?/", "//"] {
            refused(&|p| p.paths = vec![path.into()]);
        }
        for arn in ["*", "arn:aws:iam::1:policy/*", "arn:aws:iam::1:role/${x}"] {
            refused(&|p| p.boundary = Some(arn.into()));
            refused(&|p| p.policies = vec![arn.into()]);
            refused(&|p| p.roles = vec![arn.into()]);
        }
        refused(&|p| p.paths.clear());
        refused(&|p| p.account = Some("1".into()));
        refused(&|p| p.adopt = vec!["a/b".into()]);
    }
}

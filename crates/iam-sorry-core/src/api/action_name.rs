//! The names of what the service does on a person's behalf.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::InvalidName;

/// Declares the enum, one line for each action. The service's registry of actions does not compile before it has all of them.
macro_rules! action_names {
    ($($name:ident = $text:literal, $doc:literal;)+) => {
        /// An action that changes something at AWS: as answers, operations and the audit trail name it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum ActionName {
            $(#[doc = $doc] $name,)+
        }

        impl ActionName {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// As it is written: `create-user`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

action_names! {
    CreateUser = "create-user", "Make an IAM user.";
    DeleteUser = "delete-user", "Remove an IAM user with everything that is attached to it.";
    AdoptUser = "adopt-user", "Take over an IAM user that was there before the service.";
    AttachPolicy = "attach-policy", "Attach a managed policy to a user.";
    DetachPolicy = "detach-policy", "Detach a managed policy from a user.";
    CreateAccessKey = "create-access-key", "Make a permanent access key.";
    RotateKey = "rotate-key", "Put a new permanent key in the place of an old one.";
    ConfirmKey = "confirm-key", "End a rotation: the new secret has arrived, so the old key is deleted.";
    RestoreKey = "restore-key", "End a rotation: the old key is active again, and the new one is deleted.";
    RetireKey = "retire-key", "End a rotation that nobody has confirmed in time; done by the service itself.";
    DeleteAccessKey = "delete-access-key", "Delete a permanent access key.";
    UpdateAccessKey = "update-access-key", "Activate or deactivate a permanent access key.";
    IssueCredentials = "issue-credentials", "Issue temporary credentials of an IAM user.";
    AssumeRole = "assume-role", "Issue temporary credentials of a role.";
}

impl fmt::Display for ActionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ActionName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::ALL.iter().copied().find(|name| name.as_str() == text).ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|name| name.as_str()).collect();
            InvalidName(format!("{text:?} is not an action\nThe actions are: {}", all.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The trail has these names, so none may ever change.
    #[test]
    fn a_name_is_written_as_it_is_read() {
        for &name in ActionName::ALL {
            assert_eq!(name.as_str().parse(), Ok(name));
            let json = serde_json::to_string(&name).unwrap();
            assert_eq!(json, format!("{:?}", name.as_str()));
            assert_eq!(serde_json::from_str::<ActionName>(&json).unwrap(), name);
        }
        assert!("create-users".parse::<ActionName>().is_err());
    }
}

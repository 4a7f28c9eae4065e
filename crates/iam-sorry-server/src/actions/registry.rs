//! Every action by its name: for what is stored, and for the reconciler.

use iam_sorry_core::api::{ActionName, Done, IssuedCredentials, NewKey};
use serde::{Deserialize, Serialize};

use crate::caller::Caller;
use crate::error::ServiceError;
use crate::operations::action::{Action, Mode, RunOutput};
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::idempotency::IdempotencyKey;
use crate::operations::stored_plan;
use crate::service::Service;

/// The actions are named once each; everything that depends on which one it is follows from that.
macro_rules! registry {
    ($($file:ident::$name:ident,)+) => {
        $(use crate::actions::$file::$name;)+

        /// An action of any kind, as it is stored: `{"action":"delete-user","user":"dirk"}`. A new field of an action needs a
        /// default, since what was stored before must be read.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "action", rename_all = "kebab-case")]
        pub enum StoredAction {
            $(#[doc = concat!("[`", stringify!($name), "`].")] $name($name),)+
        }

        $(impl From<$name> for StoredAction {
            fn from(action: $name) -> Self {
                Self::$name(action)
            }
        })+

        impl StoredAction {
            /// Its name.
            pub fn name(&self) -> ActionName {
                match self {
                    $(Self::$name(_) => <$name as Action>::NAME,)+
                }
            }

            /// Runs it, as [`Service::run`] does.
            ///
            /// # Errors
            /// As [`Service::run`].
            pub async fn run(
                self,
                service: &Service,
                caller: &Caller,
                key: Option<&IdempotencyKey>,
                mode: Mode,
            ) -> Result<RunOutput<AnyOutput>, ServiceError> {
                Ok(match self {
                    $(Self::$name(action) => match service.run(caller, key, action, mode).await? {
                        RunOutput::Acted(output) => RunOutput::Acted(output.into()),
                        RunOutput::Unchanged(done) => RunOutput::Unchanged(done),
                    },)+
                })
            }
        }

        /// Settles an operation by its action.
        pub(crate) async fn settle(name: ActionName, case: &Case<'_>) -> Result<Settled, SettleError> {
            match name {
                $(ActionName::$name => settle_as::<$name>(case).await,)+
            }
        }
    };
}

registry! {
    create_user::CreateUser,
    delete_user::DeleteUser,
    adopt_user::AdoptUser,
    attach_policy::AttachPolicy,
    detach_policy::DetachPolicy,
    create_access_key::CreateAccessKey,
    rotate_key::RotateKey,
    confirm_key::ConfirmKey,
    restore_key::RestoreKey,
    retire_key::RetireKey,
    delete_access_key::DeleteAccessKey,
    issue_credentials::IssueCredentials,
    assume_role::AssumeRole,
}

/// What any action gives.
#[derive(Debug)]
pub enum AnyOutput {
    /// Nothing secret.
    Done(Done),
    /// A permanent key.
    Key(NewKey),
    /// Temporary credentials.
    Credentials(IssuedCredentials),
}

impl From<Done> for AnyOutput {
    fn from(done: Done) -> Self {
        Self::Done(done)
    }
}

impl From<NewKey> for AnyOutput {
    fn from(key: NewKey) -> Self {
        Self::Key(key)
    }
}

impl From<IssuedCredentials> for AnyOutput {
    fn from(credentials: IssuedCredentials) -> Self {
        Self::Credentials(credentials)
    }
}

async fn settle_as<A: Action>(case: &Case<'_>) -> Result<Settled, SettleError> {
    let plan: A::Plan = stored_plan::read(A::PLAN, &case.operation.new.plan)?;
    A::settle(&plan, case).await
}

#[cfg(test)]
mod tests {
    use iam_sorry_core::ids::{AccountName, UserRef};
    use proptest::prelude::*;

    use super::*;
    use crate::actions::adopt_user::AdoptUser;
    use crate::actions::assume_role::AssumeRole;
    use crate::actions::attach_policy::AttachPolicy;
    use crate::actions::confirm_key::ConfirmKey;
    use crate::actions::create_access_key::CreateAccessKey;
    use crate::actions::create_user::CreateUser;
    use crate::actions::delete_access_key::DeleteAccessKey;
    use crate::actions::delete_user::DeleteUser;
    use crate::actions::detach_policy::DetachPolicy;
    use crate::actions::issue_credentials::IssueCredentials;
    use crate::actions::restore_key::RestoreKey;
    use crate::actions::retire_key::RetireKey;
    use crate::actions::rotate_key::RotateKey;

    /// Read as the action's plan, and written as the same text.
    fn is_plan_of<A: Action>(text: &str) {
        let plan: A::Plan = stored_plan::read(A::PLAN, text).unwrap();
        assert_eq!(stored_plan::write(A::PLAN, &plan), text);
    }

    /// What an older version wrote must be read for ever: the texts here are never changed.
    #[test]
    fn what_was_written_is_read() {
        is_plan_of::<CreateUser>(
            r#"{"plan":"create-user","user":"a","namespace":"lab","path":"/p/","boundary":null,"policies":["arn"]}"#,
        );
        is_plan_of::<DeleteUser>(r#"{"plan":"delete-user","user":"a"}"#);
        is_plan_of::<AdoptUser>(
            r#"{"plan":"adopt-user","user":"a","id":"AIDA1","namespace":"lab","path":"/p/","boundary":"arn"}"#,
        );
        is_plan_of::<AttachPolicy>(r#"{"plan":"attach-policy","user":"a","arn":"arn"}"#);
        is_plan_of::<DetachPolicy>(r#"{"plan":"detach-policy","user":"a","arn":"arn"}"#);
        is_plan_of::<CreateAccessKey>(r#"{"plan":"create-key","user":"a","since":1}"#);
        is_plan_of::<CreateAccessKey>(r#"{"plan":"create-key","user":"a","since":1,"before":["AKIAOLD"]}"#);
        is_plan_of::<RotateKey>(
            r#"{"plan":"rotate-key","user":"dirk","old":"AKIAOLD","old_was_active":true,"since":1}"#,
        );
        is_plan_of::<RotateKey>(
            r#"{"plan":"rotate-key","user":"dirk","old":"AKIAOLD","old_was_active":true,"since":1,"before":["AKIAOLD"]}"#,
        );
        let retire = r#"{"plan":"retire-key","user":"a","old":"AKIAOLD","new":"AKIANEW"}"#;
        is_plan_of::<ConfirmKey>(retire);
        is_plan_of::<RetireKey>(retire);
        is_plan_of::<RestoreKey>(r#"{"plan":"restore-key","user":"a","old":"AKIAOLD","new":"AKIANEW"}"#);
        is_plan_of::<DeleteAccessKey>(r#"{"plan":"delete-key","user":"a","key":"AKIAOLD"}"#);
        is_plan_of::<IssueCredentials>(r#"{"plan":"user-session","user":"a","since":1}"#);
        is_plan_of::<AssumeRole>(r#"{"plan":"role-session","role":"arn"}"#);
    }

    /// The hash of what a key stands for is stored, so an answer that was given before an upgrade is given again after it only
    /// as long as these texts stay.
    #[test]
    fn what_an_idempotency_key_stands_for_stays_the_same() {
        let key = "AKIAIOSFODNN7EXAMPLE";
        let policies = vec!["arn:b".to_owned(), "arn:a".to_owned(), "arn:b".to_owned()];
        for (text, expected) in [
            (CreateUser::new(user("a"), policies).parameters(), r#"["arn:a","arn:b"]"#.to_owned()),
            (DeleteUser::new(user("a")).parameters(), "null".into()),
            (AdoptUser::new(user("a")).parameters(), "null".into()),
            (AttachPolicy::new(user("a"), "arn".into()).parameters(), r#""arn""#.into()),
            (DetachPolicy::new(user("a"), "arn".into()).parameters(), r#""arn""#.into()),
            (CreateAccessKey::new(user("a")).parameters(), "null".into()),
            (RotateKey::new(user("a"), key).unwrap().parameters(), format!("{key:?}")),
            (ConfirmKey::new(user("a"), key).unwrap().parameters(), format!("{key:?}")),
            (RestoreKey::new(user("a"), key).unwrap().parameters(), format!("{key:?}")),
            (DeleteAccessKey::new(user("a"), key, true).unwrap().parameters(), format!("[{key:?},true]")),
            (IssueCredentials::new(user("a"), None).unwrap().parameters(), "null".into()),
            (IssueCredentials::new(user("a"), Some(900)).unwrap().parameters(), "900".into()),
            (AssumeRole::new("arn".into(), Some(900)).unwrap().parameters(), "900".into()),
        ] {
            assert_eq!(text, expected);
        }
    }

    fn user(text: &str) -> UserRef {
        UserRef::parse_in(text, &AccountName::default()).unwrap()
    }

    /// A user of an account that has a name is stored with it.
    #[test]
    fn a_plan_and_an_action_name_the_account_of_their_user() {
        let plan = r#"{"plan":"create-key","user":"archive/lab-a","since":1}"#;
        is_plan_of::<CreateAccessKey>(plan);
        let read: <CreateAccessKey as Action>::Plan = stored_plan::read("create-key", plan).unwrap();
        assert_eq!(read.user, user("archive/lab-a"));
        let action: StoredAction =
            serde_json::from_str(r#"{"action":"delete-user","user":"archive/lab-a"}"#).unwrap();
        assert_eq!(action, DeleteUser::new(user("archive/lab-a")).into());
        let action: StoredAction =
            serde_json::from_str(r#"{"action":"delete-user","user":"lab-a"}"#).unwrap();
        assert_eq!(action, DeleteUser::new(user("default/lab-a")).into());
        assert!(
            serde_json::from_str::<StoredAction>(r#"{"action":"delete-user","user":"Archive/lab-a"}"#)
                .is_err()
        );
    }

    /// What actions are made of.
    #[derive(Clone, Debug)]
    struct Fields {
        user: UserRef,
        key: String,
        arn: String,
        arns: Vec<String>,
        force: bool,
        seconds: Option<u32>,
    }

    /// The action of that name. Does not compile before a new action is here.
    fn action_of(name: ActionName, fields: Fields) -> StoredAction {
        let Fields { user, key, arn, arns, force, seconds } = fields;
        match name {
            ActionName::CreateUser => CreateUser::new(user, arns).into(),
            ActionName::DeleteUser => DeleteUser::new(user).into(),
            ActionName::AdoptUser => AdoptUser::new(user).into(),
            ActionName::AttachPolicy => AttachPolicy::new(user, arn).into(),
            ActionName::DetachPolicy => DetachPolicy::new(user, arn).into(),
            ActionName::CreateAccessKey => CreateAccessKey::new(user).into(),
            ActionName::RotateKey => RotateKey::new(user, &key).unwrap().into(),
            ActionName::ConfirmKey => ConfirmKey::new(user, &key).unwrap().into(),
            ActionName::RestoreKey => RestoreKey::new(user, &key).unwrap().into(),
            ActionName::RetireKey => RetireKey::new(user, &key).unwrap().into(),
            ActionName::DeleteAccessKey => DeleteAccessKey::new(user, &key, force).unwrap().into(),
            ActionName::IssueCredentials => IssueCredentials::new(user, seconds).unwrap().into(),
            ActionName::AssumeRole => AssumeRole::new(arn, seconds).unwrap().into(),
        }
    }

    fn any_fields() -> impl Strategy<Value = Fields> {
        let user = "([a-z0-9][a-z0-9-]{0,31}/)?[A-Za-z0-9+=,.@_-]{1,64}".prop_map(|text| user(&text));
        let key = "[A-Za-z0-9_]{16,128}";
        let arns = proptest::collection::vec(any::<String>(), 0..4);
        let seconds = proptest::option::of(900_u32..);
        (user, key, any::<String>(), arns, any::<bool>(), seconds).prop_map(
            |(user, key, arn, arns, force, seconds)| Fields { user, key, arn, arns, force, seconds },
        )
    }

    proptest! {
        /// A stored action is read as what it was, down to the spelling of the user's name.
        #[test]
        fn an_action_comes_back_from_json_as_it_was(
            name in proptest::sample::select(ActionName::ALL),
            fields in any_fields(),
        ) {
            let action = action_of(name, fields);
            let json = serde_json::to_string(&action).unwrap();
            let read: StoredAction = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&read, &action);
            prop_assert_eq!(serde_json::to_string(&read).unwrap(), json);
            // It is stored under the name that it has in the trail.
            let mut value = serde_json::to_value(&action).unwrap();
            prop_assert_eq!(action.name(), name);
            prop_assert_eq!(&value["action"], name.as_str());
            // With a field that is not known it is no action that could be half understood.
            value["more"] = "x".into();
            prop_assert!(serde_json::from_value::<StoredAction>(value).is_err());
        }
    }
}

//! Every action by its name: for what is stored, and for the reconciler.

use iam_sorry_core::api::{ActionName, Done, IssuedCredentials, NewKey};
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

#[cfg(test)]
use crate::actions::sample::{Fields, Sample};
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

        /// Takes back the access key of an operation that is done, and whose secret nobody has.
        pub(crate) async fn take_back(
            name: ActionName,
            service: &Service,
            plan: &str,
            key: &str,
        ) -> Result<(), SettleError> {
            match name {
                $(ActionName::$name => {
                    let plan = stored_plan::read(<$name as Action>::PLAN, plan)?;
                    Ok($name::take_back(service, &plan, key).await?)
                })+
            }
        }

        /// Each action that a person may request: its own fields, and its name.
        impl PartialSchema for StoredAction {
            fn schema() -> RefOr<Schema> {
                let mut all = OneOfBuilder::new();
                $(if !$name::BY_SERVICE_ONLY {
                    all = all.item(named($name::NAME, <$name as PartialSchema>::schema()));
                })+
                all.into()
            }
        }

        impl ToSchema for StoredAction {
            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                $(<$name as ToSchema>::schemas(schemas);)+
            }
        }

        /// Settles an operation by its action.
        pub(crate) async fn settle(name: ActionName, case: &Case<'_>) -> Result<Settled, SettleError> {
            match name {
                $(ActionName::$name => settle_as::<$name>(case).await,)+
            }
        }

        #[cfg(test)]
        fn sample(name: ActionName, fields: Fields) -> StoredAction {
            match name {
                $(ActionName::$name => $name::sample(fields).into(),)+
            }
        }

        /// What an older version wrote must be read for ever, and an answer that was given before an upgrade is given again.
        #[test]
        fn what_was_stored_is_read_and_stays_the_same() {
            $(tests::is_read_and_stays_the_same::<$name>();)+
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
    update_access_key::UpdateAccessKey,
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

/// The schema of an action with its name as `action`.
fn named(name: ActionName, schema: RefOr<Schema>) -> RefOr<Schema> {
    let RefOr::T(Schema::Object(mut object)) = schema else { return schema };
    let value = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([name.as_str()]));
    object.properties.insert("action".to_owned(), value.into());
    object.required.insert(0, "action".to_owned());
    RefOr::T(Schema::Object(object))
}

async fn settle_as<A: Action>(case: &Case<'_>) -> Result<Settled, SettleError> {
    let plan: A::Plan = stored_plan::read(A::PLAN, &case.operation.new.plan)?;
    A::settle(&plan, case).await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::actions::sample::user;

    pub(super) fn is_read_and_stays_the_same<A: Sample>() {
        assert!(!A::PLANS.is_empty());
        A::PLANS.iter().for_each(|text| is_plan_of::<A>(text));
        assert_eq!(A::sample(Fields::fixed()).parameters(), A::PARAMETERS, "{}", A::NAME);
    }

    /// Read as the action's plan, and written as the same text.
    fn is_plan_of<A: Action>(text: &str) {
        let plan: A::Plan = stored_plan::read(A::PLAN, text).unwrap();
        assert_eq!(stored_plan::write(A::PLAN, &plan), text);
    }

    #[test]
    fn a_session_of_the_usual_duration_stands_for_nothing_more() {
        assert_eq!(IssueCredentials::new(user("a"), None).unwrap().parameters(), "null");
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
            let action = sample(name, fields);
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

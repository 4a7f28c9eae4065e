//! What the registry's tests need to know of each action: that it is read from what any version of the program has stored.

use iam_sorry_core::ids::{AccountName, UserRef};

use crate::operations::action::Action;

/// Beside each action.
pub(crate) trait Sample: Action {
    /// Plans as they have been stored, by this and by older versions: the texts are never changed, and new ones come after them.
    const PLANS: &[&str];

    /// What [`Action::parameters`] says of the sample of [`Fields::fixed`]. A hash of it is stored, so it never changes.
    const PARAMETERS: &str;

    /// The action of these fields.
    fn sample(fields: Fields) -> Self;
}

/// What actions are made of.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    pub(crate) user: UserRef,
    pub(crate) key: String,
    pub(crate) arn: String,
    pub(crate) arns: Vec<String>,
    pub(crate) force: bool,
    pub(crate) seconds: Option<u32>,
}

impl Fields {
    /// The ones of [`Sample::PARAMETERS`].
    pub(crate) fn fixed() -> Self {
        Self {
            user: user("a"),
            key: "AKIAIOSFODNN7EXAMPLE".into(),
            arn: "arn".into(),
            arns: ["arn:b", "arn:a", "arn:b"].map(String::from).into(),
            force: true,
            seconds: Some(900),
        }
    }
}

pub(crate) fn user(text: &str) -> UserRef {
    UserRef::parse_in(text, &AccountName::default()).unwrap()
}

//! The AWS accounts that the service manages, by their names. There is always a first one: it goes without saying.

use iam_sorry_aws::Aws;
use iam_sorry_core::ids::AccountName;

use crate::accounts::handle::CachedHandle;
use crate::accounts::identity::ServiceIdentity;

/// One AWS account: how it is reached, and whose credentials act in it.
pub struct AwsAccount {
    pub(crate) name: AccountName,
    pub(crate) aws: Aws,
    pub(crate) identity: ServiceIdentity,
    /// The handle that was used last.
    pub(crate) handle: CachedHandle,
}

impl AwsAccount {
    /// `aws`: its clients, whose requests end within [`crate::operations::life::AWS_TIME`].
    pub fn new(name: AccountName, aws: Aws, identity: ServiceIdentity) -> Self {
        Self { name, aws, identity, handle: CachedHandle::default() }
    }
}

impl std::fmt::Debug for AwsAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwsAccount").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All of them.
#[derive(Debug)]
pub struct Accounts {
    first: AwsAccount,
    others: Vec<AwsAccount>,
}

impl Accounts {
    /// The only one.
    pub fn one(account: AwsAccount) -> Self {
        Self { first: account, others: Vec::new() }
    }

    /// The one that goes without saying.
    pub fn first(&self) -> &AwsAccount {
        &self.first
    }

    /// The account of this name.
    pub fn get(&self, name: &AccountName) -> Option<&AwsAccount> {
        self.iter().find(|account| &account.name == name)
    }

    /// All of them, the first one first.
    pub fn iter(&self) -> impl Iterator<Item = &AwsAccount> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

//! Users as people name them: `NAME`, or `ACCOUNT/NAME`.

use iam_sorry_core::ids::{AccountName, UserRef, UserSelector};

use crate::error::ServiceError;
use crate::service::Service;

impl Service {
    /// The user that somebody names: `NAME`, in the first account, or `ACCOUNT/NAME`.
    ///
    /// # Errors
    /// invalid-name; not-found if the service has no such account.
    pub fn user_ref(&self, text: &str) -> Result<UserRef, ServiceError> {
        let UserSelector { account, name } = UserSelector::parse(text).map_err(ServiceError::invalid_name)?;
        let account = match account {
            Some(account) => self.account(&account)?.name.clone(),
            None => self.first_account().clone(),
        };
        Ok(UserRef::new(account, name))
    }

    /// The user of that name in an account of the service's; without one, in the first.
    ///
    /// # Errors
    /// invalid-name.
    pub fn user_in(&self, account: Option<AccountName>, name: &str) -> Result<UserRef, ServiceError> {
        let name = name.parse().map_err(ServiceError::invalid_name)?;
        Ok(UserRef::new(account.unwrap_or_else(|| self.first_account().clone()), name))
    }

    /// The account that somebody names.
    ///
    /// # Errors
    /// invalid-name; not-found if the service has no such account.
    pub fn account_name(&self, text: &str) -> Result<AccountName, ServiceError> {
        let name = AccountName::parse(text).map_err(ServiceError::invalid_name)?;
        self.account(&name)?;
        Ok(name)
    }

    /// What people call the user: its name alone if its account goes without saying.
    pub(crate) fn label(&self, user: &UserRef) -> String {
        user.short(self.first_account())
    }
}

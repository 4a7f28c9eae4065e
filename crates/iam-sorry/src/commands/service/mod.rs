//! The verbs that ask a department service. They decide nothing: what the service answers is what is shown.

mod audit;
mod bulk;
mod grants;
mod keys;
mod session;
mod show;
mod sign_in;
mod ssh_keys;
mod users;

use crate::app::App;
use crate::args::ServiceVerb;
use crate::failure::Result;
use crate::service::{self, Client, ServiceError};

pub use grants::{issue_for_user, renew_role, role, say_who};

pub fn run(app: &App, verb: ServiceVerb) -> Result<()> {
    match verb {
        ServiceVerb::Login { url, ldap, user } => sign_in::login(app, url.as_deref(), ldap, user.as_deref()),
        ServiceVerb::Logout { url } => sign_in::logout(app, url.as_deref()),
        ServiceVerb::Whoami { json } => session::whoami(app, json),
        ServiceVerb::Users { action } => users::run(app, action),
        ServiceVerb::Policies { action } => users::policies(app, action),
        ServiceVerb::Keys { action } => keys::run(app, action),
        ServiceVerb::Audit { action } => audit::run(app, action),
        ServiceVerb::Explain { action, resource, policy, json } => {
            session::explain(app, action, resource, policy, json)
        }
        ServiceVerb::Sessions { action } => session::run(app, action),
        ServiceVerb::SshKeys { action } => ssh_keys::run(app, action),
    }
}

/// Asks the service that this command is about, with the person's session.
fn ask<T>(app: &App, work: impl AsyncFnOnce(&Client) -> std::result::Result<T, ServiceError>) -> Result<T> {
    let client = service::open(app)?;
    crate::aws::block_on(|cancel| async move {
        let client = client.with_cancel(cancel);
        Ok(work(&client).await?)
    })
}

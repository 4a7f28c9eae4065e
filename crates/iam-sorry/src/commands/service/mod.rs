//! The verbs that use a department service. They decide nothing, and show what the service answers.

mod audit;
mod bulk;
mod keys;
mod request;
pub mod role;
mod session;
mod show;
mod sign_in;
mod ssh_keys;
mod users;

use crate::app::App;
use crate::args::ServiceVerb;
use crate::error::Result;

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

//! Refreshing through a department service, where no manager is named.

use iam_sorry_aws::Cancel;
use iam_sorry_core::names::UserName;
use iam_sorry_core::ssh::login::Origin;

use super::job::Job;
use super::{Done, Manager, deliver, done};
use crate::app::App;
use crate::commands::service as through_service;
use crate::failure::Result;
use crate::service::{self, Client};

/// A department service with the person's session.
pub(super) struct Service(pub(super) Client);

impl Service {
    pub(super) fn open(app: &App, origin: &Origin) -> Result<Self> {
        let (client, name) = service::signed_in(app, origin)?;
        through_service::say_who(app, &client, name.as_deref());
        Ok(Self(client))
    }

    pub(super) fn with(self, cancel: &Cancel) -> Self {
        Self(self.0.with_cancel(cancel.clone()))
    }
}

/// Who makes credentials where the user's own key does not.
pub(super) struct Help<'a> {
    pub(super) manager: &'a Manager<'a>,
    pub(super) service: Option<Service>,
}

/// Who made them, for the profile.
#[derive(Clone, Copy)]
pub(super) enum Maker<'a> {
    OwnKey,
    Manager,
    Service(&'a Origin),
}

/// The department service makes them, as its rules allow.
pub(super) async fn with_service(app: &App, job: &Job, client: &Client) -> Result<Done> {
    let user = match job.known_user() {
        Some(user) => user,
        // Nobody wrote down whose its keys are; the service is asked for the user of that name.
        None => UserName::parse(&job.name)?,
    };
    let credentials = through_service::issue_for_user(app, client, &user, app.asked_duration()?).await?;
    let written = deliver(app, job, &credentials, user.as_str(), Maker::Service(client.origin()))?;
    Ok(done(credentials, written, user.as_str(), false))
}

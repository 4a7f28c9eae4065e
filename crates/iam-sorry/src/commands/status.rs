//! `status`: the credentials that the current shell holds, according to its variables alone.

use std::process::ExitCode;

use iam_sorry_core::timestamp::{Timestamp, human_duration};
use serde_json::json;

use crate::app::App;
use crate::error::{Error, ErrorKind, Result};
use crate::settings::text;

/// Where AWS tools in this shell get their credentials, in the order in which they look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CredentialSource {
    Variables,
    Profile,
    Endpoint,
    None,
}

struct Held {
    source: CredentialSource,
    profile: Option<String>,
    access_key_id: Option<String>,
    temporary: bool,
    expiration: Option<Timestamp>,
    endpoint: Option<String>,
    region: Option<String>,
}

/// Exit status 3 if there are no credentials or they have expired, for scripts.
pub fn run(app: &App, as_json: bool) -> Result<ExitCode> {
    let held = Held::read();
    let left = held.expiration.map(|at| at.seconds_after(app.now()));
    let usable = held.source != CredentialSource::None && left.is_none_or(|left| left > 0);
    if as_json {
        app.out.line(serde_json::to_string_pretty(&held.to_json(left)).unwrap_or_default())?;
        return Ok(ExitCode::from(if usable { 0 } else { ErrorKind::Profile.exit_code() }));
    }
    if held.source == CredentialSource::None {
        return Err(Error::profile("This shell holds no AWS credentials")
            .hint("Start one that does: iam-sorry shell PROFILE"));
    }
    held.print(app, left)?;
    match left.filter(|left| *left <= 0) {
        None => Ok(ExitCode::SUCCESS),
        Some(left) => {
            Err(Error::profile(format!("They expired {} ago", human_duration(-left))).hint(held.way_on()))
        }
    }
}

impl Held {
    fn read() -> Self {
        let shell_profile = text("IAM_SORRY_PROFILE");
        let access_key_id = text("AWS_ACCESS_KEY_ID").filter(|_| text("AWS_SECRET_ACCESS_KEY").is_some());
        let named = text("AWS_PROFILE").or_else(|| text("AWS_DEFAULT_PROFILE"));
        let endpoint = text("AWS_CONTAINER_CREDENTIALS_FULL_URI");
        // In AWS CLI and SDKs, a named profile beats variables only as an option, not as a variable.
        let source = match (&access_key_id, &named, &endpoint) {
            (Some(_), _, _) => CredentialSource::Variables,
            (None, Some(_), _) => CredentialSource::Profile,
            (None, None, Some(_)) => CredentialSource::Endpoint,
            (None, None, None) => CredentialSource::None,
        };
        let of_variables = source == CredentialSource::Variables;
        Self {
            source,
            profile: if source == CredentialSource::Profile { named } else { shell_profile },
            temporary: of_variables && text("AWS_SESSION_TOKEN").is_some(),
            expiration: text("AWS_CREDENTIAL_EXPIRATION")
                .filter(|_| of_variables)
                .and_then(|at| Timestamp::parse(&at).ok()),
            access_key_id,
            endpoint: endpoint.filter(|_| source == CredentialSource::Endpoint),
            region: text("AWS_REGION").or_else(|| text("AWS_DEFAULT_REGION")),
        }
    }

    fn source(&self) -> &'static str {
        match self.source {
            CredentialSource::Variables => "variables",
            CredentialSource::Profile => "profile",
            CredentialSource::Endpoint => "endpoint",
            CredentialSource::None => "none",
        }
    }

    fn to_json(&self, left: Option<i64>) -> serde_json::Value {
        json!({
            "source": self.source(),
            "profile": self.profile,
            "access_key_id": self.access_key_id,
            "temporary": self.temporary,
            "expiration": self.expiration.map(|at| at.to_string()),
            "seconds_left": left.map(|left| left.max(0)),
            "endpoint": self.endpoint,
            "region": self.region,
        })
    }

    fn print(&self, app: &App, left: Option<i64>) -> Result<()> {
        let row = |name: &str, value: String| app.out.line(format!("{name:<12} {value}"));
        if let Some(profile) = &self.profile {
            row("Profile", profile.clone())?;
        }
        if let Some(id) = &self.access_key_id {
            row("Access key", format!("{id} ({})", if self.temporary { "temporary" } else { "permanent" }))?;
        }
        if let Some(endpoint) = &self.endpoint {
            row("Served by", format!("{endpoint} (renewed as long as it runs)"))?;
        }
        match (self.expiration, left) {
            (Some(at), Some(left)) if left > 0 => {
                row("Expires", format!("{at} ({} left)", human_duration(left)))?;
            }
            (Some(at), _) => row("Expires", at.to_string())?,
            _ if self.temporary => row("Expires", "unknown: AWS_CREDENTIAL_EXPIRATION is not set".into())?,
            _ => {}
        }
        match &self.region {
            Some(region) => row("Region", region.clone()),
            None => Ok(()),
        }
    }

    fn way_on(&self) -> String {
        match &self.profile {
            Some(profile) => format!("Leave this shell and start a new one: exit; iam-sorry shell {profile}"),
            None => "Get new ones: eval $(iam-sorry --eval PROFILE)".into(),
        }
    }
}

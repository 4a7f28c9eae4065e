//! My credentials: issuing, once shown, and what was issued.

use axum::extract::Query;
use iam_sorry_core::api::{
    CredentialsRequest, Done, GrantInfo, GrantKind, GrantState, IssuedCredentials, KeyStatus, NewKey,
    PageQuery, ProblemCode,
};
use secrecy::ExposeSecret;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::context::{PageContext, SignedIn};
use super::forms::Sent;
use super::responses::{self, Answer};
use super::time_format::{self, now_ms};
use super::urls;
use super::views::{
    Choice, ChoiceGroup, ConfirmForm, CredentialsPage, Flash, GrantRow, IssuedPage, Moment, Section,
};
use crate::actions::session_request::SessionRequest;
use crate::error::ServiceError;
use crate::operations::action::{Mode, RunOutput};

/// As many users as a list of choices can hold; who has more asks for one by its page.
const CHOICES: u32 = 500;

/// The query of the page.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct CredentialsQuery {
    cursor: Option<String>,
    user: Option<String>,
}

/// `GET /credentials`.
pub(super) async fn show(signed: SignedIn, Query(query): Query<CredentialsQuery>) -> Answer {
    let (service, caller) = (signed.context.service(), &signed.caller);
    let me = service.me(caller).await?;
    let users = PageQuery { limit: Some(CHOICES), ..PageQuery::default() };
    let users = service.list_users(caller, None, users).await?.items;
    let grants = PageQuery { cursor: query.cursor, limit: Some(50), all: false };
    let grants = service.list_grants(caller, grants).await?;
    let wanted = query.user.unwrap_or_default();
    let mut names: Vec<String> = users.iter().map(|user| signed.label(&user.account, &user.name)).collect();
    if !wanted.is_empty() && !names.contains(&wanted) {
        names.insert(0, wanted.clone());
    }
    let group = |label, kind: &str, values: &[String]| {
        let option = |value: &String| Choice {
            value: format!("{kind}:{value}"),
            label: value.clone(),
            selected: *value == wanted,
        };
        ChoiceGroup { label, options: values.iter().map(option).collect() }
    };
    let targets = [group("IAM users", "user", &names), group("Roles", "role", &me.roles)];
    responses::page(&CredentialsPage {
        frame: signed.context.frame("Credentials", Section::Credentials)?,
        targets: targets.into_iter().filter(|group| !group.options.is_empty()).collect(),
        has_namespace: !me.namespaces.is_empty(),
        durations: durations(""),
        grants: grants.items.into_iter().map(|grant| GrantRow::new(&signed, grant)).collect(),
        everybody: false,
        next: grants.next,
    })
}

/// `POST /credentials`: shows the secrets in its answer, once. The same form again issues nothing.
pub(super) async fn issue(signed: SignedIn, sent: Sent) -> Answer {
    let key = sent.key("/credentials")?;
    let mut request =
        CredentialsRequest { user: None, role: None, duration_seconds: None, dry_run: sent.dry_run() };
    match sent.text("target").split_once(':') {
        Some(("user", name)) => request.user = Some(name.to_owned()),
        Some(("role", arn)) => request.role = Some(arn.to_owned()),
        _ => return Err(ServiceError::new(ProblemCode::BadRequest, "Choose a user or a role.")),
    }
    request.duration_seconds = seconds(sent.text("duration"))?;
    let resource = request.user.clone().or_else(|| request.role.clone()).unwrap_or_default();
    let (service, mode) = (signed.context.service(), Mode::of(request.dry_run));
    match SessionRequest::new(service, request)?.run(service, &signed.caller, Some(&key), mode).await? {
        RunOutput::Acted(issued) => responses::page(&issued_page(&signed.context, resource, issued)?),
        RunOutput::Unchanged(done) => Ok(checked(&signed.context, urls::HOME, done)),
    }
}

/// The page of a new permanent key, which is shown in the same way.
pub(super) fn key_page(context: &PageContext, name: &str, key: NewKey) -> Answer {
    let NewKey { done, access_key_id, secret_access_key, old_key } = key;
    let secret = secret_access_key.expose_secret();
    responses::page(&IssuedPage {
        frame: context.frame(format!("New access key of {name}"), Section::Users)?,
        resource: name.to_owned(),
        environment: environment(&access_key_id, secret, None),
        section: section(name, &access_key_id, secret, None),
        secret_access_key: Zeroizing::new(secret.to_owned()),
        session_token: None,
        notes: done.notes,
        reasons: done.reasons,
        arn: done.resource,
        expires: None,
        left: String::new(),
        operation: done.operation,
        confirm: old_key.filter(|old| old.status == KeyStatus::Inactive).map(|old| ConfirmForm {
            action: format!("{}/keys/{}/confirm", urls::user(name), urls::encode(&access_key_id)),
            until: old.deleted_after.as_deref().map(Moment::parse),
            old_key: old.access_key_id,
        }),
        access_key_id,
        back: urls::user(name),
    })
}

/// After a dry run of something secret.
pub(super) fn checked(context: &PageContext, place: &str, done: Done) -> axum::response::Response {
    responses::go_saying(context, place, &Flash::of(done, true, String::new()))
}

fn issued_page(
    context: &PageContext,
    resource: String,
    issued: IssuedCredentials,
) -> Result<IssuedPage, ServiceError> {
    let (id, secret) = (&issued.access_key_id, issued.secret_access_key.expose_secret());
    let token = issued.session_token.expose_secret();
    let profile = profile_name(&resource);
    Ok(IssuedPage {
        frame: context.frame(format!("Credentials of {resource}"), Section::Credentials)?,
        environment: environment(id, secret, Some(token)),
        section: section(&profile, id, secret, Some(token)),
        secret_access_key: Zeroizing::new(secret.to_owned()),
        session_token: Some(Zeroizing::new(token.to_owned())),
        notes: issued.done.notes.clone(),
        reasons: issued.done.reasons.clone(),
        arn: issued.arn.clone(),
        expires: Some(Moment::parse(&issued.expiration)),
        left: time_format::left(Some(&issued.expiration), now_ms()),
        operation: issued.done.operation.clone(),
        access_key_id: id.clone(),
        confirm: None,
        back: urls::HOME.to_owned(),
        resource,
    })
}

/// `export` lines. IAM keys and tokens have no quote in them; one that had would not be printed as a statement.
fn environment(id: &str, secret: &str, token: Option<&str>) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(2048));
    let values = [
        ("AWS_ACCESS_KEY_ID", Some(id)),
        ("AWS_SECRET_ACCESS_KEY", Some(secret)),
        ("AWS_SESSION_TOKEN", token),
    ];
    for (name, value) in values {
        match value {
            Some(value) if !value.contains(['\'', '\n', '\r']) => {
                for part in ["export ", name, "='", value, "'\n"] {
                    text.push_str(part);
                }
            }
            _ => {
                for part in ["unset ", name, "\n"] {
                    text.push_str(part);
                }
            }
        }
    }
    text.pop();
    text
}

fn section(profile: &str, id: &str, secret: &str, token: Option<&str>) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(2048));
    for part in ["[", profile, "]\naws_access_key_id = ", id, "\naws_secret_access_key = ", secret] {
        text.push_str(part);
    }
    if let Some(token) = token {
        for part in ["\naws_session_token = ", token] {
            text.push_str(part);
        }
    }
    text
}

/// A user's name, or the last part of a role's ARN.
fn profile_name(resource: &str) -> String {
    resource.rsplit('/').next().unwrap_or(resource).to_owned()
}

impl GrantRow {
    fn new(signed: &SignedIn, grant: GrantInfo) -> Self {
        Self {
            // A role's ARN says its account.
            resource: match grant.resource.starts_with("arn:") {
                true => grant.resource,
                false => signed.label(&grant.account, &grant.resource),
            },
            person: grant.person,
            kind: match grant.kind {
                GrantKind::Session => "User session",
                GrantKind::Role => "Role session",
                GrantKind::AccessKey => "Access key",
            },
            access_key_id: grant.access_key_id,
            issued: Moment::parse(&grant.issued_at),
            tone: match grant.state {
                GrantState::Active => "good",
                GrantState::Expired | GrantState::Deleted => "",
            },
            left: match grant.state {
                GrantState::Active => time_format::left(grant.expires_at.as_deref(), now_ms()),
                GrantState::Expired | GrantState::Deleted => String::new(),
            },
            state: grant.state.to_string(),
        }
    }
}

/// The durations to choose from: what STS gives (900 s to 36 h), cut by the rules.
pub(super) fn durations(chosen: &str) -> Vec<Choice> {
    let choices = [
        ("", "as long as the rules allow"),
        ("900", "15 minutes"),
        ("3600", "1 hour"),
        ("14400", "4 hours"),
        ("28800", "8 hours"),
        ("43200", "12 hours"),
        ("86400", "24 hours"),
        ("129600", "36 hours"),
    ];
    let choice = |(value, label): (&str, &str)| Choice {
        value: value.to_owned(),
        label: label.to_owned(),
        selected: value == chosen,
    };
    choices.into_iter().map(choice).collect()
}

/// A duration field: seconds or nothing.
pub(super) fn seconds(text: &str) -> Result<Option<u32>, ServiceError> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| ServiceError::new(ProblemCode::BadRequest, "The duration is not a number of seconds.");
    text.parse().map(Some).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_is_what_a_shell_and_aws_read() {
        let text = environment("ASIAX", "a/b+c=", Some("tok=="));
        assert_eq!(
            *text,
            "export AWS_ACCESS_KEY_ID='ASIAX'\nexport AWS_SECRET_ACCESS_KEY='a/b+c='\nexport AWS_SESSION_TOKEN='tok=='"
        );
        // A permanent key must not be used together with the token of an older session.
        assert!(environment("AKIAX", "s", None).ends_with("\nunset AWS_SESSION_TOKEN"));
        assert!(!environment("ASIAX", "a'; rm -rf ~; '", None).contains("rm -rf"));
        assert_eq!(
            *section(&profile_name("arn:aws:iam::1:role/lab/analysis"), "ASIAX", "s", Some("t")),
            "[analysis]\naws_access_key_id = ASIAX\naws_secret_access_key = s\naws_session_token = t"
        );
    }

    #[test]
    fn a_duration_is_seconds_or_nothing() {
        assert_eq!(seconds("").unwrap(), None);
        assert_eq!(seconds("900").unwrap(), Some(900));
        for bad in ["-1", "1e9", "99999999999", " 900"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}

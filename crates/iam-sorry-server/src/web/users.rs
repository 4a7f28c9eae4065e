//! My namespaces: the IAM users in them, their policies and keys.

use axum::extract::{Path, Query};
use iam_sorry_core::api::{
    Change, Done, KeyInfo, KeyStatus, NewKey, PageQuery, ProblemCode, UserInfo, UserPart,
};
use serde::Deserialize;

use super::context::SignedIn;
use super::credentials::{checked, key_page};
use super::forms::Sent;
use super::responses::{self, Answer};
use super::urls;
use super::views::{ConfirmPage, Flash, KeyRow, Moment, NamespacePage, Policy, Section, UserPage, UserRow};
use crate::actions::attach_policy::AttachPolicy;
use crate::actions::confirm_key::ConfirmKey;
use crate::actions::create_access_key::CreateAccessKey;
use crate::actions::create_user::CreateUser;
use crate::actions::delete_access_key::DeleteAccessKey;
use crate::actions::delete_user::DeleteUser;
use crate::actions::detach_policy::DetachPolicy;
use crate::actions::restore_key::RestoreKey;
use crate::actions::rotate_key::RotateKey;
use crate::error::ServiceError;
use crate::operations::action::{Action, Mode, RunOutput};
use crate::operations::idempotency::IdempotencyKey;

/// The query of the list.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ListQuery {
    cursor: Option<String>,
}

/// The query of a key's deletion page.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct DeleteKeyQuery {
    force: bool,
}

/// `GET /namespace`.
pub(super) async fn list(signed: SignedIn, Query(query): Query<ListQuery>) -> Answer {
    let (service, caller) = (signed.context.service(), &signed.caller);
    let me = service.me(caller).await?;
    let page = PageQuery { cursor: query.cursor, limit: Some(100), all: false };
    let users = service.list_users(caller, None, page).await?;
    let policies = match me.namespaces.is_empty() {
        true => Vec::new(),
        false => service.list_policies(caller).await?,
    };
    responses::page(&NamespacePage {
        frame: signed.context.frame("Users", Section::Users)?,
        namespaces: me.namespaces,
        users: users.items.into_iter().map(|user| UserRow::new(&signed, user)).collect(),
        next: users.next,
        policies: policies.into_iter().map(Policy::new).collect(),
    })
}

/// `POST /namespace/users`.
pub(super) async fn create(signed: SignedIn, sent: Sent) -> Answer {
    let key = sent.key("/namespace/users")?;
    let dry_run = sent.dry_run();
    let (service, name) = (signed.context.service(), sent.text("name").trim().to_owned());
    let action = CreateUser::new(service.user_ref(&name)?, sent.all("policy"));
    let done = done(&signed, Some(&key), action, Mode::of(dry_run)).await?;
    let place = if dry_run { "/namespace".to_owned() } else { urls::user(&name) };
    let note = Flash::of(done, dry_run, format!("The IAM user {name} was created."));
    Ok(responses::go_saying(&signed.context, &place, &note))
}

/// `GET /namespace/users/{name}`.
pub(super) async fn show(signed: SignedIn, Path(name): Path<String>) -> Answer {
    let (service, caller) = (signed.context.service(), &signed.caller);
    let details = service.show_user(caller, &service.user_ref(&name)?).await?;
    let attachable = service.list_policies(caller).await?;
    let attachable = attachable.into_iter().filter(|arn| !details.policies.contains(arn));
    let user = details.user;
    let name = signed.label(&user.account, &user.name);
    responses::page(&UserPage {
        frame: signed.context.frame(name.clone(), Section::Users)?,
        href: urls::user(&name),
        arn: user.arn,
        namespace: user.namespace,
        owner: user.owner,
        adopted: user.adopted,
        created: Moment::parse(&user.created_at),
        boundary: details.permissions_boundary,
        attachable: attachable.map(Policy::new).collect(),
        policies: details.policies.into_iter().map(Policy::new).collect(),
        keys: details.keys.into_iter().map(KeyRow::from).collect(),
        name,
    })
}

/// `POST /namespace/users/{name}/attach`.
pub(super) async fn attach(signed: SignedIn, Path(name): Path<String>, sent: Sent) -> Answer {
    let place = urls::user(&name);
    let key = sent.key(&format!("{place}/attach"))?;
    let (policy, dry_run) = (chosen_policy(&sent)?, sent.dry_run());
    let action = AttachPolicy::new(signed.user(&name)?, policy.arn.clone());
    let done = done(&signed, Some(&key), action, Mode::of(dry_run)).await?;
    let note = Flash::of(done, dry_run, format!("{} was attached to {name}.", policy.name));
    Ok(responses::go_saying(&signed.context, &place, &note))
}

/// `POST /namespace/users/{name}/detach`.
pub(super) async fn detach(signed: SignedIn, Path(name): Path<String>, sent: Sent) -> Answer {
    let place = urls::user(&name);
    let key = sent.key(&format!("{place}/detach"))?;
    let (policy, dry_run) = (chosen_policy(&sent)?, sent.dry_run());
    let action = DetachPolicy::new(signed.user(&name)?, policy.arn.clone());
    let done = done(&signed, Some(&key), action, Mode::of(dry_run)).await?;
    let note = Flash::of(done, dry_run, format!("{} was detached from {name}.", policy.name));
    Ok(responses::go_saying(&signed.context, &place, &note))
}

/// `POST /namespace/users/{name}/keys`: the secret is in the answer, once.
pub(super) async fn create_key(signed: SignedIn, Path(name): Path<String>, sent: Sent) -> Answer {
    let place = urls::user(&name);
    let key = sent.key(&format!("{place}/keys"))?;
    let action = CreateAccessKey::new(signed.user(&name)?);
    new_key(&signed, &key, &name, action, sent.dry_run()).await
}

/// `POST /namespace/users/{name}/keys/{id}/rotate`: the same.
pub(super) async fn rotate_key(
    signed: SignedIn,
    Path((name, id)): Path<(String, String)>,
    sent: Sent,
) -> Answer {
    let place = urls::user(&name);
    let key = sent.key(&format!("{place}/keys/{id}/rotate"))?;
    new_key(&signed, &key, &name, RotateKey::new(signed.user(&name)?, &id)?, sent.dry_run()).await
}

/// `POST /namespace/users/{name}/keys/{id}/confirm`: the new key has arrived, so the old one goes.
pub(super) async fn confirm_key(
    signed: SignedIn,
    Path((name, id)): Path<(String, String)>,
    sent: Sent,
) -> Answer {
    let place = urls::user(&name);
    let key = sent.key(&format!("{place}/keys/{id}/confirm"))?;
    let done = done(&signed, Some(&key), ConfirmKey::new(signed.user(&name)?, &id)?, Mode::Act).await?;
    let note = Flash::of(done, false, format!("The new key {id} is confirmed."));
    Ok(responses::go_saying(&signed.context, &place, &note))
}

/// `POST /namespace/users/{name}/keys/{id}/restore`: the old key of a rotation is active again.
pub(super) async fn restore_key(
    signed: SignedIn,
    Path((name, id)): Path<(String, String)>,
    sent: Sent,
) -> Answer {
    let place = urls::user(&name);
    let key = sent.key(&format!("{place}/keys/{id}/restore"))?;
    let done = done(&signed, Some(&key), RestoreKey::new(signed.user(&name)?, &id)?, Mode::Act).await?;
    let note = Flash::of(done, false, format!("The rotation of {id} was taken back."));
    Ok(responses::go_saying(&signed.context, &place, &note))
}

/// `GET /namespace/users/{name}/keys/{id}/delete`: shows what goes, by a dry run. A key that is in use wants a second
/// yes.
pub(super) async fn confirm_delete_key(
    signed: SignedIn,
    Path((name, id)): Path<(String, String)>,
    Query(query): Query<DeleteKeyQuery>,
) -> Answer {
    let action = DeleteAccessKey::new(signed.user(&name)?, &id, query.force)?;
    let in_use = match done(&signed, None, action, Mode::DryRun).await {
        Err(error) if error.code == ProblemCode::Conflict && !query.force => {
            let forced = DeleteAccessKey::new(signed.user(&name)?, &id, true)?;
            done(&signed, None, forced, Mode::DryRun).await?;
            Some(error)
        }
        Err(error) => return Err(error),
        Ok(_) => None,
    };
    let place = urls::user(&name);
    let goes = vec![format!("access key {id} of {name}")];
    let (explanation, suffix, button) = match in_use {
        None => ("Whatever uses this key stops working.".to_owned(), "", format!("Delete {id}")),
        Some(error) => {
            (error.detail.replace('\n', " "), "?force=true", format!("Delete {id} although it is in use"))
        }
    };
    responses::page(&ConfirmPage {
        frame: signed.context.frame(format!("Delete {id}?"), Section::Users)?,
        question: format!("Delete the access key {id}?"),
        explanation,
        goes,
        action: format!("{place}/keys/{}/delete{suffix}", urls::encode(&id)),
        button,
        back: place,
    })
}

/// `POST /namespace/users/{name}/keys/{id}/delete`.
pub(super) async fn delete_key(
    signed: SignedIn,
    Path((name, id)): Path<(String, String)>,
    Query(query): Query<DeleteKeyQuery>,
    sent: Sent,
) -> Answer {
    let place = urls::user(&name);
    let key = sent.key(&format!("{place}/keys/{id}/delete/{}", query.force))?;
    let action = DeleteAccessKey::new(signed.user(&name)?, &id, query.force)?;
    let done = done(&signed, Some(&key), action, Mode::Act).await?;
    let note = Flash::of(done, false, format!("The access key {id} was deleted."));
    Ok(responses::go_saying(&signed.context, &place, &note))
}

/// `GET /namespace/users/{name}/delete`: shows everything that goes with the user.
pub(super) async fn confirm_delete(signed: SignedIn, Path(name): Path<String>) -> Answer {
    let (service, caller) = (signed.context.service(), &signed.caller);
    let dry_run = done(&signed, None, DeleteUser::new(signed.user(&name)?), Mode::DryRun).await?;
    let details = service.show_user(caller, &service.user_ref(&name)?).await?;
    let name = signed.label(&details.user.account, &details.user.name);
    let mut goes = vec![format!("the IAM user {name}")];
    goes.extend(dry_run.changes.iter().filter_map(|change| match change {
        Change::TakenAway { part } => Some(part_that_goes(part, &details.keys)),
        _ => None,
    }));
    let place = urls::user(&name);
    responses::page(&ConfirmPage {
        frame: signed.context.frame(format!("Delete {name}?"), Section::Users)?,
        question: format!("Delete {name}?"),
        explanation: "The IAM user goes for good, with everything that hangs on it. Credentials that were issued for it \
                      stop working."
            .to_owned(),
        goes,
        action: format!("{place}/delete"),
        button: format!("Delete {name} and all of this"),
        back: place,
    })
}

/// `POST /namespace/users/{name}/delete`.
pub(super) async fn delete(signed: SignedIn, Path(name): Path<String>, sent: Sent) -> Answer {
    let key = sent.key(&format!("{}/delete", urls::user(&name)))?;
    let done = done(&signed, Some(&key), DeleteUser::new(signed.user(&name)?), Mode::Act).await?;
    let note = Flash::of(done, false, format!("The IAM user {name} was deleted."));
    Ok(responses::go_saying(&signed.context, "/namespace", &note))
}

/// Runs an action that shows nothing secret.
async fn done<A: Action<Output = Done>>(
    signed: &SignedIn,
    key: Option<&IdempotencyKey>,
    action: A,
    mode: Mode,
) -> Result<Done, ServiceError> {
    Ok(signed.context.service().run(&signed.caller, key, action, mode).await?.into_done())
}

/// Runs an action that makes a permanent key, which its page shows once.
async fn new_key<A: Action<Output = NewKey>>(
    signed: &SignedIn,
    key: &IdempotencyKey,
    name: &str,
    action: A,
    dry_run: bool,
) -> Answer {
    match signed.context.service().run(&signed.caller, Some(key), action, Mode::of(dry_run)).await? {
        RunOutput::Acted(made) => key_page(&signed.context, name, made),
        RunOutput::Unchanged(done) => Ok(checked(&signed.context, &urls::user(name), done)),
    }
}

/// Something that goes with a user, with what is known of it.
fn part_that_goes(part: &UserPart, keys: &[KeyInfo]) -> String {
    let key = match part {
        UserPart::LoginProfile => return format!("{part}, if there is one"),
        UserPart::AccessKey { access_key_id } => keys.iter().find(|key| key.access_key_id == *access_key_id),
        _ => None,
    };
    let Some(key) = key else { return part.to_string() };
    let used = match &key.last_used_at {
        Some(at) => format!("last used {}", Moment::parse(at).text),
        None => "no use known".to_owned(),
    };
    format!("{part} ({}, {used})", key.status)
}

fn chosen_policy(sent: &Sent) -> Result<Policy, ServiceError> {
    match sent.text("policy_arn") {
        "" => Err(ServiceError::new(ProblemCode::BadRequest, "Choose a policy.")),
        arn => Ok(Policy::new(arn.to_owned())),
    }
}

impl UserRow {
    fn new(signed: &SignedIn, user: UserInfo) -> Self {
        let name = signed.label(&user.account, &user.name);
        Self {
            href: urls::user(&name),
            name,
            namespace: user.namespace,
            owner: user.owner,
            adopted: user.adopted,
            created: Moment::parse(&user.created_at),
        }
    }
}

impl From<KeyInfo> for KeyRow {
    fn from(key: KeyInfo) -> Self {
        Self {
            tone: match key.status {
                KeyStatus::Active => "good",
                KeyStatus::Inactive => "",
            },
            id: key.access_key_id,
            status: key.status.to_string(),
            created: key.created_at.as_deref().map(Moment::parse),
            last_used: key.last_used_at.as_deref().map(Moment::parse),
            replaced: key.replaced_by.is_some(),
            deleted_after: key.deleted_after.as_deref().map(Moment::parse),
            replaces: key.replaces,
        }
    }
}

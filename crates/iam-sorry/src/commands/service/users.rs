//! `users` and `policies`: IAM users of the person's namespaces.

use std::io::Read as _;

use http::Method;
use iam_sorry_core::api::{CreateUser, Done, Options, PolicyChange, ProblemCode, UserDetails, UserInfo};
use iam_sorry_core::ids::{AccountName, UserSelector};

use super::bulk::{self, ActionWords, ItemOutcome};
use super::request::{MAX_LISTED, list_path, user_path, users_path, with_client};
use super::show;
use crate::app::App;
use crate::args::{Many, Policies, Users};
use crate::error::{Error, Result};
use crate::service::user_list::{self, ListedUser};
use crate::service::{Client, ServiceError, new_key, query};
use crate::settings::read_regular;
use crate::terminal;

const CREATE: ActionWords =
    ActionWords { verb: "create", past: "created", already: "there already", dry_run: false };
const DELETE: ActionWords =
    ActionWords { verb: "delete", past: "deleted", already: "not the service's (any more)", dry_run: false };

pub fn run(app: &App, action: Users) -> Result<()> {
    match action {
        Users::List { listing } => {
            let path = list_path("/users", listing.all);
            let users: Vec<UserInfo> = with_client(app, async |client| client.list(&path, MAX_LISTED).await)?;
            if listing.json {
                return show::json(app, &users);
            }
            let several = users.iter().any(|user| user.account != users[0].account);
            let row = |user: UserInfo| {
                let adopted = if user.adopted { "adopted" } else { "" };
                let name = if several { format!("{}/{}", user.account, user.name) } else { user.name };
                vec![name, user.namespace, user.owner, user.created_at, adopted.to_owned()]
            };
            show::table(
                app,
                &["NAME", "NAMESPACE", "OWNER", "SINCE", ""],
                users.into_iter().map(row).collect(),
            )
        }
        Users::Create { many, policies } => create(app, &many, &policies),
        Users::Delete { many } => delete(app, &many),
        Users::Show { name, json } => {
            let user: UserDetails = with_client(app, async |client| client.get(&user_path(&name)).await)?;
            if json { show::json(app, &user) } else { details(app, &user) }
        }
        Users::Adopt { name, dry_run } => {
            let path = format!("{}/adopt{}", user_path(&name), dry(dry_run));
            let done: Done = with_client(app, async |client| {
                client.change(Method::POST, &path, None::<&Options>, &new_key()).await
            })?;
            show::done(app, &format!("IAM user '{name}' is in the service's care"), &done, dry_run)
        }
    }
}

pub fn policies(app: &App, action: Policies) -> Result<()> {
    match action {
        Policies::List { name: None } => {
            let policies: Vec<String> =
                with_client(app, async |client| client.list("/policies", MAX_LISTED).await)?;
            policies.iter().try_for_each(|arn| app.out.line(crate::output::printable(arn)))
        }
        Policies::List { name: Some(name) } => {
            let user: UserDetails = with_client(app, async |client| client.get(&user_path(&name)).await)?;
            user.policies.iter().try_for_each(|arn| app.out.line(crate::output::printable(arn)))
        }
        Policies::Attach { name, policy_arn, dry_run } => {
            let path = format!("{}/policies", user_path(&name));
            let change = PolicyChange { policy_arn, dry_run };
            let done: Done = with_client(app, async |client| {
                client.change(Method::POST, &path, Some(&change), &new_key()).await
            })?;
            show::done(app, &format!("Policy {} is attached to '{name}'", change.policy_arn), &done, dry_run)
        }
        Policies::Detach { name, policy_arn, dry_run } => {
            let dry = dry_run.then_some("true");
            let fields = query(&[("policy_arn", Some(policy_arn.as_str())), ("dry_run", dry)]);
            let path = format!("{}/policies{fields}", user_path(&name));
            let done: Done = with_client(app, async |client| {
                client.change(Method::DELETE, &path, None::<&Options>, &new_key()).await
            })?;
            show::done(app, &format!("Policy {policy_arn} is detached from '{name}'"), &done, dry_run)
        }
    }
}

fn create(app: &App, many: &Many, policies: &[String]) -> Result<()> {
    let (users, fingerprint) = people_of(many)?;
    let new_user = |user: &ListedUser| {
        let (path, name) = users_path(&user.name);
        let policies = [&user.policies[..], policies].concat();
        let request = CreateUser { name: name.to_owned(), policies, dry_run: many.dry_run };
        NewUser { user: user.name.clone(), path, request }
    };
    if let ([user], None) = (&users[..], &many.file) {
        let NewUser { path, request, .. } = new_user(user);
        let done: Done = with_client(app, async |client| {
            client.change(Method::POST, &path, Some(&request), &new_key()).await
        })?;
        return show::done(app, &format!("IAM user '{}' is created", user.name), &done, many.dry_run);
    }
    let items: Vec<_> = users
        .iter()
        .map(|user| (many.file.as_ref().map(|_| user.line), user.name.clone(), new_user(user)))
        .collect();
    let fingerprint = format!("{fingerprint}\0{}\0{}", policies.join(","), many.dry_run);
    let words = ActionWords { dry_run: many.dry_run, ..CREATE };
    bulk::run(app, &words, &fingerprint, &items, create_one)
}

/// A user to create.
struct NewUser {
    /// As it was given: `NAME` or `ACCOUNT/NAME`.
    user: String,
    /// The users among which it is created.
    path: String,
    request: CreateUser,
}

/// Creates one user of many. A user that exists counts as done if it is the service's; missing policies are attached.
async fn create_one(
    client: &Client,
    new: &NewUser,
    key: &str,
) -> std::result::Result<ItemOutcome, ServiceError> {
    let NewUser { user, path, request } = new;
    let created = client.change::<Done>(Method::POST, path, Some(request), key).await;
    let refusal = match created {
        Ok(done) if done.changed || request.dry_run => return Ok(ItemOutcome::Done),
        Ok(_) => None,
        Err(e) if e.code() == Some(ProblemCode::Conflict) => Some(e),
        Err(e) => return Err(e),
    };
    let there = match client.get::<UserDetails>(&user_path(user)).await {
        Ok(there) => there,
        Err(e) if is_not_ours(&e) => match refusal {
            // It exists in AWS but is not the service's; the service's own message says what to do.
            Some(refusal) => return Err(refusal),
            // An earlier run created it, and it was deleted since.
            None => {
                return client
                    .change::<Done>(Method::POST, path, Some(request), &new_key())
                    .await
                    .map(|_| ItemOutcome::Done);
            }
        },
        Err(e) => return Err(e),
    };
    for policy_arn in request.policies.iter().filter(|arn| !there.policies.contains(arn)) {
        let change = PolicyChange { policy_arn: policy_arn.clone(), dry_run: request.dry_run };
        let path = format!("{}/policies", user_path(user));
        client.change::<Done>(Method::POST, &path, Some(&change), &new_key()).await?;
    }
    Ok(ItemOutcome::Already)
}

fn delete(app: &App, many: &Many) -> Result<()> {
    let (users, fingerprint) = people_of(many)?;
    if !many.dry_run {
        let whom = match &users[..] {
            [one] => format!("IAM user '{}'", one.name),
            several => format!(
                "{} IAM users, '{}' to '{}',",
                several.len(),
                several[0].name,
                several[several.len() - 1].name
            ),
        };
        let question = format!("Delete {whom} with all keys and everything else that hangs on them?");
        if !terminal::confirm(app, &question)? {
            return app.out.line("Aborted.");
        }
    }
    let path = |name: &str| format!("{}{}", user_path(name), dry(many.dry_run));
    if let ([user], None) = (&users[..], &many.file) {
        let path = path(&user.name);
        let done: Done = with_client(app, async |client| {
            client.change(Method::DELETE, &path, None::<&Options>, &new_key()).await
        })?;
        return show::done(app, &format!("IAM user '{}' is deleted", user.name), &done, many.dry_run);
    }
    let items: Vec<_> = users
        .iter()
        .map(|user| (many.file.as_ref().map(|_| user.line), user.name.clone(), path(&user.name)))
        .collect();
    let fingerprint = format!("{fingerprint}\0{}", many.dry_run);
    let words = ActionWords { dry_run: many.dry_run, ..DELETE };
    bulk::run(app, &words, &fingerprint, &items, async |client: &Client, path: &String, key: &str| {
        match client.change::<Done>(Method::DELETE, path, None::<&Options>, key).await {
            Ok(done) if done.changed || many.dry_run => Ok(ItemOutcome::Done),
            Ok(_) => Ok(ItemOutcome::Already),
            // A guardrail refuses users that are not the service's, including deleted ones.
            Err(e) if is_not_ours(&e) => {
                let user = path.split('?').next().unwrap_or(path);
                match client.get::<UserDetails>(user).await {
                    Err(shown) if is_not_ours(&shown) => Ok(ItemOutcome::Already),
                    _ => Err(e),
                }
            }
            Err(e) => Err(e),
        }
    })
}

fn is_not_ours(error: &ServiceError) -> bool {
    matches!(error.code(), Some(ProblemCode::NotFound | ProblemCode::Guardrail))
}

/// The users to act on, each with a valid name; and the text that identifies a repeated run.
fn people_of(many: &Many) -> Result<(Vec<ListedUser>, String)> {
    let Some(file) = &many.file else {
        for name in &many.names {
            UserSelector::parse(name)?;
        }
        // With a heading, so that no name is taken for one.
        let text = format!("name\n{}", many.names.join("\n"));
        let users = user_list::parse(&text).map_err(|e| Error::usage(e.to_string()))?;
        return Ok((users, text));
    };
    let bytes = if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .lock()
            .take(16 << 20)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::other(format!("Standard input can't be read: {e}")))?;
        bytes
    } else {
        read_regular(file).map_err(|e| Error::usage(format!("{} can't be read: {e}", file.display())))?
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::usage(format!("{} is not text in UTF-8", file.display())))?;
    let users = user_list::parse(&text).map_err(|e| {
        Error::usage(format!("{} can't be used; nothing was begun", file.display())).hint(e.to_string())
    })?;
    Ok((users, text))
}

fn details(app: &App, details: &UserDetails) -> Result<()> {
    let user = &details.user;
    // A department with one account has given it no name.
    let account =
        if user.account == AccountName::default() { String::new() } else { user.account.to_string() };
    show::facts(
        app,
        &[
            ("Name", user.name.clone()),
            ("Account", account),
            ("ARN", user.arn.clone()),
            ("Namespace", user.namespace.clone()),
            ("Owner", user.owner.clone()),
            (if user.adopted { "Adopted" } else { "Created" }, user.created_at.clone()),
            ("Boundary", details.permissions_boundary.clone().unwrap_or_default()),
            ("Policies", details.policies.join(", ")),
        ],
    )?;
    show::keys(app, &details.keys)
}

fn dry(dry_run: bool) -> String {
    query(&[("dry_run", dry_run.then_some("true"))])
}

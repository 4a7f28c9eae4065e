//! `keys`: permanent access keys, whose secrets are shown once: on stdout as JSON, or into a profile and nowhere else.

use http::Method;
use iam_sorry_core::api::{DeleteKey, Done, KeyInfo, NewKey, Options, ProblemCode};
use iam_sorry_core::names::UserName;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::session::MOST;
use super::users::address;
use super::{ask, show};
use crate::app::App;
use crate::args::{Destination, Keys};
use crate::commands::encrypt::{seal_under, store, unchanged};
use crate::failure::{Failure, Result};
use crate::profile::{EXPIRATION, ID, KEPT_ID, KEPT_SECRET, OWNER, Profile, SECRET, TOKEN};
use crate::service::{ServiceError, encoded, new_key, query};
use crate::terminal;

pub fn run(app: &App, action: Keys) -> Result<()> {
    match action {
        Keys::List { name, json } => {
            let keys = list(app, &name)?;
            if json { show::json(app, &keys) } else { table(app, &keys) }
        }
        Keys::Create { name, to } => {
            let place = Place::prepare(app, &to, None)?;
            let path = format!("{}/keys", address(&name));
            let key = made(app, &name, &path)?;
            deliver(app, &name, key, place.as_ref(), None)
        }
        Keys::Rotate { name, access_key_id, to } => {
            let old = match access_key_id {
                Some(id) => id,
                None => the_only_key(app, &name)?,
            };
            let place = Place::prepare(app, &to, Some(&old))?;
            let path = format!("{}/keys/{}/rotate", address(&name), encoded(&old));
            let key = made(app, &name, &path)?;
            deliver(app, &name, key, place.as_ref(), Some(&old))
        }
        Keys::Delete { name, access_key_id, force, dry_run } => {
            delete(app, &name, &access_key_id, force, dry_run)
        }
    }
}

fn list(app: &App, name: &str) -> Result<Vec<KeyInfo>> {
    ask(app, async |client| client.list(&format!("{}/keys", address(name)), MOST).await)
}

pub fn table(app: &App, keys: &[KeyInfo]) -> Result<()> {
    let row = |key: &KeyInfo| {
        let (made, used) = (key.created_at.clone(), key.last_used_at.clone());
        vec![
            key.access_key_id.clone(),
            key.status.clone(),
            made.unwrap_or_default(),
            used.unwrap_or("not known".into()),
        ]
    };
    show::table(app, &["KEY", "STATUS", "CREATED", "LAST USED"], keys.iter().map(row).collect())
}

fn the_only_key(app: &App, name: &str) -> Result<String> {
    match &list(app, name)?[..] {
        [one] => Ok(one.access_key_id.clone()),
        [] => Err(Failure::profile(format!("IAM user '{name}' has no access key to rotate"))
            .hint(format!("Make one: iam-sorry keys create {name}"))),
        several => {
            let ids: Vec<&str> = several.iter().map(|key| key.access_key_id.as_str()).collect();
            Err(Failure::usage(format!(
                "IAM user '{name}' has {} access keys: {}",
                several.len(),
                ids.join(", ")
            ))
            .hint(format!("Name the one to replace: iam-sorry keys rotate {name} {}", ids[0])))
        }
    }
}

fn made(app: &App, name: &str, path: &str) -> Result<NewKey> {
    ask(app, async |client| client.change(Method::POST, path, None::<&Options>, &new_key()).await)
        .map_err(|failure| lost(failure, name))
}

/// A key whose answer was lost exists, and its secret is nowhere.
fn lost(failure: Failure, name: &str) -> Failure {
    failure.hint(format!("See whether a key was made: iam-sorry keys list {name}"))
}

fn deliver(app: &App, name: &str, key: NewKey, place: Option<&Place>, old: Option<&str>) -> Result<()> {
    let notes = |out: &crate::output::Output| {
        key.done.notes.iter().for_each(|note| out.progress(format!("  {}", crate::output::printable(note))));
    };
    let Some(place) = place else {
        let secret = key.secret_access_key.expose_secret();
        let mut text = Zeroizing::new(String::with_capacity(512 + secret.len() * 2));
        let public = |value: &str| serde_json::to_string(value).unwrap_or_default();
        text.push_str(&format!(
            "{{\n  \"UserName\": {},\n  \"AccessKeyId\": {},\n  \"SecretAccessKey\": ",
            public(name),
            public(&key.access_key_id)
        ));
        text.push_str(&Zeroizing::new(public(secret)));
        text.push_str("\n}\n");
        app.out.raw(&text)?;
        notes(&app.out);
        return Ok(());
    };
    let id = key.access_key_id.clone();
    if let Err(failure) = place.write(app, name, &id, &key.secret_access_key) {
        return Err(taken_back(app, name, &id, failure));
    }
    app.out.done(format!("New access key {id} of IAM user '{name}'"))?;
    let sealed = if place.seals() { ", sealed" } else { "" };
    app.out.done(format!("Profile '{}' holds it{sealed}", place.profile_name))?;
    notes(&app.out);
    match old {
        Some(old) => app.out.done(format!("It takes the place of {old}")),
        None => Ok(()),
    }
}

/// A key that could not be stored is of no use to anybody.
fn taken_back(app: &App, name: &str, id: &str, failure: Failure) -> Failure {
    let path = format!("{}/keys/{}", address(name), encoded(id));
    let deleted: Result<Done> =
        ask(app, async |client| client.change(Method::DELETE, &path, None::<&Options>, &new_key()).await);
    match deleted {
        Ok(_) => failure.hint(format!("The new key {id} was deleted again")),
        Err(_) => failure.hint(format!(
            "The new key {id} exists, and its secret is lost. Delete it: iam-sorry keys delete {name} {id}"
        )),
    }
}

fn delete(app: &App, name: &str, id: &str, force: bool, dry_run: bool) -> Result<()> {
    if !dry_run && !terminal::confirm(app, &format!("Delete access key {id} of IAM user '{name}'?"))? {
        return app.out.line("Aborted.");
    }
    let asked = DeleteKey { dry_run, force };
    let truth = |value: bool| value.then_some("true");
    let fields = query(&[("dry_run", truth(asked.dry_run)), ("force", truth(asked.force))]);
    let path = format!("{}/keys/{}{fields}", address(name), encoded(id));
    let done: std::result::Result<Done, Failure> = ask(app, async |client| {
        match client.change(Method::DELETE, &path, None::<&Options>, &new_key()).await {
            Err(e @ ServiceError::Problem { .. }) if e.code() == Some(ProblemCode::Conflict) && !force => {
                Err(e)
            }
            answer => answer,
        }
    });
    show::done(app, &format!("Access key {id} of '{name}' is deleted"), &done?, dry_run)
}

/// The profile that a key goes into, looked at before the key is made.
struct Place {
    profile_name: String,
    profile: Option<Profile>,
    encrypt: bool,
}

impl Place {
    /// `old` is the key that the profile may hold, because it is replaced.
    fn prepare(app: &App, to: &Destination, old: Option<&str>) -> Result<Option<Self>> {
        let Some(profile_name) = to.profile.clone() else { return Ok(None) };
        let (credentials, config) = app.documents()?;
        credentials.clone().set(&profile_name, OWNER, "x")?;
        let profile = Profile::find(&profile_name, &credentials, &config);
        if let Some(profile) = &profile
            && let Some(stored) = profile.permanent_key().or_else(|| profile.active_key())
        {
            let opened = app.open(profile, stored)?;
            if old != Some(opened.access_key_id.as_str()) {
                return Err(Failure::usage(format!(
                    "Profile '{profile_name}' holds another key, which is not overwritten"
                ))
                .hint("Name another profile: --as PROFILE"));
            }
        }
        let place = Self { profile_name, profile, encrypt: to.encrypt };
        if place.seals() {
            // A trial: what sealing needs is found and unlocked before there is a key to lose.
            place.sealed(app, "trial", &"trial".into())?;
        }
        Ok(Some(place))
    }

    /// As asked for, and where what it replaces was sealed.
    fn seals(&self) -> bool {
        let was = self.profile.as_ref().and_then(Profile::permanent_key);
        self.encrypt || was.is_some_and(|key| key.is_sealed())
    }

    fn fields(&self) -> (&'static str, &'static str) {
        match self.profile.as_ref().and_then(Profile::kept_key) {
            Some(_) => (KEPT_ID, KEPT_SECRET),
            None => (ID, SECRET),
        }
    }

    fn sealed(&self, app: &App, id: &str, secret: &SecretString) -> Result<Vec<(&'static str, String)>> {
        let (id_field, secret_field) = self.fields();
        let to_seal = [(id_field, SecretString::from(id)), (secret_field, secret.clone())];
        seal_under(app, &self.profile_name, self.profile.as_ref(), &to_seal)
    }

    fn write(&self, app: &App, user: &str, id: &str, secret: &SecretString) -> Result<()> {
        let owner = UserName::parse(user)?;
        let sealed = if self.seals() { self.sealed(app, id, secret)? } else { Vec::new() };
        let (id_field, secret_field) = self.fields();
        app.update(&app.credentials, |document| {
            match &self.profile {
                Some(profile) => unchanged(document, profile)?,
                None if document.contains(&self.profile_name) => {
                    return Err(Failure::other(format!(
                        "Profile '{}' appeared meanwhile",
                        self.profile_name
                    ))
                    .hint("Run the command again"));
                }
                None => {}
            }
            if sealed.is_empty() {
                document.set(&self.profile_name, id_field, id)?;
                document.set(&self.profile_name, secret_field, secret.expose_secret())?;
            } else {
                store(document, &self.profile_name, &sealed)?;
            }
            if id_field == ID {
                document.remove(&self.profile_name, TOKEN);
                document.remove(&self.profile_name, EXPIRATION);
            }
            document.set(&self.profile_name, OWNER, owner.as_str())?;
            Ok(())
        })
    }
}

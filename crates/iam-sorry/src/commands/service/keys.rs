//! `keys`: permanent access keys, whose secrets are shown once: on stdout as JSON, or into a profile and nowhere else.

use std::io::IsTerminal as _;

use http::Method;
use iam_sorry_core::api::{DeleteKey, Done, KeyInfo, NewKey, OldKey, Options, ProblemCode};
use iam_sorry_core::names::UserName;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::request::{MOST, ask, user_path};
use super::show;
use crate::app::App;
use crate::args::{Destination, Keys};
use crate::error::{Error, ErrorKind, Result};
use crate::profile::{EXPIRATION, ID, KEPT_ID, KEPT_SECRET, OWNER, Profile, SECRET, TOKEN};
use crate::service::{ServiceError, encoded, new_key, query};
use crate::{sealing, terminal};

pub fn run(app: &App, action: Keys) -> Result<()> {
    match action {
        Keys::List { name, json } => {
            let keys = list(app, &name)?;
            if json { show::json(app, &keys) } else { show::keys(app, &keys) }
        }
        Keys::Create { name, to } => {
            somewhere(&to)?;
            let target = TargetProfile::prepare(app, &to, None)?;
            let path = format!("{}/keys", user_path(&name));
            let key = made(app, &name, &path)?;
            deliver(app, &name, key, target.as_ref())
        }
        Keys::Rotate { name, access_key_id, to } => {
            let old = match access_key_id {
                Some(id) => id,
                None => the_only_key(app, &name)?,
            };
            somewhere(&to)?;
            let target = TargetProfile::prepare(app, &to, Some(&old))?;
            let path = format!("{}/keys/{}/rotate", user_path(&name), encoded(&old));
            let key = made(app, &name, &path)?;
            deliver(app, &name, key, target.as_ref())
        }
        Keys::Confirm { name, access_key_id, dry_run } => {
            let done = end_rotation(app, &name, &access_key_id, "confirm", dry_run)?;
            show::done(app, &format!("The new key {access_key_id} of '{name}' is confirmed"), &done, dry_run)
        }
        Keys::Restore { name, access_key_id, dry_run } => {
            let done = end_rotation(app, &name, &access_key_id, "restore", dry_run)?;
            show::done(
                app,
                &format!("The rotation of {access_key_id} of '{name}' is taken back"),
                &done,
                dry_run,
            )
        }
        Keys::Delete { name, access_key_id, force, dry_run } => {
            delete(app, &name, &access_key_id, force, dry_run)
        }
    }
}

fn list(app: &App, name: &str) -> Result<Vec<KeyInfo>> {
    ask(app, async |client| client.list(&format!("{}/keys", user_path(name)), MOST).await)
}

/// Where standard output leads nowhere, a secret would be lost before anybody saw it. (A closed one is opened as /dev/null
/// before `main`.)
fn somewhere(to: &Destination) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    if to.profile.is_some() {
        return Ok(());
    }
    let stdout = rustix::fs::fstat(std::io::stdout()).map(|found| (found.st_dev, found.st_ino)).ok();
    let nowhere = std::fs::metadata("/dev/null").map(|found| (found.dev(), found.ino())).ok();
    if stdout.is_some() && stdout != nowhere {
        return Ok(());
    }
    Err(Error::usage("The secret would be lost: standard output is closed, or /dev/null")
        .hint("Put the new key into a profile: --as PROFILE"))
}

fn the_only_key(app: &App, name: &str) -> Result<String> {
    match &list(app, name)?[..] {
        [one] => Ok(one.access_key_id.clone()),
        [] => Err(Error::profile(format!("IAM user '{name}' has no access key to rotate"))
            .hint(format!("Make one: iam-sorry keys create {name}"))),
        several => {
            if let Some((old, new)) =
                several.iter().find_map(|key| Some((&key.access_key_id, key.replaced_by.as_ref()?)))
            {
                return Err(Error::usage(format!(
                    "IAM user '{name}' has a rotation that is not confirmed: {new} takes the place of {old}"
                ))
                .hint(both_ways(name, old, new)));
            }
            let ids: Vec<&str> = several.iter().map(|key| key.access_key_id.as_str()).collect();
            Err(Error::usage(format!(
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
        .map_err(|error| lost(error, name))
}

/// A key whose answer was lost exists, and its secret is nowhere.
fn lost(error: Error, name: &str) -> Error {
    error.hint(format!("See whether a key was made: iam-sorry keys list {name}"))
}

/// Onto the screen or into the profile; then a rotation is confirmed.
fn deliver(app: &App, name: &str, key: NewKey, target: Option<&TargetProfile>) -> Result<()> {
    let id = key.access_key_id.clone();
    let old = key.old_key.clone();
    let Some(target) = target else {
        if let Err(error) = print(app, name, &key) {
            return Err(taken_back(app, name, &id, old.as_ref(), error));
        }
        notes(app, &key.done);
        return match old {
            Some(old) if old.deleted_after.is_some() => ask_whether_stored(app, name, &id, &old),
            _ => Ok(()),
        };
    };
    if let Err(error) = target.write(app, name, &id, &key.secret_access_key) {
        return Err(taken_back(app, name, &id, old.as_ref(), error));
    }
    app.out.done(format!("New access key {id} of IAM user '{name}'"))?;
    let sealed = if target.seals() { ", sealed" } else { "" };
    app.out.done(format!("Profile '{}' holds it{sealed}", target.profile_name))?;
    let Some(old) = old else {
        notes(app, &key.done);
        return Ok(());
    };
    app.out.done(format!("It takes the place of {}", old.access_key_id))?;
    confirm(app, name, &id, &old)
}

fn notes(app: &App, done: &Done) {
    done.notes.iter().for_each(|note| app.out.progress(format!("  {}", crate::output::printable(note))));
}

fn print(app: &App, name: &str, key: &NewKey) -> Result<()> {
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
    app.out.raw(&text)
}

/// What was printed has arrived once somebody says so: a reader behind a pipe may fail after it took the text.
fn ask_whether_stored(app: &App, name: &str, new: &str, old: &OldKey) -> Result<()> {
    app.out.progress(both_ways(name, &old.access_key_id, new));
    let prompts_enabled = app.global.yes || std::io::stdin().is_terminal();
    let question =
        format!("Have you stored the new key, so that the old one, {}, can be deleted?", old.access_key_id);
    if prompts_enabled && terminal::confirm(app, &question)? {
        return confirm(app, name, new, old);
    }
    Ok(())
}

/// The new key is stored. Where the service can't be told now, the old one goes when its time is over.
fn confirm(app: &App, name: &str, new: &str, old: &OldKey) -> Result<()> {
    match end_rotation(app, name, new, "confirm", false) {
        Ok(done) => {
            notes(app, &done);
            Ok(())
        }
        Err(error) if error.kind == ErrorKind::Interrupted => {
            Err(error.hint(both_ways(name, &old.access_key_id, new)))
        }
        Err(error) => {
            let until = old.deleted_after.as_deref().map(|at| format!(" until {at}")).unwrap_or_default();
            app.out.warn(format!(
                "The old key {} is still there{until}, since the new one could not be confirmed: {error}\nConfirm it: \
                 iam-sorry keys confirm {name} {new}",
                old.access_key_id
            ));
            Ok(())
        }
    }
}

fn end_rotation(app: &App, name: &str, id: &str, how: &str, dry_run: bool) -> Result<Done> {
    let fields = query(&[("dry_run", dry_run.then_some("true"))]);
    let path = format!("{}/keys/{}/{how}{fields}", user_path(name), encoded(id));
    ask(app, async |client| client.change(Method::POST, &path, None::<&Options>, &new_key()).await)
}

fn both_ways(name: &str, old: &str, new: &str) -> String {
    format!(
        "Once the new key is stored, delete the old one: iam-sorry keys confirm {name} {new}\nIf it was lost, take the \
         rotation back: iam-sorry keys restore {name} {old}"
    )
}

/// A key that could not be stored is of no use to anybody; the old one works again, where it took the place of one.
fn taken_back(app: &App, name: &str, id: &str, old: Option<&OldKey>, error: Error) -> Error {
    let (deleted, hint) = match old {
        Some(old) => (
            end_rotation(app, name, &old.access_key_id, "restore", false),
            format!("iam-sorry keys restore {name} {}", old.access_key_id),
        ),
        None => {
            let path = format!("{}/keys/{}", user_path(name), encoded(id));
            let delete = ask(app, async |client| {
                client.change(Method::DELETE, &path, None::<&Options>, &new_key()).await
            });
            (delete, format!("iam-sorry keys delete {name} {id}"))
        }
    };
    let text = match (deleted, old) {
        (Ok(_), None) => format!("The new key {id} was deleted again"),
        (Ok(_), Some(old)) => {
            format!(
                "The new key {id} was deleted again, and the old one, {}, is as it was",
                old.access_key_id
            )
        }
        (Err(_), _) => format!("The new key {id} exists, and its secret is lost. Take it back: {hint}"),
    };
    match error.kind {
        // Else it would end quietly, and in success: the key is what was asked for.
        ErrorKind::BrokenPipe => Error::other("Nobody read the new key from standard output").hint(text),
        _ => error.hint(text),
    }
}

fn delete(app: &App, name: &str, id: &str, force: bool, dry_run: bool) -> Result<()> {
    if !dry_run && !terminal::confirm(app, &format!("Delete access key {id} of IAM user '{name}'?"))? {
        return app.out.line("Aborted.");
    }
    let asked = DeleteKey { dry_run, force };
    let truth = |value: bool| value.then_some("true");
    let fields = query(&[("dry_run", truth(asked.dry_run)), ("force", truth(asked.force))]);
    let path = format!("{}/keys/{}{fields}", user_path(name), encoded(id));
    let done: std::result::Result<Done, Error> = ask(app, async |client| {
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
struct TargetProfile {
    profile_name: String,
    profile: Option<Profile>,
    encrypt: bool,
}

impl TargetProfile {
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
                return Err(Error::usage(format!(
                    "Profile '{profile_name}' holds another key, which is not overwritten"
                ))
                .hint("Name another profile: --as PROFILE"));
            }
        }
        let target = Self { profile_name, profile, encrypt: to.encrypt };
        if target.seals() {
            // A trial: what sealing needs is found and unlocked before there is a key to lose.
            target.sealed(app, "trial", &"trial".into())?;
        }
        Ok(Some(target))
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
        sealing::seal(app, &self.profile_name, self.profile.as_ref(), &to_seal)
    }

    fn write(&self, app: &App, user: &str, id: &str, secret: &SecretString) -> Result<()> {
        let owner = UserName::parse(user)?;
        let sealed = if self.seals() { self.sealed(app, id, secret)? } else { Vec::new() };
        let (id_field, secret_field) = self.fields();
        app.update(&app.credentials, |document| {
            match &self.profile {
                Some(profile) => sealing::check_unchanged(document, profile)?,
                None if document.contains(&self.profile_name) => {
                    return Err(Error::other(format!("Profile '{}' appeared meanwhile", self.profile_name))
                        .hint("Run the command again"));
                }
                None => {}
            }
            if sealed.is_empty() {
                document.set(&self.profile_name, id_field, id)?;
                document.set(&self.profile_name, secret_field, secret.expose_secret())?;
            } else {
                sealing::store(document, &self.profile_name, &sealed)?;
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

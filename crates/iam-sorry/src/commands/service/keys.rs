//! `keys`: permanent access keys. A secret is shown once: on stdout as JSON, or written to a profile.

use std::io::IsTerminal as _;

use http::Method;
use iam_sorry_core::api::{DeleteKey, Done, KeyInfo, NewKey, OldKey, Options, ProblemCode};
use iam_sorry_core::ids::UserSelector;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::request::{MAX_LISTED, user_path, with_client};
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
            check_stdout(&to)?;
            let target = TargetProfile::prepare(app, &to, None)?;
            let path = format!("{}/keys", user_path(&name));
            let key = make_key(app, &name, &path)?;
            deliver(app, &name, key, target.as_ref())
        }
        Keys::Rotate { name, access_key_id, to } => {
            let old = match access_key_id {
                Some(id) => id,
                None => only_key(app, &name)?,
            };
            check_stdout(&to)?;
            let target = TargetProfile::prepare(app, &to, Some(&old))?;
            let path = format!("{}/keys/{}/rotate", user_path(&name), encoded(&old));
            let key = make_key(app, &name, &path)?;
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
        Keys::Deactivate { name, access_key_id, dry_run } => {
            set_active(app, &name, &access_key_id, false, dry_run)
        }
        Keys::Activate { name, access_key_id, dry_run } => {
            set_active(app, &name, &access_key_id, true, dry_run)
        }
        Keys::Delete { name, access_key_id, force, dry_run } => {
            delete(app, &name, &access_key_id, force, dry_run)
        }
    }
}

fn list(app: &App, name: &str) -> Result<Vec<KeyInfo>> {
    with_client(app, async |client| client.list(&format!("{}/keys", user_path(name)), MAX_LISTED).await)
}

/// Refuses a stdout that leads nowhere, which would lose the secret. (A closed stdout is opened as /dev/null before
/// `main`.)
fn check_stdout(to: &Destination) -> Result<()> {
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

fn only_key(app: &App, name: &str) -> Result<String> {
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
                .hint(confirm_or_restore(name, old, new)));
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

fn make_key(app: &App, name: &str, path: &str) -> Result<NewKey> {
    with_client(app, async |client| client.change(Method::POST, path, None::<&Options>, &new_key()).await)
        .map_err(|error| with_lost_key_hint(error, name))
}

/// After a lost response the key may exist, and nobody has its secret.
fn with_lost_key_hint(error: Error, name: &str) -> Error {
    error.hint(format!("See whether a key was made: iam-sorry keys list {name}"))
}

/// Prints the key or writes it to the profile, then confirms a rotation.
fn deliver(app: &App, name: &str, key: NewKey, target: Option<&TargetProfile>) -> Result<()> {
    let id = key.access_key_id.clone();
    let old = key.old_key.clone();
    let Some(target) = target else {
        if let Err(error) = print(app, name, &key) {
            return Err(take_back(app, name, &id, old.as_ref(), error));
        }
        notes(app, &key.done);
        return match old {
            Some(old) if old.deleted_after.is_some() => ask_whether_stored(app, name, &id, &old),
            _ => Ok(()),
        };
    };
    if let Err(error) = target.write(app, name, &id, &key.secret_access_key) {
        return Err(take_back(app, name, &id, old.as_ref(), error));
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

/// Printed output has arrived only if the person says so: a reader behind a pipe may fail after it took the text.
fn ask_whether_stored(app: &App, name: &str, new: &str, old: &OldKey) -> Result<()> {
    app.out.progress(confirm_or_restore(name, &old.access_key_id, new));
    let prompts_enabled = app.global.yes || std::io::stdin().is_terminal();
    let question =
        format!("Have you stored the new key, so that the old one, {}, can be deleted?", old.access_key_id);
    if prompts_enabled && terminal::confirm(app, &question)? {
        return confirm(app, name, new, old);
    }
    Ok(())
}

/// Confirms that the new key is stored. If the service can't be reached, the old key is deleted when its time is over.
fn confirm(app: &App, name: &str, new: &str, old: &OldKey) -> Result<()> {
    match end_rotation(app, name, new, "confirm", false) {
        Ok(done) => {
            notes(app, &done);
            Ok(())
        }
        Err(error) if error.kind == ErrorKind::Interrupted => {
            Err(error.hint(confirm_or_restore(name, &old.access_key_id, new)))
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
    with_client(app, async |client| client.change(Method::POST, &path, None::<&Options>, &new_key()).await)
}

fn confirm_or_restore(name: &str, old: &str, new: &str) -> String {
    format!(
        "Once the new key is stored, delete the old one: iam-sorry keys confirm {name} {new}\nIf it was lost, take the \
         rotation back: iam-sorry keys restore {name} {old}"
    )
}

/// Takes back a key that could not be stored; the old one works again if it replaced one.
fn take_back(app: &App, name: &str, id: &str, old: Option<&OldKey>, error: Error) -> Error {
    let (deleted, hint) = match old {
        Some(old) => (
            end_rotation(app, name, &old.access_key_id, "restore", false),
            format!("iam-sorry keys restore {name} {}", old.access_key_id),
        ),
        None => {
            let path = format!("{}/keys/{}", user_path(name), encoded(id));
            let delete = with_client(app, async |client| {
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
        // Without this it would end quietly with success, but the key was the result.
        ErrorKind::BrokenPipe => Error::other("Nobody read the new key from standard output").hint(text),
        _ => error.hint(text),
    }
}

fn set_active(app: &App, name: &str, id: &str, active: bool, dry_run: bool) -> Result<()> {
    let action =
        serde_json::json!({"action": "update-access-key", "user": name, "key": id, "active": active});
    let path = format!("/actions{}", query(&[("dry_run", dry_run.then_some("true"))]));
    let done: Done =
        with_client(app, async |client| client.change(Method::POST, &path, Some(&action), &new_key()).await)?;
    let status = if active { "active" } else { "inactive" };
    show::done(app, &format!("Access key {id} of '{name}' is {status}"), &done, dry_run)
}

fn delete(app: &App, name: &str, id: &str, force: bool, dry_run: bool) -> Result<()> {
    if !dry_run && !terminal::confirm(app, &format!("Delete access key {id} of IAM user '{name}'?"))? {
        return app.out.line("Aborted.");
    }
    let asked = DeleteKey { dry_run, force };
    let truth = |value: bool| value.then_some("true");
    let fields = query(&[("dry_run", truth(asked.dry_run)), ("force", truth(asked.force))]);
    let path = format!("{}/keys/{}{fields}", user_path(name), encoded(id));
    let done: std::result::Result<Done, Error> = with_client(app, async |client| {
        match client.change(Method::DELETE, &path, None::<&Options>, &new_key()).await {
            Err(e @ ServiceError::Problem { .. }) if e.code() == Some(ProblemCode::Conflict) && !force => {
                Err(e)
            }
            answer => answer,
        }
    });
    show::done(app, &format!("Access key {id} of '{name}' is deleted"), &done?, dry_run)
}

/// The profile that will hold the key, checked before the key is made.
struct TargetProfile {
    profile_name: String,
    profile: Option<Profile>,
    encrypt: bool,
}

impl TargetProfile {
    /// `old` is the key that the profile may hold, because it is being replaced.
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
            // A trial: it finds and unlocks the SSH key before there is an access key to lose.
            target.sealed(app, "trial", &"trial".into())?;
        }
        Ok(Some(target))
    }

    /// Whether to seal the key: on request, or if the key that it replaces was sealed.
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
        let owner = UserSelector::parse(user)?.name;
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

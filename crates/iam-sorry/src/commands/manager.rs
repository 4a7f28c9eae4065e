//! Creates a manager: by an administrator, with user, policy and key in one run; or from a key in the environment. In
//! both cases the key is sealed before a file holds it.

use iam_sorry_aws::issue::{Issuer, Progress, issue_for_user};
use iam_sorry_aws::lookup::{User, caller, describe, user_exists};
use iam_sorry_aws::policy::{PolicyRequest, manager_policy};
use iam_sorry_aws::users::{create_user, delete_user, put_policy};
use iam_sorry_aws::{Aws, AwsError, Cancel, RetryPolicy};
use iam_sorry_core::aws_files::Document;
use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::{Namespace, SessionDuration, UserName};
use secrecy::SecretString;

use crate::app::{App, DEFAULT_MANAGER};
use crate::aws;
use crate::error::{Error, ErrorKind, Result};
use crate::profile::{ID, NAMESPACE, OWNER, Profile, SECRET};
use crate::provider::manager::{Manager, no_manager};
use crate::recovery::{self, RecoveryMode, journal};
use crate::{sealing, terminal};

use super::rotate;

/// `--create-iam-sorry USER [PROFILE]`: the user, its policy, and its key, sealed in the profile. A second run restores
/// the policy and leaves the rest. If a step fails, the earlier ones are undone.
pub fn create(app: &App, user: &str, target: Option<&str>) -> Result<()> {
    let setup = ManagerSetup::new(app, user, target.unwrap_or(DEFAULT_MANAGER))?;
    recovery::finish(app, RecoveryMode::Full)?;
    let (credentials, config) = app.documents()?;
    let admin = Manager::new(app, app.manager_name(), &config, &credentials);
    admin.name()?;
    let created = {
        let (setup, admin) = (&setup, &admin);
        aws::block_on(|cancel| async move {
            let (aws, credentials) = admin.open(&cancel).await?;
            let access =
                AdminAccess { app, aws, admin: credentials, profile: admin.name()?, cancel: &cancel };
            setup.carry_out(&access).await
        })?
    };
    let ManagerSetup { user, namespace, target, .. } = &setup;
    app.out
        .done(format!("IAM user '{user}' {}", if created.user { "created" } else { "was there already" }))?;
    app.out.done(format!(
        "It has the policy '{}', for users '{namespace}' and '{namespace}-*'",
        setup.policy_name()
    ))?;
    match created.key {
        Some(id) => {
            app.out.done(format!("Its access key {id} is in profile '{target}', sealed with your SSH key"))
        }
        None => app.out.done(format!("Profile '{target}' holds its access key already")),
    }?;
    let manager = if target == DEFAULT_MANAGER { String::new() } else { format!("--profile {target} ") };
    app.out.progress(format!("Temporary credentials of a user: iam-sorry {manager}{namespace}"));
    Ok(())
}

/// What the run is to create, and whether the key exists already.
struct ManagerSetup {
    user: UserName,
    namespace: Namespace,
    target: String,
    has_key: bool,
}

/// What the run created.
#[derive(Default)]
struct CreatedResources {
    user: bool,
    key: Option<String>,
}

/// The administrator's client and credentials.
struct AdminAccess<'a> {
    app: &'a App,
    aws: &'a Aws,
    admin: &'a Credentials,
    profile: &'a str,
    cancel: &'a Cancel,
}

impl ManagerSetup {
    /// Checks and prompts come before the first request.
    fn new(app: &App, user: &str, target: &str) -> Result<Self> {
        let user = UserName::parse(user)?;
        let namespace = Namespace::of_manager(&user).ok_or_else(|| {
            Error::usage(format!(
                "'{user}' can't be a manager's name: what stands before its hyphen is what it manages"
            ))
            .hint(format!("For users '{user}' and '{user}-*': iam-sorry --create-iam-sorry {user}-iam-sorry"))
        })?;
        let usage = format!("iam-sorry --profile ADMIN --create-iam-sorry {user}");
        let Some(admin) = app.named_manager() else {
            return Err(Error::usage(
                "--create-iam-sorry needs a profile that may create users and policies",
            )
            .hint(usage));
        };
        if admin == target {
            return Err(Error::usage(format!(
                "Profile '{target}' can't be both the administrator's and the new manager's"
            ))
            .hint(format!("Put the new manager elsewhere: {usage} NAME")));
        }
        if target == "default" {
            return Err(Error::usage("Profile 'default' is never sealed; name another one")
                .hint(format!("{usage} NAME")));
        }
        let (credentials, config) = app.documents()?;
        let present = Profile::find(target, &credentials, &config).filter(|p| p.usable_key().is_some());
        let has_key = match &present {
            None => false,
            Some(profile) => {
                let theirs =
                    profile.owner().and_then(|owner| UserName::parse(owner).ok()).as_ref() == Some(&user);
                if !theirs || profile.permanent_key().is_none() {
                    return Err(Error::profile(format!(
                        "Profile '{target}' holds other credentials; nothing was made"
                    ))
                    .hint(format!("Put the new manager elsewhere: {usage} NAME")));
                }
                true
            }
        };
        credentials.clone().set(target, OWNER, "x")?;
        if !has_key {
            // A trial: it finds and unlocks the SSH key, or reports what is wrong with it.
            sealing::seal(app, target, None, &[(ID, SecretString::from("trial"))])?;
        }
        Ok(Self { user, namespace, target: target.to_owned(), has_key })
    }

    /// The original's name for it.
    fn policy_name(&self) -> String {
        format!("iam-sorry-{}", self.namespace)
    }

    async fn carry_out(&self, access: &AdminAccess<'_>) -> Result<CreatedResources> {
        let AdminAccess { app, aws, admin, cancel, .. } = *access;
        let found = match user_exists(aws, admin, &self.user).await {
            Ok(found) => Some(found),
            Err(AwsError::NoSuchUser { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        match found {
            Some(user) if self.has_key => {
                self.attach_policy(access, &user).await?;
                Ok(CreatedResources::default())
            }
            None if self.has_key => Err(AwsError::NoSuchUser { user: self.user.to_string() }.into()),
            // The user may be anybody's, with permissions that the key would carry.
            Some(user) if !app.global.yes => Err(Error::new(
                ErrorKind::Aws,
                format!("IAM user '{}' exists already; nothing was changed", user.name),
            )
            .hint("Add --yes to give it the policy and a key that is stored here")
            .hint(format!(
                "See what it may do: aws iam list-attached-user-policies --user-name {}",
                user.name
            ))),
            Some(user) => {
                let key = self.attach_policy_and_key(access, &user).await?;
                Ok(CreatedResources { user: false, key: Some(key) })
            }
            None => {
                app.out.progress(format!("Creating IAM user '{}'...", self.user));
                let user = create_user(aws, admin, &self.user, cancel).await?;
                match self.attach_policy_and_key(access, &user).await {
                    Ok(key) => Ok(CreatedResources { user: true, key: Some(key) }),
                    Err(error) => Err(self.take_back(access, error).await),
                }
            }
        }
    }

    async fn attach_policy(&self, access: &AdminAccess<'_>, user: &User) -> Result<()> {
        let policy = manager_policy(&PolicyRequest {
            partition: user.arn.partition.clone(),
            account: Some(user.arn.account.clone()),
            users: self.namespace.patterns(),
        })?;
        let AdminAccess { aws, admin, cancel, .. } = *access;
        Ok(put_policy(aws, admin, &user.name, &self.policy_name(), &policy, cancel).await?)
    }

    /// Attaches the policy and makes the key, which is in the journal until the file holds it, sealed.
    async fn attach_policy_and_key(&self, access: &AdminAccess<'_>, user: &User) -> Result<String> {
        self.attach_policy(access, user).await?;
        let AdminAccess { app, aws, admin, profile, cancel } = *access;
        let (journal, retry) = (journal(app), RetryPolicy::default());
        let out = app.out;
        let progress = move |event: &Progress| out.progress(event.to_string());
        let issuer = Issuer {
            aws,
            manager: admin,
            manager_profile: profile,
            target_profile: &self.target,
            journal: &journal,
            progress: &progress,
            cancel,
            retry: &retry,
        };
        // The session proves that the key works and is the user's; only the key is kept.
        let issued = issue_for_user(&issuer, &user.name, SessionDuration::HOUR, true).await?;
        let Some(kept) = issued.kept else { return Err(Error::other("AWS made no key to keep")) };
        // Interrupted during the requests: the file holds nothing yet, so everything can be undone.
        let stopped = if cancel.is_cancelled() { Err(AwsError::Interrupted.into()) } else { Ok(()) };
        let namespace = Some(&self.namespace);
        match stopped.and_then(|()| write(app, &self.target, kept.key(), &user.name, namespace)) {
            Ok(()) => {
                let id = kept.key().id.clone();
                // The profile holds the key. If the journal can't be cleared, the next run finds that out.
                kept.kept().unwrap_or_else(|e| app.out.warn(e.to_string()));
                Ok(id)
            }
            Err(error) => Err(error.with_undo_result(kept.discard(&issuer).await)),
        }
    }

    /// Deletes the user that this run created. IAM refuses that if one of its keys could not be deleted.
    async fn take_back(&self, access: &AdminAccess<'_>, error: Error) -> Error {
        let user = &self.user;
        match delete_user(access.aws, access.admin, user, Some(&self.policy_name())).await {
            Ok(()) => error.hint(format!("IAM user '{user}', made a moment ago, is deleted again")),
            Err(left) => error
                .hint(format!("IAM user '{user}' was made and could not be deleted again: {left}"))
                .hint(format!("Once its keys are gone: aws iam delete-user --user-name {user}")),
        }
    }
}

/// Seals the key and writes it to the profile, which must not hold one.
fn write(
    app: &App,
    target: &str,
    key: &AccessKey,
    user: &UserName,
    namespace: Option<&Namespace>,
) -> Result<()> {
    let targets: [(&'static str, SecretString); 2] =
        [(ID, key.id.as_str().into()), (SECRET, key.secret.clone())];
    let sealed = sealing::seal(app, target, None, &targets)?;
    app.update(&app.credentials, |document: &mut Document| {
        if [ID, SECRET].iter().any(|field| document.value(target, field).is_some_and(|v| !v.is_empty())) {
            return Err(Error::profile(format!(
                "Profile '{target}' holds a key already; nothing was written"
            ))
            .hint("See what is there: iam-sorry list"));
        }
        sealing::store(document, target, &sealed)?;
        document.set(target, OWNER, user.as_str())?;
        if let Some(namespace) = namespace {
            document.set(target, NAMESPACE, namespace.as_str())?;
        }
        Ok(())
    })
}

/// Whether the environment holds a key and there is no manager yet. If a manager is named, the key (as in CI) has
/// another purpose.
pub fn is_key_to_set_up(app: &App) -> Result<bool> {
    if app.settings.environment_credentials.is_none() || app.named_manager().is_some() {
        return Ok(false);
    }
    let (credentials, config) = app.documents()?;
    Ok(!credentials.contains(DEFAULT_MANAGER) && !config.contains(DEFAULT_MANAGER))
}

/// The first run: seals the key from AWS_ACCESS_KEY_ID in the manager profile, then rotates it, since whoever handed it
/// over knows it too.
pub fn set_up(app: &App) -> Result<()> {
    let Some(given) = &app.settings.environment_credentials else { return Err(no_manager()) };
    let (target, id) = (DEFAULT_MANAGER, &given.access_key_id);
    if !given.is_permanent() || id.starts_with("ASIA") {
        return Err(Error::profile(
            "The credentials in the environment are temporary; a manager needs a permanent key of an IAM user",
        )
        .hint("Making one out of a session would outlive what you were given; ask your administrator for one, or")
        .hint("as an administrator: iam-sorry --profile ADMIN --create-iam-sorry NAME-iam-sorry"));
    }
    app.load(&app.credentials)?.set(target, OWNER, "x")?;
    let user = aws::block_on(|_| async {
        let aws = aws::connect(app, None)?;
        let found = caller(&aws, given).await?;
        found.user().cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::Aws,
                format!("The key {id} in the environment belongs to {}", describe(&found)),
            )
            .hint("A manager is an IAM user")
        })
    })?;
    app.out.progress(format!("AWS_ACCESS_KEY_ID holds {id}, a key of IAM user '{user}'."));
    let store = format!("Store it, sealed with your SSH key, as manager profile '{target}'?");
    if !terminal::confirm(app, &store)? {
        return app.out.line("Aborted.");
    }
    let replace =
        terminal::confirm(app, "Replace it by a new key then, so that whoever handed it over has none?")?;
    let key = AccessKey { id: id.clone(), secret: given.secret_access_key.clone() };
    // Only for a user with that suffix: any other manager may be for users of any name.
    let namespace = user.as_str().ends_with("-iam-sorry").then(|| Namespace::of_manager(&user)).flatten();
    write(app, target, &key, &user, namespace.as_ref())?;
    app.out
        .done(format!("Profile '{target}' holds the key of IAM user '{user}', sealed with your SSH key"))?;
    if replace {
        rotate::run(app, target).map_err(|error| {
            error
                .hint(format!(
                    "Profile '{target}' works, but whoever handed the key over has it too. Try again:"
                ))
                .hint(format!("iam-sorry rotate '{target}'"))
        })?;
    } else {
        app.out
            .warn(format!("Whoever handed the key over has it too. Replace it: iam-sorry rotate '{target}'"));
    }
    app.out.progress("Take the variables out of this shell: eval $(iam-sorry unset)");
    Ok(())
}

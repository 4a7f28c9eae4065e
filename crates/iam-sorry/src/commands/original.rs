//! Forms of the original's versions up to 0.2.2, as far as they are safe (docs/from-the-original.md).

use iam_sorry_core::aws_files::Document;

use crate::app::{App, DEFAULT_MANAGER};
use crate::args::{DEFAULT_BOUNDARY, LaterOriginalArgs, PolicyArgs};
use crate::commands::{describe, manager};
use crate::error::{Error, Result};
use crate::profile::{Profile, ProfileKind};
use crate::terminal;

/// Runs the form that the flags select; `name` is the positional NAME.
pub fn run(app: &App, args: LaterOriginalArgs, name: Option<&str>) -> Result<()> {
    if let Some(owner) = args.chown {
        return Err(chown(&owner, name));
    }
    if args.print_lambda_policy.is_some() {
        return Err(Error::usage(
            "--print-lambda-policy is gone: deploying web applications is not our business",
        )
        .hint("The original's text is in its last release: pip install iam-sorry==0.2.2"));
    }
    if let Some(user) = args.create_iam_sorry {
        return manager::create(app, &user, name);
    }
    match (args.print_policy, args.print_admin_policy) {
        (Some(prefix), _) => return print_policy(app, &prefix, false),
        (_, Some(prefix)) => return print_policy(app, &prefix, true),
        _ => {}
    }
    if args.reset {
        return reset(app, args.lose_key);
    }
    if args.fix_profiles { fix_profiles(app) } else { profiles(app) }
}

/// Prints every name once: those of the config file, then those of the credentials file alone.
fn profiles(app: &App) -> Result<()> {
    let (credentials, config) = app.documents()?;
    let more = credentials.profiles().into_iter().filter(|name| !config.contains(name));
    let names: Vec<&str> = config.profiles().into_iter().chain(more).collect();
    names.into_iter().try_for_each(|name| app.out.line(name))
}

/// SDKs take the region from the config file, so each profile of the credentials file gets a section there.
fn fix_profiles(app: &App) -> Result<()> {
    let (credentials, config) = app.documents()?;
    let region = region_to_write(app, &config);
    let without_region = |name: &&str| config.value(name, "region").is_none();
    let without_region: Vec<&str> = credentials.profiles().into_iter().filter(without_region).collect();
    let (mut fixed, mut left) = (Vec::new(), Vec::new());
    if !without_region.is_empty() {
        app.update(&app.config, |config| {
            (fixed, left) = (Vec::new(), Vec::new());
            for name in &without_region {
                let region = credentials.value(name, "region").unwrap_or(&region);
                match config.set(name, "region", region) {
                    Ok(()) => fixed.push((*name, region.to_owned())),
                    Err(error) => left.push(error.to_string()),
                }
            }
            Ok(())
        })?;
    }
    let file = app.settings.config_file.display();
    for (name, region) in &fixed {
        app.out.done(format!("Profile '{name}' has its section in {file} now (region {region})"))?;
    }
    if without_region.is_empty() {
        app.out.done(format!("Every profile of the credentials file has its section in {file}"))?;
    }
    for error in left {
        app.out.warn(error);
    }
    for name in config.profiles().into_iter().filter(|name| !credentials.contains(name)) {
        report_config_only(app, name, &credentials, &config)?;
    }
    Ok(())
}

/// `--region` or AWS_REGION, else the manager's or `default`'s region, as in the original.
fn region_to_write(app: &App, config: &Document) -> String {
    let given = app.global.region.as_deref().or(app.settings.region.as_deref());
    let of = |name| config.value(name, "region");
    given.or_else(|| of(DEFAULT_MANAGER)).or_else(|| of("default")).unwrap_or("us-east-1").to_owned()
}

fn report_config_only(app: &App, name: &str, credentials: &Document, config: &Document) -> Result<()> {
    let Some(profile) = Profile::find(name, credentials, config) else { return Ok(()) };
    match (profile.kind(), profile.setting("source_profile")) {
        (ProfileKind::Role, Some(source)) if !credentials.contains(source) && !config.contains(source) => {
            app.out.warn(format!(
                "Role profile '{name}' names '{source}' as its source_profile, and there is no such profile\n\
                 Make it: iam-sorry --profile MANAGER {source}"
            ));
            Ok(())
        }
        (ProfileKind::Role, Some(source)) => {
            app.out.done(format!("Role profile '{name}' is fine (source: {source})"))
        }
        (ProfileKind::Empty, _) => {
            app.out.warn(format!(
                "Profile '{name}' is only in {} and has nothing to sign with",
                app.settings.config_file.display()
            ));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Removes profile `iam-sorry` from both files. Its permanent key may be stored nowhere else, so `--yes` alone does not
/// remove it.
fn reset(app: &App, lose_key: bool) -> Result<()> {
    let (credentials, config) = app.documents()?;
    let (c, g) = (app.settings.credentials_file.display(), app.settings.config_file.display());
    let Some(profile) = Profile::find(DEFAULT_MANAGER, &credentials, &config) else {
        return app
            .out
            .line(format!("There is no profile '{DEFAULT_MANAGER}' in {c} or {g}. No changes were made."));
    };
    let key = profile.permanent_key();
    let question = match key {
        None => format!("Remove profile '{DEFAULT_MANAGER}' from {c} and {g}?"),
        Some(key) => {
            let id = app.open_without_prompt(&profile, key).map(|opened| opened.access_key_id);
            let id = id.map_or_else(|_| "permanent key".to_owned(), |id| format!("permanent key {id}"));
            if app.global.yes && !lose_key {
                return Err(Error::profile(format!(
                    "Profile '{DEFAULT_MANAGER}' holds the {id}, which may be nowhere else; nothing was removed"
                ))
                .hint(format!("Keep it under another name:  iam-sorry rename {DEFAULT_MANAGER} NAME"))
                .hint("Lose it:                     iam-sorry --reset --lose-key --yes"));
            }
            format!(
                "Profile '{DEFAULT_MANAGER}' holds the {id}, which may be nowhere else. It stays valid at AWS.\n\
                 Remove the profile from {c} and {g}, and lose the key?"
            )
        }
    };
    if !terminal::confirm(app, &question)? {
        return app.out.line("Aborted.");
    }
    for file in [&app.credentials, &app.config] {
        let removed = app.update(file, |document| Ok(document.remove_profile(DEFAULT_MANAGER)))?;
        if removed {
            app.out.done(format!("Removed '{DEFAULT_MANAGER}' from {}", file.path().display()))?;
        }
    }
    if let (Some(_), Some(user)) = (key, profile.owner()) {
        app.out.progress(format!("Delete the key at AWS too: aws iam list-access-keys --user-name {user}"));
    }
    Ok(())
}

/// Without a prefix, the login name is used, as in the original.
fn print_policy(app: &App, prefix: &str, create_users: bool) -> Result<()> {
    let login = || {
        app.settings.login.as_deref().ok_or_else(|| {
            Error::usage("No prefix is given, and neither USER nor LOGNAME is set")
                .hint("Name it: iam-sorry --print-policy PREFIX")
        })
    };
    let prefix = if prefix.is_empty() { login()? } else { prefix };
    describe::policy(
        app,
        &PolicyArgs {
            users: Vec::new(),
            account: "*".into(),
            partition: None,
            rotate: false,
            namespace: Some(prefix.to_owned()),
            create_users,
            boundary: DEFAULT_BOUNDARY.into(),
        },
    )
}

/// The original wrote the new owner into a tag that only its own client read, and for that its manager could tag every
/// user of the account.
fn chown(owner: &str, name: Option<&str>) -> Error {
    let user = name.unwrap_or("USER");
    Error::usage(format!(
        "--chown is not here: the tag that it wrote bound nobody. Who may manage '{user}' is decided by policies in IAM"
    ))
    .hint(format!("Let an administrator give '{owner}' this policy:"))
    .hint(format!("  iam-sorry policy --users {user} > policy.json"))
    .hint(format!(
        "  aws iam put-user-policy --user-name {owner} --policy-name iam-sorry-{user} --policy-document file://policy.json"
    ))
    .hint(format!("and take '{user}' out of the former manager's policy"))
}

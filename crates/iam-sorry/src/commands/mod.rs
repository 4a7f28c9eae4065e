//! One module for each verb, or for a few that share their work. Each takes the [`App`] and its own typed arguments.

mod completions;
mod describe;
mod doctor;
mod doctor_fix;
mod encrypt;
mod environment;
mod list;
mod manager;
mod original;
mod recipients;
mod refresh;
mod rename;
mod rotate;
mod serve_credentials;
mod service;
mod shell;
mod show;
mod status;

use std::process::ExitCode;

use crate::app::App;
use crate::args::{LaterOriginalArgs, OriginalArgs, Verb};
use crate::error::{Error, Result};
use crate::keyring::hygiene::CoreLimit;
use crate::provider::ProvideOptions;
use crate::provider::manager::no_manager;
use crate::recovery;

/// Runs the verb, or the original tool's form that the flags select.
pub fn run(app: &App, verb: Option<Verb>, original: OriginalArgs, core_limit: CoreLimit) -> Result<ExitCode> {
    if !recovers_itself(verb.as_ref(), &original) {
        recovery::finish(app, recovery::RecoveryMode::Opportunistic)?;
    }
    let Some(verb) = verb else { return run_original(app, original).map(|()| ExitCode::SUCCESS) };
    if original != OriginalArgs::default() {
        return Err(Error::usage(
            "NAME and the flags of the original (--encrypt, --eval, --show-..., ...) don't go with a verb",
        )
        .hint("See: iam-sorry --help"));
    }
    match verb {
        Verb::Exec { target, session, command } => {
            return environment::exec(app, &target, session, &command, core_limit);
        }
        Verb::ServeCredentials { target, command } => {
            return serve_credentials::run(app, &target, &command, core_limit);
        }
        Verb::Shell { target } => return shell::run(app, &target, core_limit),
        Verb::Status { json } => return status::run(app, json),
        Verb::Profiles => completions::profiles(app),
        Verb::Refresh { role: Some(role), into: Some(profile), .. } => {
            service::role::refresh(app, &role, &profile)
        }
        Verb::Refresh { names, all, keep_key, .. } => {
            refresh::run(app, &refresh::RefreshRequest { names, all, keep_key })
        }
        Verb::Service(verb) => service::run(app, verb),
        Verb::Encrypt { target, process } => encrypt::encrypt(app, &target, process),
        Verb::Decrypt { target } => encrypt::decrypt(app, &target),
        Verb::Recipients { action } => recipients::run(app, action),
        Verb::Migrate { profiles, old_key } => encrypt::migrate(app, &profiles, old_key.as_deref()),
        Verb::Reseal { target, was } => rename::reseal(app, &target, was.as_deref()),
        Verb::Rename { old, new } => rename::rename(app, &old, &new),
        Verb::Env { target, shell, session } => {
            environment::print(app, &target, &shell, ProvideOptions { session, create: true })
        }
        Verb::Unset { shell } => environment::unset(app, &shell),
        Verb::CredentialProcess { target, session } => environment::credential_process(app, &target, session),
        Verb::List { json } => list::run(app, json),
        Verb::Doctor { json, offline, fix } => {
            if fix {
                doctor_fix::run(app, offline)?;
            }
            doctor::run(app, json, offline)
        }
        Verb::Rotate { target } => rotate::run(app, &target),
        Verb::Policy(args) => describe::policy(app, &args),
        Verb::Completions { shell } => completions::print(app, shell),
        Verb::Man { verb } => describe::man(app, verb.as_deref()),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Whether the verb recovers dead runs itself, or not at all. `refresh`, `rotate` and `doctor` do it in full (not
/// `doctor --offline`). The shell calls `status` and `__profiles` at every prompt and TAB, and they send no request to
/// AWS.
fn recovers_itself(verb: Option<&Verb>, original: &OriginalArgs) -> bool {
    match verb {
        Some(Verb::Refresh { .. } | Verb::Rotate { .. } | Verb::Doctor { .. }) => true,
        // The service's verbs use no manager.
        Some(Verb::Profiles | Verb::Status { .. } | Verb::Service(_)) => true,
        Some(_) => false,
        None => {
            let prints = [&original.show_encrypted, &original.show_decrypted, &original.eval]
                .iter()
                .any(|p| p.is_some());
            !prints && !original.encrypt && original.later == LaterOriginalArgs::default()
        }
    }
}

/// Runs the forms of the original README.
fn run_original(app: &App, original: OriginalArgs) -> Result<()> {
    if let Some(profile) = original.show_encrypted {
        return show::as_stored(app, &profile);
    }
    if let Some(profile) = original.show_decrypted {
        return show::opened(app, &profile);
    }
    if let Some(profile) = original.eval {
        // In the original's version 0.2, no name means the configured profile, else `default`.
        let set = Some(profile).filter(|name| !name.is_empty());
        let profile = set.as_deref().or_else(|| app.named_manager()).unwrap_or("default");
        return environment::print(app, profile, "sh", ProvideOptions::default());
    }
    if original.encrypt {
        if let Some(name) = original.name.filter(|name| Some(name.as_str()) != app.manager_name()) {
            return Err(Error::usage(
                "--encrypt seals the manager profile; temporary credentials stay plain",
            )
            .hint("Seal the manager:   iam-sorry --profile MANAGER --encrypt")
            .hint(format!("Seal this profile:  iam-sorry encrypt '{name}'")));
        }
        let manager = app.manager_name().ok_or_else(no_manager)?;
        return encrypt::encrypt(app, manager, false);
    }
    if original.later != LaterOriginalArgs::default() {
        return original::run(app, original.later, original.name.as_deref());
    }
    match original.name {
        Some(name) => refresh::run(
            app,
            &refresh::RefreshRequest { names: vec![name], all: false, keep_key: original.keep_key },
        ),
        None if manager::is_key_to_set_up(app)? => manager::set_up(app),
        None => refresh::default_profile(app),
    }
}

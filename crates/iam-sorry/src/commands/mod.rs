//! One module a verb, or a few that share their work. Each takes the [`App`] and its own typed arguments.

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

/// Runs the verb, or the original tool's form that the flags spell.
pub fn run(app: &App, verb: Option<Verb>, seed: OriginalArgs, core_limit: CoreLimit) -> Result<ExitCode> {
    if !sees_to_leftovers(verb.as_ref(), &seed) {
        recovery::finish(app, recovery::RecoveryMode::Opportunistic)?;
    }
    let Some(verb) = verb else { return run_seed(app, seed).map(|()| ExitCode::SUCCESS) };
    if seed != OriginalArgs::default() {
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
            environment::print(app, &target, &shell, ProvideOptions { session, make: true })
        }
        Verb::Unset { shell } => environment::unset(app, &shell),
        Verb::CredentialProcess { target, session } => environment::credential_process(app, &target, session),
        Verb::List { json } => list::run(app, json),
        Verb::Doctor { json, offline, fix } => {
            if fix {
                doctor_fix::run(app)?;
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

/// Refreshing, rotating and `doctor` finish what a dead run left by themselves, with more patience (`doctor --offline`
/// not at all). Two more run at every prompt and every TAB, and promise to ask no AWS service.
fn sees_to_leftovers(verb: Option<&Verb>, seed: &OriginalArgs) -> bool {
    match verb {
        Some(Verb::Refresh { .. } | Verb::Rotate { .. } | Verb::Doctor { .. }) => true,
        // The service's verbs have nothing to do with what a manager's run left.
        Some(Verb::Profiles | Verb::Status { .. } | Verb::Service(_)) => true,
        Some(_) => false,
        None => {
            let shows = [&seed.show_encrypted, &seed.show_decrypted, &seed.eval].iter().any(|p| p.is_some());
            !shows && !seed.encrypt && seed.later == LaterOriginalArgs::default()
        }
    }
}

/// The forms of the original README.
fn run_seed(app: &App, seed: OriginalArgs) -> Result<()> {
    if let Some(profile) = seed.show_encrypted {
        return show::as_stored(app, &profile);
    }
    if let Some(profile) = seed.show_decrypted {
        return show::opened(app, &profile);
    }
    if let Some(profile) = seed.eval {
        // The original of 0.2: no name means the profile that is set, else `default`.
        let set = Some(profile).filter(|name| !name.is_empty());
        let profile = set.as_deref().or_else(|| app.named_manager()).unwrap_or("default");
        return environment::print(app, profile, "sh", ProvideOptions::default());
    }
    if seed.encrypt {
        if let Some(name) = seed.name.filter(|name| Some(name.as_str()) != app.manager_name()) {
            return Err(Error::usage(
                "--encrypt seals the manager profile; temporary credentials stay plain",
            )
            .hint("Seal the manager:   iam-sorry --profile MANAGER --encrypt")
            .hint(format!("Seal this profile:  iam-sorry encrypt '{name}'")));
        }
        let manager = app.manager_name().ok_or_else(no_manager)?;
        return encrypt::encrypt(app, manager, false);
    }
    if seed.later != LaterOriginalArgs::default() {
        return original::run(app, seed.later, seed.name.as_deref());
    }
    match seed.name {
        Some(name) => refresh::run(
            app,
            &refresh::RefreshRequest { names: vec![name], all: false, keep_key: seed.keep_key },
        ),
        None if manager::is_handed_over(app)? => manager::set_up(app),
        None => refresh::default_profile(app),
    }
}

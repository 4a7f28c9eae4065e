//! The department service `iam-sorryd`: people sign in, rules decide, IAM actions are done on their behalf under the
//! service's own identity, and everything is written down under the person's name.
//!
//! | room          | what it is                                                                                |
//! |---------------|-------------------------------------------------------------------------------------------|
//! | `config/`     | one TOML file, read and checked once; imported by `commands/` alone                       |
//! | `login/`      | the methods to sign in; each proves an `Identity` and nothing else                        |
//! | `sessions/`   | the one door of sign-in, sessions, and the people that they belong to                     |
//! | `authz/`      | the question put to the rules, and the rules in force                                     |
//! | `actions/`    | what people may have done                                                                 |
//! | `operations/` | the engine: intent, act, outcome, and the reconciler                                      |
//! | `accounts/`   | the AWS account: the handle to it, the service's identity, tags                           |
//! | `audit/`      | the trail, its export, checkpoints and sinks                                              |
//! | `http/`       | the API: requests in, answers and problems out                                            |
//! | `web/`        | the pages                                                                                 |
//! | `commands/`   | the verbs of `iam-sorryd`                                                                 |
//!
//! A library only so that its tests reach the services without a network; the product is the program.

/// `planted!("name": bad, good)`, or `planted!("name": bad)` for a step too many: a fault that the simulator must find, in a build of its own. Elsewhere, only what is good is
/// compiled.
#[cfg(feature = "simulation")]
macro_rules! planted {
    ($name:literal: $bad:expr, $good:expr) => {
        if iam_sorry_store::simulation::is_planted($name) { $bad } else { $good }
    };
    ($name:literal: $bad:expr) => {
        if iam_sorry_store::simulation::is_planted($name) {
            $bad;
        }
    };
}
#[cfg(not(feature = "simulation"))]
macro_rules! planted {
    ($name:literal: $bad:expr, $good:expr) => {
        $good
    };
    ($name:literal: $bad:expr) => {};
}

pub mod accounts;
pub mod actions;
pub mod audit;
pub mod authz;
pub mod caller;
pub mod clock;
pub mod commands;
pub mod config;
pub mod error;
pub mod files;
pub mod http;
pub mod login;
pub mod operations;
mod random_name;
mod runtime;
pub mod secret_ref;
pub mod service;
pub mod sessions;
mod shell;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod web;

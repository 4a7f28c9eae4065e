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

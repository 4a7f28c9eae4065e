//! The department service `iam-sorryd`: people sign in, rules decide, IAM actions are done on their behalf under the
//! service's own identity, and everything is written down under the person's name.
//!
//! | room        | what it is                                                                            |
//! |-------------|---------------------------------------------------------------------------------------|
//! | `config/`   | one TOML file, read and checked once; secrets by reference                            |
//! | `login/`    | the ways to sign in; each proves an `Identity` and nothing else                       |
//! | `services/` | what the service does: decide, write the intent, act, write the outcome               |
//! | `http/`     | the API: requests in, answers and problems out                                        |
//! | `web/`      | the pages                                                                             |
//! | `commands/` | the verbs of `iam-sorryd`                                                             |
//!
//! A library only so that its tests reach the services without a network; the product is the program.

pub mod commands;
pub mod config;
pub mod files;
pub mod http;
pub mod login;
pub mod services;
pub mod web;

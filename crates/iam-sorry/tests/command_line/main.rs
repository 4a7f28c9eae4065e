//! The command line as the people who use it meet it: the real binary with real agents, shells and AWS clients, in homes
//! of people who do not exist. One module a theme; what they share is in `support`.

mod bad_input;
mod exec;
mod faulty_agents;
mod help;
mod sealed_values;
mod sealing;
mod secrets;
mod seed_commands;
mod seed_eval;
mod several_keys;
mod shared_files;
mod support;

//! Our reading of the shared AWS files against the AWS SDK's own parser, on the same text.
//!
//! Where the SDK refuses a file we refuse it, on the same line; where it reads one, every profile and setting that it sees
//! has the same value with us. Names that the SDK skips and boto3 reads (spaces, quotes) are ours in addition.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helper functions")]

use std::collections::BTreeSet;

use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_runtime::env_config::section::EnvConfigSections;
use aws_types::os_shim_internal::{Env, Fs};
use iam_sorry_core::aws_files::{Document, FileKind, every_sdk_reads};
use proptest::prelude::*;

fn as_the_sdk_reads(kind: FileKind, text: &str) -> Result<EnvConfigSections, String> {
    let kind = match kind {
        FileKind::Config => EnvConfigFileKind::Config,
        FileKind::Credentials => EnvConfigFileKind::Credentials,
    };
    let files = EnvConfigFiles::builder().with_contents(kind, text).build();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (env, fs) = (Env::from_slice(&[]), Fs::from_slice(&[]));
    let source = runtime.block_on(aws_runtime::env_config::source::load(&env, &fs, &files)).unwrap();
    EnvConfigSections::parse(source).map_err(|error| error.to_string())
}

fn compare(kind: FileKind, text: &str) -> Result<(), TestCaseError> {
    let ours = Document::parse(text.as_bytes(), kind);
    let sdk = match as_the_sdk_reads(kind, text) {
        Ok(sdk) => sdk,
        Err(theirs) => {
            let ours = ours.map_err(|error| error.line);
            prop_assert!(ours.is_err(), "the SDK refuses this, we do not: {theirs}");
            let line = format!("on line {}:", ours.unwrap_err());
            prop_assert!(theirs.contains(&line), "{theirs}, ours is {line}");
            return Ok(());
        }
    };
    prop_assert!(ours.is_ok(), "the SDK reads this, we do not: {:?}", ours.err());
    let ours = ours.unwrap();
    // `[]` is a profile without a name to the SDK, and to nobody else.
    let theirs: BTreeSet<&str> = sdk.profiles().filter(|name| !name.is_empty()).collect();
    let readable = ours.profiles().into_iter().filter(|name| every_sdk_reads(name));
    prop_assert_eq!(readable.collect::<BTreeSet<_>>(), theirs.clone());
    for name in theirs {
        let profile = sdk.get_profile(name).unwrap();
        // The SDK doesn't list a profile's keys, so everything that could be one is asked for.
        let keys: BTreeSet<String> = text
            .lines()
            .filter_map(|line| Some(line.split_once('=')?.0.trim_matches([' ', '\t']).to_ascii_lowercase()))
            .collect();
        for key in &keys {
            prop_assert_eq!(ours.value(name, key), profile.get(key), "{} of {}", key, name);
        }
        for (key, value) in ours.entries(name) {
            prop_assert_eq!(Some(value), profile.get(key), "{} of {}", key, name);
        }
    }
    Ok(())
}

/// One spelling for each name: the SDK merges `[a]` and `[ a ]` in the random order of a hash table.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop_oneof![
            Just("[a]"), Just("[ b\t]"), Just("[profile a]"), Just("[ profile \tb ] ; x"), Just("[profile c]# y"),
            Just("[default]"), Just("[profile default]"), Just("[sso-session a]"), Just("[services s]"),
            Just("[profile d e]"), Just("[d e]"), Just("[profile]"), Just("[profilea]"), Just("[]"), Just("[a]]"),
            Just("[profile ü]"), Just("[ü]"), Just("[\u{a0}f\u{a0}]"), Just("[profile\t\u{a0}f]"),
            Just("[profile\u{a0} g]"), Just("[\u{a0} g]"),
        ].prop_map(str::to_owned),
        6 => "[k-mK-M_.:ü ]{1,3}[ \t]?=[ \t]?[a-c=\u{a0}]{0,3}([ \t\u{a0}]?[#;] ?c)?[ \t]?",
        2 => "[ \t]{1,2}[x-z ]{0,2}=? ?[a-c]{0,2} ?[#;]?",
        1 => "[#;][a-c= \\[]{0,3}",
        1 => "[ \t\r]{0,3}",
    ]
}

fn file() -> impl Strategy<Value = String> {
    let ending = prop_oneof![6 => Just("\n"), 2 => Just("\r\n"), 1 => Just("\r\r\n")];
    let first = prop_oneof![Just("[a]\n"), Just("[profile a]\n"), Just("")];
    (first, proptest::collection::vec((line(), ending), 0..10), any::<bool>()).prop_map(
        |(first, lines, closed)| {
            let rest = lines.into_iter().map(|(line, ending)| line + ending);
            let mut text: String = std::iter::once(first.to_owned()).chain(rest).collect();
            if !closed {
                text.pop();
            }
            text
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn files_as_people_write_them(text in file(), config: bool) {
        compare(if config { FileKind::Config } else { FileKind::Credentials }, &text)?;
    }

    #[test]
    fn lines_of_anything(text in "(\\[a\\]\n|\\[profile a\\]\n)?([\\[\\]=#; \t\r\n:aAü\u{85}\u{feff}]){0,25}", config: bool) {
        compare(if config { FileKind::Config } else { FileKind::Credentials }, &text)?;
    }

    #[test]
    fn what_we_write(
        text in file(), config: bool, name in "[a-c]|default|h", key in "[k-n]|aws_session_token",
        value in "[a-zA-Z0-9/+=:._#-]{0,20}",
    ) {
        let kind = if config { FileKind::Config } else { FileKind::Credentials };
        if let Ok(mut document) = Document::parse(text.as_bytes(), kind) && document.set(&name, &key, &value).is_ok() {
            let written = String::from_utf8(document.render()).unwrap();
            let sdk = as_the_sdk_reads(kind, &written).unwrap();
            prop_assert_eq!(sdk.get_profile(&name).and_then(|profile| profile.get(&key)), Some(value.as_str()));
            compare(kind, &written)?;
        }
    }
}

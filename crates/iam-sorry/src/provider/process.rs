//! `credential_process` lines: recognises iam-sorry's own, and runs another program's if a role needs its credentials.

use std::io::Read;
use std::process::{Command, Stdio};

use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::process_json;
use iam_sorry_core::timestamp::human_duration;
use zeroize::Zeroizing;

use crate::app::App;
use crate::error::{Error, Result};
use crate::profile::Profile;
use crate::settings::{IN_PROGRESS_VARIABLE, TOKEN};

use super::in_progress::InProgress;

/// Larger output is not read.
const LARGEST: u64 = 64 << 10;

/// The profile in a line that `encrypt --process` wrote: `".../iam-sorry" credential-process NAME`.
pub fn own_line_profile(line: &str) -> Option<String> {
    let words = split(line)?;
    let [program, verb, name] = words.as_slice() else { return None };
    let program = program.rsplit('/').next()?;
    (program == "iam-sorry" && verb == "credential-process" && !name.starts_with('-')).then(|| name.clone())
}

/// Runs the program, without a shell, and parses its output.
pub fn run(app: &App, profile: &Profile, line: &str, in_progress: &InProgress) -> Result<Credentials> {
    let name = &profile.name;
    let config = app.settings.config_file.display();
    let failed = |what: String| {
        Error::profile(format!("The credential_process of profile '{name}' gave no credentials: {what}"))
            .hint(format!("It stands in [profile {name}] in {config}: {line}"))
    };
    let words = split(line).filter(|words| !words.is_empty());
    let words = words.ok_or_else(|| failed("a quotation mark has no end".into()))?;
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .env_remove(TOKEN)
        .env(IN_PROGRESS_VARIABLE, in_progress.lines())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| failed(format!("{} can't be run: {e}", words[0])))?;
    let mut output = Zeroizing::new(Vec::with_capacity(8192));
    let read = child.stdout.take().map(|out| out.take(LARGEST).read_to_end(&mut output));
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    if !status.success() {
        return Err(failed(format!("{} ended with {status}", words[0])));
    }
    if let Some(Err(e)) = read {
        return Err(failed(e.to_string()));
    }
    let credentials = process_json::read(&output).map_err(|e| failed(e.to_string()))?;
    match credentials.seconds_left(app.now()) {
        Some(left) if left <= 0 => Err(failed(format!("they expired {} ago", human_duration(-left)))),
        _ => Ok(credentials),
    }
}

/// Splits words as a POSIX shell does, with quotes and backslashes but nothing else, like botocore. `None` if a quote
/// is not closed.
fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => match chars.next()? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_lines() {
        let name = |line| own_line_profile(line);
        assert_eq!(name("\"/opt/my tools/iam-sorry\" credential-process user"), Some("user".into()));
        assert_eq!(name("iam-sorry credential-process \"my profile\""), Some("my profile".into()));
        assert_eq!(name("/opt/iam-sorry-wrapper credential-process user"), None);
        assert_eq!(name("iam-sorry credential-process --session user"), None);
        assert_eq!(name("aws-vault export --format=json user"), None);
        assert_eq!(name("\"iam-sorry credential-process user"), None);
    }

    proptest::proptest! {
        #[test]
        fn quoted_words_come_back(words in proptest::collection::vec("\\PC*", 0..5)) {
            let single: Vec<String> = words.iter().map(|w| format!("'{}'", w.replace('\'', "'\\''"))).collect();
            proptest::prop_assert_eq!(split(&single.join(" ")), Some(words.clone()));
            let double: Vec<String> =
                words.iter().map(|w| format!("\"{}\"", w.replace('\\', "\\\\").replace('"', "\\\""))).collect();
            proptest::prop_assert_eq!(split(&double.join("\t")), Some(words));
        }

        #[test]
        fn any_line_is_no_panic(line in "\\PC*") {
            let _ = split(&line);
        }
    }
}

//! Shell text: the variables that hand credentials to a process, and the lines that set them in a shell.
//!
//! A value either comes out of the shell exactly as it went in, or is refused. There is no third way: text that almost
//! works is how a secret key is cut at a space, or how a file name in a shared folder becomes a command.

use std::fmt;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::credentials::{Credentials, push_json_string};

/// Everything that `env` may have set, hence what `unset` takes out.
const SET: [&str; 6] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
];

/// What would turn a tool away from the credentials that are being set: another profile, a token of another session
/// (botocore reads AWS_SECURITY_TOKEN before AWS_SESSION_TOKEN), a container's endpoint.
const IN_THE_WAY: [&str; 8] = [
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SECURITY_TOKEN",
    "AWS_CREDENTIAL_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

/// Punctuation without a meaning to any shell here, quoted or not; with letters and digits, all that AWS itself uses.
const PLAIN: &str = "_+/=:.,@%-";

/// Punctuation that single quotes make harmless and that no word splitting or pathname expansion looks at.
const QUOTABLE: &str = "!;&'\"$`";

/// A shell, or a format that tools read variables from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// GNU bash.
    Bash,
    /// zsh.
    Zsh,
    /// Any POSIX shell: dash, busybox, ksh.
    Sh,
    /// fish: `iam-sorry env P --shell fish | source`.
    Fish,
    /// csh and tcsh.
    Tcsh,
    /// PowerShell: `iam-sorry env P --shell powershell | Out-String | Invoke-Expression`.
    Powershell,
    /// Windows' cmd.exe, in a batch file or by `for /f "delims=" %i in ('iam-sorry env P --shell cmd') do @%i`.
    Cmd,
    /// nushell, which has no eval: `nu -c`, or `iam-sorry env P --shell json | from json | load-env`.
    Nushell,
    /// A `.env` file as `docker --env-file`, compose and python-dotenv read it.
    Dotenv,
    /// One JSON object, name to value.
    Json,
}

impl Shell {
    /// All of them, in the order in which help lists them.
    #[rustfmt::skip]
    pub const ALL: [Self; 10] = [
        Self::Bash, Self::Zsh, Self::Sh, Self::Fish, Self::Tcsh,
        Self::Powershell, Self::Cmd, Self::Nushell, Self::Dotenv, Self::Json,
    ];

    /// The name that `--shell` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Sh => "sh",
            Self::Fish => "fish",
            Self::Tcsh => "tcsh",
            Self::Powershell => "powershell",
            Self::Cmd => "cmd",
            Self::Nushell => "nushell",
            Self::Dotenv => "dotenv",
            Self::Json => "json",
        }
    }

    /// Whether text for this shell can hold the character and give it back. NUL never: no environment can.
    fn carries(self, c: char) -> bool {
        let plain = c.is_ascii_alphanumeric() || PLAIN.contains(c);
        match self {
            // The text must live through an unquoted `eval $(...)`, where splitting, patterns and their escapes are
            // applied before any quote counts: no blank, no * ? [ \, no ( of bash's extglob, no # ^ ~ < > | of zsh's.
            Self::Bash | Self::Zsh | Self::Sh => plain || QUOTABLE.contains(c),
            // csh: an unquoted backtick, and history (!), that no quotes stop. dotenv: every reader has other quotes.
            Self::Tcsh | Self::Dotenv => plain,
            // Batch files expand % inside quotes, an interactive line does not: no text is right for both.
            Self::Cmd => plain && c != '%',
            // Invoke-Expression may see line by line, and the console's code page decides over what is not ASCII.
            Self::Powershell => (' '..='~').contains(&c),
            Self::Fish | Self::Nushell | Self::Json => c != '\0',
        }
    }
}

impl fmt::Display for Shell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Shell {
    type Err = ShellError;

    fn from_str(text: &str) -> Result<Self, ShellError> {
        match text.to_ascii_lowercase().as_str() {
            "dash" | "ksh" | "posix" => Ok(Self::Sh),
            "pwsh" => Ok(Self::Powershell),
            "nu" => Ok(Self::Nushell),
            "csh" => Ok(Self::Tcsh),
            name => Self::ALL
                .into_iter()
                .find(|shell| shell.name() == name)
                .ok_or_else(|| ShellError::Unknown { name: text.to_owned() }),
        }
    }
}

/// Why there is no text for a shell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShellError {
    /// `--shell` names none of ours.
    #[error("no shell or format is called {name:?}\nUse one of: {}", Shell::ALL.map(Shell::name).join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// A value that the shell would change. Which character it is stays unsaid: it is a part of a secret.
    #[error(
        "the value of {variable} has a character that text for {shell} can't carry unchanged\n\
         Hand it over without a shell: iam-sorry exec PROFILE -- COMMAND"
    )]
    CannotCarry {
        /// The shell.
        shell: Shell,
        /// The variable, not its value.
        variable: &'static str,
    },
    /// dotenv and json only ever say what is set.
    #[error(
        "{shell} has no way to say that a variable is to be taken out\nName a shell: iam-sorry unset --shell bash"
    )]
    NoUnset {
        /// The format.
        shell: Shell,
    },
}

/// What is to change in an environment; `exec` applies it to a child, [`render`] writes it for a shell.
#[derive(Clone, Debug)]
pub struct Variables {
    /// To be set, after `unset` was taken out. Never a name that `unset` has too.
    pub set: Vec<(&'static str, SecretString)>,
    /// To be taken out first.
    pub unset: Vec<&'static str>,
}

/// The variables that hand credentials to AWS tools. Without a `region`, a region that is already set stays.
pub fn environment(credentials: &Credentials, region: Option<&str>) -> Variables {
    let mut unset = IN_THE_WAY.to_vec();
    let mut set = vec![
        ("AWS_ACCESS_KEY_ID", SecretString::from(credentials.access_key_id.clone())),
        ("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key.clone()),
    ];
    match &credentials.session_token {
        Some(token) => set.push(("AWS_SESSION_TOKEN", token.clone())),
        None => unset.push("AWS_SESSION_TOKEN"),
    }
    match credentials.expiration {
        Some(at) => set.push(("AWS_CREDENTIAL_EXPIRATION", at.to_string().into())),
        None => unset.push("AWS_CREDENTIAL_EXPIRATION"),
    }
    if let Some(region) = region {
        set.extend([("AWS_REGION", region.into()), ("AWS_DEFAULT_REGION", region.into())]);
    }
    Variables { set, unset }
}

/// The lines that make the change in a shell; dotenv and json say only what is set.
///
/// Text for bash, zsh and sh means the same under `eval "$(...)"` and `eval $(...)`: every statement ends in `;`, and
/// no value holds what the unquoted form would split or expand.
///
/// # Errors
/// [`ShellError::CannotCarry`] for a value that would not come out exactly.
pub fn render(shell: Shell, variables: &Variables) -> Result<Zeroizing<String>, ShellError> {
    for &(variable, ref value) in &variables.set {
        if !value.expose_secret().chars().all(|c| shell.carries(c)) {
            return Err(ShellError::CannotCarry { shell, variable });
        }
    }
    // Room for the longest form of every byte (`\u001f`, `'"'"'`): a buffer that grew would leave copies unwiped.
    let room =
        variables.set.iter().map(|(name, value)| 2 * name.len() + 6 * value.expose_secret().len() + 64);
    let mut text = Zeroizing::new(String::with_capacity(1024 + room.sum::<usize>()));
    take_out(&mut text, shell, &variables.unset);
    let values = variables.set.iter().map(|(name, value)| (*name, value.expose_secret()));
    match shell {
        Shell::Json => push_object(&mut text, values, push_json_string),
        Shell::Nushell => {
            text.push_str("load-env ");
            push_object(&mut text, values, push_nushell_string);
        }
        _ => values.for_each(|(name, value)| push_assignment(&mut text, shell, name, value)),
    }
    Ok(text)
}

/// The lines that take out everything that [`render`] may have set.
///
/// # Errors
/// [`ShellError::NoUnset`] for dotenv and json.
pub fn render_unset(shell: Shell) -> Result<String, ShellError> {
    if matches!(shell, Shell::Dotenv | Shell::Json) {
        return Err(ShellError::NoUnset { shell });
    }
    let mut text = String::new();
    take_out(&mut text, shell, &SET);
    Ok(text)
}

fn take_out(text: &mut String, shell: Shell, names: &[&str]) {
    if names.is_empty() {
        return;
    }
    let each = |before, after| names.iter().map(|name| format!("{before}{name}{after}")).collect::<String>();
    match shell {
        Shell::Bash | Shell::Zsh | Shell::Sh => text.push_str(&format!("unset{};\n", each(" ", ""))),
        Shell::Fish => text.push_str(&format!("set -e{};\n", each(" ", ""))),
        Shell::Tcsh => text.push_str(&each("unsetenv ", ";\n")),
        Shell::Powershell => text.push_str(&each("Remove-Item -ErrorAction SilentlyContinue Env:", ";\n")),
        Shell::Cmd => text.push_str(&each("set \"", "=\"\n")),
        Shell::Nushell => text.push_str(&format!("hide-env --ignore-errors{}\n", each(" ", ""))),
        Shell::Dotenv | Shell::Json => {}
    }
}

/// One statement, of characters that [`Shell::carries`] let through.
fn push_assignment(text: &mut String, shell: Shell, name: &str, value: &str) {
    let (before, between, after) = match shell {
        Shell::Fish => ("set -gx ", " '", "';\n"),
        Shell::Tcsh => ("setenv ", " '", "';\n"),
        Shell::Powershell => ("$env:", " = '", "';\n"),
        Shell::Cmd => ("set \"", "=", "\"\n"),
        Shell::Dotenv => ("", "=", "\n"),
        _ => ("export ", "='", "';\n"),
    };
    text.extend([before, name, between]);
    let mut last = '=';
    for c in value.chars() {
        match (shell, c) {
            // zsh (GLOB_SUBST, MAGIC_EQUAL_SUBST) takes `:=ls` of an unquoted text for the path of ls.
            (Shell::Bash | Shell::Zsh | Shell::Sh, '=') if last == ':' => text.push_str("'\"=\"'"),
            // Not '\'': the backslash counts as a pattern's in bash 5.0 when the text is unquoted.
            (Shell::Bash | Shell::Zsh | Shell::Sh, '\'') => text.push_str("'\"'\"'"),
            (Shell::Powershell, '\'') => text.push_str("''"),
            (Shell::Fish, '\'' | '\\') => text.extend(['\\', c]),
            // Control characters stand outside the quotes, so that `eval (...)`, which splits at newlines, works too.
            (Shell::Fish, c) if c.is_ascii_control() => {
                text.push_str("'\\x");
                push_hex(text, c);
                text.push('\'');
            }
            _ => text.push(c),
        }
        last = c;
    }
    text.push_str(after);
}

fn push_object<'a>(
    text: &mut String,
    values: impl Iterator<Item = (&'a str, &'a str)>,
    push_string: fn(&mut String, &str),
) {
    for (at, (name, value)) in values.enumerate() {
        text.push_str(if at == 0 { "{" } else { ", " });
        push_string(text, name);
        text.push_str(": ");
        push_string(text, value);
    }
    text.push_str("}\n");
}

/// nushell's double-quoted string: a backslash escapes, a character by number is `\u{hex}`, and `$` means nothing.
fn push_nushell_string(text: &mut String, value: &str) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c.is_ascii_control() => {
                text.push_str("\\u{");
                push_hex(text, c);
                text.push('}');
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

/// Two digits for an ASCII character, with no buffer in between that nobody would wipe.
fn push_hex(text: &mut String, c: char) {
    for digit in [u32::from(c) >> 4 & 15, u32::from(c) & 15] {
        text.extend(char::from_digit(digit, 16));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timestamp::Timestamp;

    fn temporary(secret: &str) -> Variables {
        let credentials = Credentials {
            access_key_id: "ASIAEXAMPLE".into(),
            secret_access_key: secret.into(),
            session_token: Some("to/ken==".into()),
            expiration: Timestamp::from_unix(1_761_480_000),
        };
        environment(&credentials, Some("us-west-2"))
    }

    fn just(value: &str) -> Variables {
        Variables {
            set: vec![("AWS_REGION", value.into())],
            unset: vec!["AWS_PROFILE", "AWS_SECURITY_TOKEN"],
        }
    }

    #[test]
    fn permanent_credentials_take_an_old_session_out() {
        let key = crate::credentials::AccessKey { id: "AKIAEXAMPLE".into(), secret: "s".into() };
        let variables = environment(&key.into(), None);
        let names: Vec<_> = variables.set.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]);
        for stale in ["AWS_SESSION_TOKEN", "AWS_CREDENTIAL_EXPIRATION", "AWS_SECURITY_TOKEN", "AWS_PROFILE"] {
            assert!(variables.unset.contains(&stale), "{stale}");
        }
        assert!(!variables.unset.contains(&"AWS_REGION"), "a region set by hand stays");
    }

    #[test]
    fn nothing_is_both_set_and_taken_out() {
        let variables = temporary("s");
        assert_eq!(variables.set.len(), SET.len());
        assert!(variables.set.iter().all(|(name, _)| SET.contains(name) && !variables.unset.contains(name)));
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", temporary("hunter2"));
        assert!(!shown.contains("hunter2") && !shown.contains("to/ken"), "{shown}");
    }

    #[test]
    fn posix_text_is_the_seeds_with_semicolons() {
        let text = render(Shell::Sh, &temporary("a/b+c=")).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("unset AWS_PROFILE AWS_DEFAULT_PROFILE "), "{}", lines[0]);
        assert_eq!(
            lines[1..],
            [
                "export AWS_ACCESS_KEY_ID='ASIAEXAMPLE';",
                "export AWS_SECRET_ACCESS_KEY='a/b+c=';",
                "export AWS_SESSION_TOKEN='to/ken==';",
                "export AWS_CREDENTIAL_EXPIRATION='2025-10-26T12:00:00Z';",
                "export AWS_REGION='us-west-2';",
                "export AWS_DEFAULT_REGION='us-west-2';",
            ]
        );
        assert!(lines.iter().all(|line| line.ends_with(';')));
    }

    #[test]
    fn the_other_shells_by_their_documented_quoting() {
        let cases = [
            (
                Shell::Fish,
                "a'\\\n",
                "set -e AWS_PROFILE AWS_SECURITY_TOKEN;\nset -gx AWS_REGION 'a\\'\\\\'\\x0a'';\n",
            ),
            (
                Shell::Tcsh,
                "a/b",
                "unsetenv AWS_PROFILE;\nunsetenv AWS_SECURITY_TOKEN;\nsetenv AWS_REGION 'a/b';\n",
            ),
            (
                Shell::Powershell,
                "a'$b `",
                "Remove-Item -ErrorAction SilentlyContinue Env:AWS_PROFILE;\n\
                 Remove-Item -ErrorAction SilentlyContinue Env:AWS_SECURITY_TOKEN;\n$env:AWS_REGION = 'a''$b `';\n",
            ),
            (
                Shell::Cmd,
                "a/b",
                "set \"AWS_PROFILE=\"\nset \"AWS_SECURITY_TOKEN=\"\nset \"AWS_REGION=a/b\"\n",
            ),
            (
                Shell::Nushell,
                "a\"\\\t$b",
                "hide-env --ignore-errors AWS_PROFILE AWS_SECURITY_TOKEN\n\
                 load-env {\"AWS_REGION\": \"a\\\"\\\\\\u{09}$b\"}\n",
            ),
            (Shell::Dotenv, "a/b==", "AWS_REGION=a/b==\n"),
            (Shell::Json, "a\"\n", "{\"AWS_REGION\": \"a\\\"\\u000a\"}\n"),
        ];
        for (shell, value, expected) in cases {
            assert_eq!(render(shell, &just(value)).unwrap().as_str(), expected, "{shell}");
        }
    }

    #[test]
    fn what_a_shell_would_change_is_refused_without_showing_it() {
        let cases = [
            (
                Shell::Sh,
                vec!["a b", "a\tb", "a\nb", "*", "?", "[a]", "\\", "+(a)", "#", "~", "<1-9>", "é", "\0"],
            ),
            (Shell::Tcsh, vec!["a b", "!", "$x", "`x`", "'", "\n"]),
            (Shell::Dotenv, vec!["a b", "#", "$x", "'a'", "\"a\"", "\\n", "a\nB=c"]),
            (Shell::Cmd, vec!["%PATH%", "a\"b", "a&b", "a^b", "a!b!", "a\r\nb"]),
            (Shell::Powershell, vec!["a\nb", "\u{2019}; calc; \u{2019}", "\x1b"]),
            (Shell::Fish, vec!["\0"]),
            (Shell::Nushell, vec!["\0"]),
            (Shell::Json, vec!["\0"]),
        ];
        for (shell, values) in cases {
            for value in values {
                let error = render(shell, &just(&format!("hunter2{value}"))).unwrap_err();
                assert_eq!(
                    error,
                    ShellError::CannotCarry { shell, variable: "AWS_REGION" },
                    "{shell} {value:?}"
                );
                assert!(!format!("{error} {error:?}").contains("hunter2"));
            }
        }
    }

    #[test]
    fn the_buffer_never_grows() {
        for shell in Shell::ALL {
            for worst in ["\x01", "'", "\"", "\\", "a"] {
                if let Ok(text) = render(shell, &just(&worst.repeat(4096))) {
                    assert!(
                        text.capacity() <= 1024 + 2 * 10 + 6 * 4096 + 64,
                        "{shell} {worst:?}: {}",
                        text.capacity()
                    );
                }
            }
        }
    }

    #[test]
    fn names_lead_back_to_shells() {
        for shell in Shell::ALL {
            assert_eq!(shell.to_string().parse(), Ok(shell));
        }
        assert_eq!("pwsh".parse(), Ok(Shell::Powershell));
        let error = "elvish".parse::<Shell>().unwrap_err().to_string();
        assert!(error.contains("\"elvish\"") && error.contains("nushell, dotenv, json"), "{error}");
    }

    #[test]
    fn unset_names_all_that_env_sets() {
        for shell in Shell::ALL {
            match render_unset(shell) {
                Ok(text) => assert!(SET.iter().all(|name| text.contains(name)), "{shell}: {text}"),
                Err(error) => assert_eq!(error, ShellError::NoUnset { shell }),
            }
        }
        assert_eq!(render_unset(Shell::Bash).unwrap(), format!("unset {};\n", SET.join(" ")));
    }

    proptest::proptest! {
        #[test]
        fn json_gives_back_any_value(value in "\\PC*|[\\x01-\\x7f]*") {
            let read: serde_json::Value = serde_json::from_str(&render(Shell::Json, &just(&value)).unwrap()).unwrap();
            proptest::prop_assert_eq!(read["AWS_REGION"].as_str(), Some(value.as_str()));
        }
    }
}

//! `completions SHELL`: clap's completions, plus profile names for bash, zsh and fish.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::app::App;
use crate::args::{Cli, CompletionShell};
use crate::error::Result;

/// Verbs whose arguments are profile names.
const VERBS: &str = "refresh encrypt decrypt migrate reseal rename exec serve-credentials shell env credential-process rotate";

/// Wraps clap's function: adds profile names, and drops the placeholders (`<PROFILE>`) that nobody types.
const BASH: &str = r#"
_iam_sorry_profiles() {
    local name
    while IFS= read -r name; do
        if [[ $name == "$1"* ]]; then COMPREPLY+=("$(printf '%q' "$name")"); fi
    done < <(command iam-sorry __profiles 2>/dev/null)
}
_iam_sorry_with_profiles() {
    local current="${COMP_WORDS[COMP_CWORD]}" verb="" word value=no reply
    case "${COMP_WORDS[COMP_CWORD-1]}" in
        --profile|--show-encrypted|--show-decrypted|--eval) COMPREPLY=(); _iam_sorry_profiles "$current"; return 0 ;;
    esac
    @CLAP@ "$@"
    local -a kept=()
    for reply in "${COMPREPLY[@]}"; do
        case "$reply" in '<'*|'['*|*']...') ;; *) kept+=("$reply") ;; esac
    done
    COMPREPLY=("${kept[@]}")
    if [[ $current == -* ]]; then return 0; fi
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [[ $value == yes ]]; then value=no; continue; fi
        case "$word" in
            --) return 0 ;;
            --profile|--duration|--ssh-key|--region|--mfa-code) value=yes ;;
            -*) ;;
            *) if [[ -z $verb ]]; then verb=$word; fi ;;
        esac
    done
    case " @VERBS@ " in *" $verb "*) _iam_sorry_profiles "$current" ;; *) if [[ -z $verb ]]; then _iam_sorry_profiles "$current"; fi ;; esac
    return 0
}
complete -F _iam_sorry_with_profiles -o bashdefault -o default iam-sorry
"#;

const ZSH: &str = r#"
_iam_sorry_profiles() {
    local -a names
    names=("${(@f)$(command iam-sorry __profiles 2>/dev/null)}")
    compadd -a names
}
_iam_sorry_verbs_and_profiles() {
    _alternative 'commands:command:_iam-sorry_commands' 'profiles:profile:_iam_sorry_profiles'
}
"#;

const FISH: &str = r#"
function __iam_sorry_profiles
    type --query --no-functions iam-sorry; and command iam-sorry __profiles 2>/dev/null
end
complete -c iam-sorry -n "__fish_iam_sorry_needs_command" -f -a "(__iam_sorry_profiles)"
complete -c iam-sorry -n "__fish_iam_sorry_using_subcommand @VERBS@" -f -a "(__iam_sorry_profiles)"
"#;

pub fn print(app: &App, shell: CompletionShell) -> Result<()> {
    let text = match shell {
        CompletionShell::Bash => {
            let clap = generated(Shell::Bash);
            // clap registers the function by its name.
            let function = clap.split_once("complete -F ").and_then(|(_, rest)| rest.split(' ').next());
            let more = BASH.replace("@CLAP@", function.unwrap_or(":"));
            clap + &more
        }
        CompletionShell::Zsh => zsh_with_names(&generated(Shell::Zsh)),
        CompletionShell::Fish => fish_with_names(&generated(Shell::Fish)) + FISH,
        CompletionShell::Elvish => generated(Shell::Elvish),
        CompletionShell::Powershell => generated(Shell::PowerShell),
    };
    app.out.raw(&text.replace("@VERBS@", VERBS))
}

/// Prints the profile names. Opens nothing, and prints no warning about a file that can't be read.
pub fn profiles(app: &App) -> Result<()> {
    let Ok((credentials, config)) = app.documents() else { return Ok(()) };
    let mut names = credentials.profiles();
    names.extend(config.profiles().into_iter().filter(|name| !credentials.contains(name)));
    app.out.raw(&names.into_iter().map(|name| format!("{name}\n")).collect::<String>())
}

fn generated(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "iam-sorry", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Options whose value is a profile complete no files. They have no condition, since clap's own fails while an option
/// still lacks its value.
fn fish_with_names(clap: &str) -> String {
    let options = [" -l profile -d ", " -l show-encrypted -d ", " -l show-decrypted -d ", " -l eval -d "];
    let mut text = String::with_capacity(clap.len() + 4096);
    for line in clap.lines() {
        match line.strip_suffix(" -r").filter(|line| options.iter().any(|option| line.contains(option))) {
            Some(start) => {
                let start = start.replace(" -n \"__fish_iam_sorry_needs_command\"", "");
                text.push_str(&format!("{start} -x -a \"(__iam_sorry_profiles)\""));
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// zsh's argument specifications end in their completer. For profiles it is replaced by iam-sorry's.
fn zsh_with_names(clap: &str) -> String {
    let places = ["':target", "':old", "'*::names", "'*::profiles"];
    let mut text = String::with_capacity(clap.len() + 512);
    for (number, line) in clap.lines().enumerate() {
        // clap expects NAME and then a verb, but they are alternatives.
        if line.starts_with("'::name") {
            continue;
        }
        let line = line.replace("$line[2]", "$line[1]");
        let line = line.replace("\":: :_iam-sorry_commands\"", "\":: :_iam_sorry_verbs_and_profiles\"");
        let is_profile =
            line.contains("]:PROFILE:_default'") || places.iter().any(|place| line.starts_with(place));
        text.push_str(&if is_profile { line.replace(":_default'", ":_iam_sorry_profiles'") } else { line });
        text.push('\n');
        if number == 0 {
            text.push_str(ZSH);
        }
    }
    text
}

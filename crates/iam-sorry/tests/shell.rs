//! `shell` in the real bash, zsh, fish and dash; and completions there that know the profiles.
#![expect(clippy::unwrap_used, reason = "a test fails where its rig does")]

use std::process::Command;

use testkit::{Creds, MachineOnAws, Outcome, Pty};

/// A machine with a sealed profile of IAM user `alice` and a temporary one that lasts an hour.
fn machine() -> (MachineOnAws, Creds) {
    let (machine, key) = MachineOnAws::with_user(env!("CARGO_BIN_EXE_iam-sorry"), "alice", &["iam:*"]);
    machine.run(&["encrypt", "alice"]).ok();
    let text = machine.home.credentials();
    let session = "[temp]\naws_access_key_id = ASIAEXAMPLE\naws_secret_access_key = temp-secret\n\
                   aws_session_token = t\nexpiration = 2099-01-01T00:00:00Z\n";
    machine.home.write_credentials(format!("{text}{session}"));
    (machine, key)
}

fn in_terminal(machine: &MachineOnAws, shell: &str, profile: &str) -> Pty {
    let mut command = Pty::command(&machine.home, env!("CARGO_BIN_EXE_iam-sorry"));
    command.args(["shell", profile]).env("SHELL", shell);
    Pty::spawn(command)
}

/// The person's own settings are read, and the profile stands before their prompt.
#[track_caller]
fn shows_its_profile(shell: &str, settings: &[(&str, &str)], own_prompt: &str) {
    let (machine, _) = machine();
    for (path, text) in settings {
        machine.home.write_mode(path, text, 0o600);
    }
    let mut pty = in_terminal(&machine, shell, "temp");
    let told = pty.expect("Leave with: exit");
    assert!(
        told.contains("Credentials of 'temp'") && told.contains("left, until 2099-01-01T00:00:00Z"),
        "{told}"
    );
    pty.expect("(temp) ");
    pty.expect(own_prompt);
    pty.send_line(
        "echo id=$AWS_ACCESS_KEY_ID in=$IAM_SORRY_PROFILE at=$AWS_CREDENTIAL_EXPIRATION own=$OWN_SETTING",
    );
    pty.expect("id=ASIAEXAMPLE in=temp at=2099-01-01T00:00:00Z own=yes");
    pty.send_line("exit 7");
    let (status, shown) = pty.wait();
    assert_eq!(status.code(), Some(7), "{shown}");
    assert!(!shown.contains("temp-secret"), "{shown}");
    assert!(!shown.contains("rror") && !shown.contains("not found"), "{shown}");
}

#[test]
fn bash_shows_the_profile() {
    shows_its_profile("/bin/bash", &[(".bashrc", "OWN_SETTING=yes\nPS1='mine> '\n")], "mine> ");
}

#[test]
fn zsh_shows_the_profile() {
    let rc = "OWN_SETTING=yes\nPROMPT='mine> '\n";
    shows_its_profile("/usr/bin/zsh", &[(".zshrc", rc)], "mine> ");
    // As many keep it: the files elsewhere, named by ~/.zshenv.
    let env = (".zshenv", "export ZDOTDIR=~/.config/zsh\n");
    shows_its_profile("/usr/bin/zsh", &[env, (".config/zsh/.zshrc", rc)], "mine> ");
}

#[test]
fn fish_shows_the_profile() {
    let config =
        "set -g OWN_SETTING yes\nset -g fish_greeting\nfunction fish_prompt; echo -n 'mine> '; end\n";
    shows_its_profile("/usr/bin/fish", &[(".config/fish/config.fish", config)], "mine> ");
}

#[test]
fn dash_shows_the_profile() {
    let (machine, _) = machine();
    let mut pty = in_terminal(&machine, "/bin/dash", "temp");
    pty.expect("(temp) $ ");
    pty.send_line("exit");
    assert!(pty.wait().0.success());
}

/// A prompt is drawn by evaluating it: no profile's name may be run by that.
#[test]
fn a_name_is_shown_and_never_run() {
    for shell in ["/bin/bash", "/usr/bin/zsh", "/usr/bin/fish", "/bin/dash"] {
        let (machine, _) = machine();
        let name = "a$(touch pwned)`touch pwned`%n\\u";
        let text = machine.home.credentials().replace("[temp]", &format!("[{name}]"));
        machine.home.write_credentials(text);
        machine.home.write_mode(".zshrc", "setopt prompt_subst\n", 0o600);
        machine.home.write_mode(".config/fish/config.fish", "set -g fish_greeting\n", 0o600);
        let mut pty = in_terminal(&machine, shell, name);
        pty.expect(&format!("({name})"));
        pty.send_line("exit");
        pty.wait();
        assert!(!machine.home.path().join("pwned").exists(), "{shell}");
    }
}

#[test]
fn it_does_not_nest() {
    let (machine, _) = machine();
    let program = env!("CARGO_BIN_EXE_iam-sorry");
    let script = machine.home.write_script("inner", &format!("exec {program} shell alice"));
    let mut command = machine.command(&["shell", "temp"]);
    command.env("SHELL", script);
    let ended = Outcome::of(&mut command).exits(2);
    ended.says(&["credentials of 'temp' already", "exit (or Ctrl-D)", "iam-sorry exec alice -- COMMAND"]);
}

#[test]
fn it_works_without_a_terminal_and_says_what_is_wrong() {
    let (machine, key) = machine();
    machine.home.write_mode("input", "echo got $AWS_ACCESS_KEY_ID $AWS_SESSION_TOKEN.\nexit 3\n", 0o600);
    let input = std::fs::File::open(machine.home.path().join("input")).unwrap();
    let mut command = machine.command(&["shell", "alice"]);
    command.env("SHELL", "/bin/bash").env("AWS_PROFILE", "x").env("AWS_SESSION_TOKEN", "old").stdin(input);
    let ended = Outcome::of(&mut command).exits(3);
    ended.says(&["permanent keys"]).prints(&[&format!("got {} .", key.key)]);

    machine.run(&["shell", "nobody"]).exits(3).says(&["'nobody' not found"]);
    let mut command = machine.command(&["shell", "alice"]);
    Outcome::of(command.env("SHELL", "/nonexistent")).exits(1).says(&["can't be run", "SHELL"]);
    let expired = machine.home.credentials().replace("2099", "2019");
    machine.home.write_credentials(expired);
    machine.run(&["shell", "temp"]).exits(3).says(&["expired"]);
}

// --- completions ---

/// What a real shell offers for `iam-sorry WORDS`, with a profile whose name has a space.
fn completing(machine: &MachineOnAws, shell: &str, script: &str) -> String {
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_iam-sorry")).parent().unwrap().to_owned();
    for name in ["bash", "zsh", "fish"] {
        machine.home.write_mode(
            format!("completions.{name}"),
            machine.run(&["completions", name]).ok().stdout,
            0o600,
        );
    }
    let mut command = machine.home.command(shell);
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let output = command.args(["-c", script]).env("PATH", path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn with_a_space(machine: &MachineOnAws) {
    let text = machine.home.credentials();
    machine.home.write_credentials(format!("{text}[al space]\nx = 1\n"));
    machine.home.write_config("[profile from-config]\nregion = us-east-1\n");
}

#[test]
fn profiles_lists_names_and_nothing_else() {
    let (machine, _) = machine();
    with_a_space(&machine);
    assert_eq!(machine.run(&["__profiles"]).ok().stdout, "alice\ntemp\nal space\nfrom-config\n");
    machine.home.write_credentials("[broken\n");
    let ended = machine.run(&["__profiles"]).ok();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    assert!(!machine.run(&["--help"]).ok().stdout.contains("__profiles"));
}

#[test]
fn bash_completes_profiles() {
    let (machine, _) = machine();
    with_a_space(&machine);
    let ask = |words: &str| {
        let script = format!(
            "set -eu; . ./completions.bash; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); \
             f=$(complete -p iam-sorry); f=${{f#*-F }}; f=${{f%% *}}; \
             $f iam-sorry \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
             if ((${{#COMPREPLY[@]}})); then printf '%s\\n' \"${{COMPREPLY[@]}}\"; fi"
        );
        completing(&machine, "bash", &script)
    };
    assert_eq!(ask("iam-sorry exec al"), "alice\nal\\ space\n");
    assert_eq!(ask("iam-sorry --profile t"), "temp\n");
    assert_eq!(ask("iam-sorry --profile alice refresh te"), "temp\n");
    assert_eq!(ask("iam-sorry exec alice -- al"), "");
    assert!(ask("iam-sorry ''").contains("temp\n") && ask("iam-sorry ref").contains("refresh\n"));
    assert!(!ask("iam-sorry exec ''").contains('<'), "no placeholder is offered");
}

#[test]
fn fish_completes_profiles() {
    let (machine, _) = machine();
    with_a_space(&machine);
    let ask = |words: &str| {
        completing(&machine, "fish", &format!("source completions.fish; complete -C '{words}'"))
    };
    let names =
        |text: &str| text.lines().map(|l| l.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&ask("iam-sorry exec al")), ["al\\ space", "alice"].map(|n| n.replace('\\', "")));
    assert_eq!(names(&ask("iam-sorry --profile t")), ["temp"]);
    assert!(names(&ask("iam-sorry te")).contains(&"temp".to_owned()));
    assert!(names(&ask("iam-sorry ref")).contains(&"refresh".to_owned()));
}

#[test]
fn zsh_completes_profiles() {
    let (machine, _) = machine();
    with_a_space(&machine);
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_iam-sorry")).parent().unwrap();
    machine.home.write_mode("fns/_iam-sorry", machine.run(&["completions", "zsh"]).ok().stdout, 0o600);
    let rc = "fpath=(~/fns $fpath); autoload -Uz compinit; compinit -u -D; PROMPT='ready> '; unsetopt BEEP\n";
    machine.home.write_mode(".zshrc", rc, 0o600);
    for (typed, rest) in
        [("exec te", "mp"), ("--profile from", "-config"), ("te", "mp"), ("encr", "ypt"), ("rotate al", "")]
    {
        let mut command: Command = Pty::command(&machine.home, "zsh");
        command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        let mut pty = Pty::spawn(command);
        pty.expect("ready> ");
        pty.send(&format!("iam-sorry {typed}"));
        pty.expect(typed);
        pty.send("\t");
        if !rest.is_empty() {
            pty.expect(rest);
        }
        if typed.ends_with("al") {
            pty.expect("space"); // both are listed
            pty.expect("alice");
        }
        pty.send("\x03");
        pty.send_line("exit");
    }
}

/// A name that shells would run, completed at the prompts of real ones and used: it arrives as the name, and nothing else
/// happens.
#[test]
fn a_hostile_name_is_completed_as_one_word() {
    let names = ["sub$(touch pwned)", "tick`touch pwned`", "two words&touch pwned", "quo'te\"s"];
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_iam-sorry")).parent().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let (machine, _) = machine();
        let mut text = String::new();
        for (number, name) in names.iter().enumerate() {
            text.push_str(&format!(
                "[{name}]\naws_access_key_id = AKIA{number}\naws_secret_access_key = s\n"
            ));
        }
        machine.home.write_credentials(text);
        let completions = machine.run(&["completions", shell]).ok().stdout;
        let file = if shell == "zsh" { "fns/_iam-sorry" } else { "completions" };
        machine.home.write_mode(file, completions, 0o600);
        machine.home.write_mode(".bashrc", ". ~/completions\nPS1='ready> '\n", 0o600);
        let rc =
            "fpath=(~/fns $fpath); autoload -Uz compinit; compinit -u -D; PROMPT='ready> '; unsetopt BEEP\n";
        machine.home.write_mode(".zshrc", rc, 0o600);
        let config =
            "set -g fish_greeting\nsource ~/completions\nfunction fish_prompt; echo -n 'ready> '; end\n";
        machine.home.write_mode(".config/fish/config.fish", config, 0o600);
        let mut command: Command = Pty::command(&machine.home, shell);
        command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        let mut pty = Pty::spawn(command);
        for (number, name) in names.iter().enumerate() {
            pty.expect("ready> ");
            pty.send(&format!("iam-sorry exec {}\t", &name[..3]));
            pty.send_line("-- sh -c 'echo id=$AWS_ACCESS_KEY_ID.'");
            pty.expect(&format!("id=AKIA{number}."));
            assert!(!machine.home.path().join("pwned").exists(), "{shell} ran {name}");
        }
        pty.send_line("exit");
        pty.wait();
    }
}

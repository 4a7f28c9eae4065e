//! What people, editors and machines get wrong. Each case: its exit code, its message, no byte of any file changed, no
//! temporary file left, nothing that hangs.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use testkit::{AskPass, EXAMPLE_KEY_ID, EXAMPLE_SECRET, Home, Outcome, PASSPHRASE};

use crate::support::{self, BIN, section};

/// Commands that read the credentials file, each in its own way.
const READERS: [&[&str]; 6] = [
    &["--eval", "usermanager"],
    &["--show-decrypted", "usermanager"],
    &["--profile", "usermanager", "--encrypt"],
    &["--profile", "usermanager", "admin"],
    &["list"],
    &["migrate"],
];

#[test]
fn a_broken_file_is_refused_with_the_line_to_mend() {
    let person = support::with_agent();
    for (text, line, what) in [
        (&b"[usermanager\naws_access_key_id = x\n"[..], "line 1", "must end with ]"),
        (b"[a]\nx = y\njust words\n", "line 3", "no = sign"),
        (b"x = y\n[a]\n", "line 1", "before the first section"),
        (b"[a]\n= y\n", "line 2", "without a name"),
        (b"\xef\xbb\xbf[a]\nx = y\n", "line 1", "byte order mark"),
        (b"[a]\nx = \xff\xfe\x00\x01\n", "line 2", "UTF-8"),
        (b"\x7fELF\x02\x01\x01\x00\x00\x00", "line 1", ""),
    ] {
        person.home.write_credentials(text);
        let file = person.home.credentials_path().display().to_string();
        for args in READERS {
            person.changing_nothing(|| person.run(args)).fails(3).says(&[&file, line, what]);
        }
    }
}

#[test]
fn a_broken_file_never_shows_its_secrets() {
    let person = support::with_agent();
    person.home.write_credentials(format!("[a]\naws_secret_access_key {EXAMPLE_SECRET}\n"));
    for args in READERS {
        let outcome = person.changing_nothing(|| person.run(args)).fails(3);
        assert!(
            !outcome.stderr.contains(EXAMPLE_SECRET) && !outcome.stderr.contains(&EXAMPLE_SECRET[..20]),
            "{outcome}"
        );
    }
}

#[test]
fn a_huge_file_is_refused() {
    let person = support::with_agent();
    let file = person.home.credentials_path();
    person.home.write_credentials(section("usermanager"));
    File::options().write(true).open(&file).and_then(|file| file.set_len(50 << 20)).expect("50 MB of zeros");
    for args in [&["list"][..], &["--eval", "usermanager"], &["encrypt", "usermanager"]] {
        person.run(args).fails(3).says(&[&file.display().to_string(), "MiB"]);
    }
    assert_eq!(std::fs::metadata(&file).expect("there").len(), 50 << 20);
}

#[test]
fn a_folder_or_a_pipe_in_the_place_of_the_file_is_refused() {
    let person = support::with_agent();
    let file = person.home.credentials_path();
    std::fs::create_dir(&file).expect("a folder");
    for args in [&["list"][..], &["--eval", "usermanager"], &["encrypt", "usermanager"]] {
        let outcome = person.run(args);
        assert!([1, 3].contains(&outcome.code), "{outcome}");
        outcome.says(&["Error: ", &file.display().to_string()]);
    }
    std::fs::remove_dir(&file).expect("removed");
    let made = person.home.command("mkfifo").arg(&file).status().expect("mkfifo runs");
    assert!(made.success());
    let outcome = person.run(&["list"]);
    assert!([1, 3].contains(&outcome.code), "{outcome}");
    outcome.says(&["Error: ", &file.display().to_string()]);
}

#[test]
fn names_that_no_user_and_no_file_can_have() {
    let person = support::with_sealed_manager();
    for name in [
        "",
        " ",
        "two words",
        "quo\"te",
        "quo'te",
        "brack]et",
        "[x]",
        "new\nline",
        "new\r\nline",
        "tab\tbed",
        "esc\x1b[31m",
        "$(touch pwned)",
        "`x`",
        "a;b",
        "a/b",
        "é",
        "名前",
        "#x",
        "a#b",
        "x=y z",
        &"n".repeat(65),
    ] {
        let args = ["--profile", "usermanager", "--", name];
        let outcome = person.changing_nothing(|| person.run(&args));
        assert!([2, 3].contains(&outcome.code), "{name:?}: {outcome}");
        assert!(
            outcome.stderr.contains("Error: ") || outcome.stderr.contains("error: "),
            "{name:?}: {outcome}"
        );
        assert!(!outcome.stderr.contains('\x1b') && !outcome.stderr.contains("\r"), "{name:?}: {outcome}");
    }
    // And as a section's name, where IAM's rules don't count.
    for name in
        ["", " ", "brack]et", "[x]", "new\nline", "new\r\nline", "esc\x1b[31m", "#x", "a #b", " a", "a "]
    {
        let outcome = person.changing_nothing(|| person.run(&["rename", "usermanager", name])).fails(3);
        assert!(!outcome.stderr.contains('\x1b') && !outcome.stderr.contains("\r"), "{name:?}: {outcome}");
    }
    assert!(!person.home.path().join("pwned").exists());
}

#[test]
fn names_with_blanks_and_other_scripts_work_where_a_file_has_them() {
    let person = support::with_agent();
    for name in ["my team", "élan", "a/b", "user@example.org", "名前", "refresh"] {
        person.home.write_credentials(section(name));
        for args in
            [["--eval", name], ["env", name], ["credential-process", name], ["--show-decrypted", name]]
        {
            person.run(&args).ok().prints(&[EXAMPLE_KEY_ID, EXAMPLE_SECRET]);
        }
        person.run(&["encrypt", name]).ok();
        assert!(
            person.home.credentials().starts_with(&format!("[{name}]\n")),
            "{}",
            person.home.credentials()
        );
        person.run(&["--eval", name]).ok().prints(&[EXAMPLE_SECRET]);
        person.run(&["list"]).ok().prints(&[name]);
        person.run(&["decrypt", name, "--yes"]).ok();
        assert_eq!(person.home.credentials(), section(name));
    }
}

#[test]
fn durations_that_aws_would_refuse_are_refused_before_it_is_asked() {
    let mut person = support::with_sealed_manager();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("set");
    person
        .home
        .set_env("AWS_ENDPOINT_URL", format!("http://{}", listener.local_addr().expect("its address")));
    for (duration, text) in [
        ("0", "at least 1 hour"),
        ("37", "Duration cannot exceed 36 hours"),
        ("-1", "not a duration"),
        ("abc", "not a duration"),
        ("1e9", "not a duration"),
        ("1.5", "not a duration"),
        ("", "not a duration"),
        ("٣", "not a duration"),
        ("99999999999999999999999", "Duration cannot exceed 36 hours"),
        ("37h", "Duration cannot exceed 36 hours"),
        ("14m", "at least 1 hour (or 15m)"),
    ] {
        for args in [
            &["--profile", "usermanager", "--duration", duration, "admin"][..],
            &["refresh", "admin", "--profile", "usermanager", "--duration", duration],
        ] {
            person.changing_nothing(|| person.run(args)).fails(2).says(&[text]);
        }
    }
    assert!(listener.accept().is_err(), "nothing was asked of AWS");
}

#[test]
fn mistakes_on_the_command_line_are_usage_errors() {
    let person = support::with_sealed_manager();
    for args in [
        &["--no-such-option"][..],
        &["refresh"],
        &["refresh", "--all", "admin"],
        &["exec", "usermanager"],
        &["env", "usermanager", "--shell", "klingon"],
        &["completions", "klingon"],
        &["man", "klingon"],
        &["--eval", "a", "--encrypt"],
        &["--show-encrypted", "a", "b"],
        &["admin", "two", "three"],
        &["--encrypt", "admin"],
        &["--profile", "usermanager", "--encrypt", "admin"],
        &["--encrypt", "list"],
        &["--mfa-code"],
    ] {
        let outcome = person.changing_nothing(|| person.run(args)).exits(2);
        assert!(!outcome.stderr.is_empty() && outcome.stdout.is_empty(), "{outcome}");
    }
    let person = support::with_sealed_manager();
    let with = |name: &str, value: &str| {
        Outcome::of(person.command_without_terminal(&["--profile", "usermanager", "admin"]).env(name, value))
    };
    with("AWS_MAX_ATTEMPTS", "many").fails(2).says(&["AWS_MAX_ATTEMPTS", "1 to 20"]);
    with("AWS_RETRY_MODE", "hope").fails(2).says(&["AWS_RETRY_MODE", "standard or adaptive"]);
    with("AWS_CA_BUNDLE", "/nonexistent/ca.pem").fails(2).says(&["/nonexistent/ca.pem", "AWS_CA_BUNDLE"]);
    person.home.write_mode(".config/iam-sorry/config.toml", "colour = 1\n", 0o600);
    person.run(&["list"]).fails(2).says(&["config.toml", "colour", "refuse_legacy"]);
}

#[test]
fn without_home_it_says_so_and_takes_the_variables() {
    let home = Home::new();
    let file = home.write_credentials(section("bedrock"));
    let bare = |args: &[&str]| {
        let mut command = home.command("setsid");
        command.args(["--wait", BIN]).args(args);
        for name in [
            "HOME",
            "XDG_CONFIG_HOME",
            "XDG_STATE_HOME",
            "XDG_CACHE_HOME",
            "XDG_DATA_HOME",
            "XDG_RUNTIME_DIR",
        ] {
            command.env_remove(name);
        }
        command
    };
    Outcome::of(&mut bare(&["--eval", "bedrock"]))
        .fails(3)
        .says(&["HOME is not set", "AWS_SHARED_CREDENTIALS_FILE"]);
    let mut command = bare(&["--eval", "bedrock"]);
    command.env("AWS_SHARED_CREDENTIALS_FILE", &file).env("AWS_CONFIG_FILE", home.config_path());
    Outcome::of(&mut command).ok().prints(&[EXAMPLE_SECRET]);
    let mut command = bare(&["encrypt", "bedrock"]);
    command.env("AWS_SHARED_CREDENTIALS_FILE", &file).env("AWS_CONFIG_FILE", home.config_path());
    Outcome::of(&mut command).fails(5).says(&["HOME is not set", "--ssh-key"]);
}

#[test]
fn a_reader_that_went_away_ends_it_quietly() {
    let person = support::with_sealed_manager();
    for args in [&["--eval", "usermanager"][..], &["list"], &["man"], &["completions", "bash"], &["policy"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        // The pipe without a reader comes in as standard input, since Outcome has plans for standard output.
        let mut command = person.home.command("sh");
        command.args(["-c", "exec \"$0\" \"$@\" >&0 </dev/null", BIN]).args(args).stdin(writer);
        let outcome = Outcome::of(&mut command);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome}");
    }
}

#[test]
fn a_full_disk_behind_stdout_is_an_error() {
    let person = support::with_sealed_manager();
    for args in [&["--eval", "usermanager"][..], &["list"], &["credential-process", "usermanager"]] {
        let mut command = person.home.command("sh");
        command.args(["-c", "exec \"$0\" \"$@\" >/dev/full", BIN]).args(args);
        Outcome::of(&mut command).fails(1).says(&["could not be written to stdout"]);
    }
}

#[test]
fn closed_standard_streams_never_become_the_credentials_file() {
    let person = support::with_plain_manager();
    for (script, verb) in
        [("exec \"$0\" \"$@\" <&- >&- 2>&-", "encrypt"), ("exec \"$0\" \"$@\" >&-", "decrypt")]
    {
        let mut command = person.home.command("sh");
        command.args(["-c", script, BIN, verb, "usermanager", "--yes"]);
        Outcome::of(&mut command).ok();
        let text = person.home.credentials();
        assert!(text.starts_with("[usermanager]\naws_access_key_id = "), "{text}");
        assert_eq!(text.lines().count(), 3, "nothing that was to be printed is in it: {text}");
    }
    assert_eq!(person.home.credentials(), section("usermanager"));
}

#[test]
fn a_home_that_cannot_be_written_to() {
    let person = support::with_plain_manager();
    let aws = person.home.path().join(".aws");
    let set_mode = |mode| std::fs::set_permissions(&aws, std::fs::Permissions::from_mode(mode)).expect("set");
    set_mode(0o500);
    let run = |args: &[&str]| {
        // Root ignores modes; without this capability it does not.
        let mut command = person.home.command("setpriv");
        if rustix::process::geteuid().is_root() {
            command.args(["--bounding-set", "-dac_override,-dac_read_search"]);
        }
        command.args(["setsid", "--wait", BIN]).args(args);
        Outcome::of(&mut command)
    };
    let text = [&aws.display().to_string()[..], "ermission denied"];
    let outcome = person.changing_nothing(|| run(&["encrypt", "usermanager"]));
    outcome.fails(1).says(&text);
    run(&["--eval", "usermanager"]).ok().prints(&[EXAMPLE_SECRET]);
    run(&["list"]).ok();
    set_mode(0o700);
    person.run(&["encrypt", "usermanager"]).ok();
    set_mode(0o500);
    run(&["--eval", "usermanager"]).ok().prints(&[EXAMPLE_SECRET]);
    let outcome = person.changing_nothing(|| run(&["decrypt", "usermanager", "--yes"]));
    outcome.fails(1).says(&text);
    person.home.set_mode(".aws/credentials", 0o000);
    run(&["list"]).fails(1).says(&text);
    set_mode(0o700);
}

#[test]
fn an_endpoint_over_plain_http_is_refused_without_any_packet() {
    let person = support::with_sealed_manager();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("set");
    let port = listener.local_addr().expect("its address").port();
    // 0.0.0.0 is no loopback address, but Linux would connect it to one: a request that is made arrives here.
    let open = format!("http://0.0.0.0:{port}");
    let endpoints =
        ["http://192.0.2.1", "http://localhost.example.org", "http://127.0.0.1.example.org", &open];
    for endpoint in endpoints {
        for variable in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_IAM"] {
            let mut command = person.command_without_terminal(&["--profile", "usermanager", "admin"]);
            command.env(variable, endpoint);
            if variable == "AWS_ENDPOINT_URL_IAM" {
                command.env("AWS_ENDPOINT_URL_STS", "https://127.0.0.1:1");
            }
            let outcome = person.changing_nothing(|| Outcome::of(&mut command));
            outcome.fails(4).says(&[endpoint, "plain http", "https"]);
        }
        person.home.write_config(format!("[profile usermanager]\nendpoint_url = {endpoint}\n"));
        person.run(&["--profile", "usermanager", "admin"]).fails(4).says(&[endpoint, "plain http"]);
        person.home.write_config("");
    }
    // What looks like a loopback address and is a user's name.
    let mut command = person.command_without_terminal(&["--profile", "usermanager", "admin"]);
    command.env("AWS_ENDPOINT_URL", format!("http://127.0.0.1@0.0.0.0:{port}"));
    Outcome::of(&mut command).fails(4).says(&["can't be an endpoint"]);
    assert!(listener.accept().is_err(), "no packet was sent");

    // Allowed on purpose, it is asked (which also shows that this listener would have noticed).
    let mut command = person.command_without_terminal(&["--profile", "usermanager", "admin", "--allow-http"]);
    let mut child = command
        .env("AWS_ENDPOINT_URL", &open)
        .env("AWS_MAX_ATTEMPTS", "1")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    listener.set_nonblocking(false).expect("set");
    drop(listener.accept().expect("a connection"));
    drop(listener);
    child.wait().expect("it ends");
}

#[test]
fn an_endpoint_where_nobody_listens_is_named() {
    let person = support::with_sealed_manager();
    let endpoint = "http://127.0.0.1:9"; // discard; nobody has it
    let mut command = person.command_without_terminal(&["--profile", "usermanager", "admin"]);
    command.env("AWS_ENDPOINT_URL", endpoint).env("AWS_MAX_ATTEMPTS", "1");
    person.changing_nothing(|| Outcome::of(&mut command)).fails(4).says(&[endpoint]);
}

#[test]
fn a_program_that_exec_cannot_run() {
    let person = support::with_sealed_manager();
    let exec = |program: &str| person.run(&["exec", "usermanager", "--", program]);
    exec("no-such-program").fails(127).says(&["no-such-program can't be run"]);
    let text = person.home.write_mode("text", "hello", 0o600);
    exec(&text.display().to_string()).fails(126).says(&["text can't be run"]);
    let shell = |script: &str| person.run(&["exec", "usermanager", "--", "sh", "-c", script]);
    shell("exit 42").exits(42);
    shell("kill -TERM $$").exits(143);
    let clean = shell("env").ok();
    for name in ["AWS_PROFILE", "SSH_ASKPASS_ANSWER"] {
        assert!(!clean.stdout.contains(&format!("{name}=")), "{clean}");
    }
}

#[test]
fn an_askpass_program_that_is_not_there_is_named() {
    let person = support::with_sealed_manager();
    let mut command = person.command_without_terminal(&["--eval", "usermanager"]);
    command
        .env_remove("SSH_AUTH_SOCK")
        .env("SSH_ASKPASS", "/nonexistent/askpass")
        .env("SSH_ASKPASS_REQUIRE", "force");
    Outcome::of(&mut command).fails(5).says(&["/nonexistent/askpass", "ssh-add"]);
    // One that prints a novel, and one that prints bytes that are no text.
    for script in ["yes | head -c 100000 | tr -d '\\n'", "printf '\\377\\376\\n'"] {
        let program = person.home.write_script("askpass", script);
        let mut command = person.command_without_terminal(&["--eval", "usermanager"]);
        command.env_remove("SSH_AUTH_SOCK").env("SSH_ASKPASS", program).env("SSH_ASKPASS_REQUIRE", "force");
        Outcome::of(&mut command).fails(5);
    }
    let askpass = AskPass::answering(PASSPHRASE);
    person.run_with_askpass(&askpass, &["--eval", "usermanager"]).ok();
}

#[test]
fn a_profile_that_refers_to_itself_stops() {
    let person = support::with_agent();
    let line = format!("credential_process = \"{BIN}\" credential-process loop\n");
    person.home.write_config(format!("[profile loop]\nregion = us-east-1\n{line}"));
    person
        .run(&["credential-process", "loop"])
        .fails(3)
        .says(&["'loop' needs its own credentials", "loop -> loop"]);
    // And as the AWS CLI meets it.
    let mut aws = person.home.venv_command("aws");
    aws.args(["--profile", "loop", "sts", "get-caller-identity"]);
    let outcome = Outcome::of(&mut aws);
    assert_ne!(outcome.code, 0, "{outcome}");
    outcome.says(&["'loop'", "loop -> loop"]);
}

#[test]
fn a_settings_file_that_cannot_be_used_is_named() {
    let person = support::with_plain_manager();
    let list = |code: i32| person.changing_nothing(|| person.run(&["list"])).fails(code);
    for (text, what) in [
        ("duratoin = 2\n", "unknown field `duratoin`"),
        ("duration = [1]\n", "It knows: profile, ssh_key, duration"),
        ("duration = \n", "can't be understood"),
        ("just words\n", "can't be understood"),
    ] {
        person.home.write_mode(".config/iam-sorry/config.toml", text, 0o600);
        list(2).says(&["iam-sorry/config.toml", what]);
    }
    let file = person.home.write_mode(".config/iam-sorry/config.toml", b"\xff\xfe\x00", 0o600);
    list(1).says(&["iam-sorry/config.toml", "can't be read"]);
    std::fs::remove_file(&file).expect("there");
    // Reading a pipe would wait for ever.
    assert!(std::process::Command::new("mkfifo").arg(&file).status().expect("mkfifo runs").success());
    Outcome::of(&mut person.command_without_terminal(&["list"])).fails(1).says(&["not a regular file"]);
}

#[test]
fn a_duration_in_the_settings_file_is_held_to_the_same_bounds() {
    let person = support::with_plain_manager();
    for (text, what) in [
        ("duration = 37\n", "cannot exceed 36 hours"),
        ("duration = 0\n", "at least 1 hour"),
        ("duration = -1\n", "is not a duration"),
        ("duration = \"2161m\"\n", "cannot exceed 36 hours"),
    ] {
        person.home.write_mode(".config/iam-sorry/config.toml", text, 0o600);
        let refused = person.changing_nothing(|| person.run(&["--profile", "usermanager", "admin"]));
        refused.fails(2).says(&[what]);
    }
}

#[test]
fn what_stands_in_a_file_does_not_steer_the_terminal() {
    let person = support::with_plain_manager();
    let text = person.home.credentials() + "credentials_owner = \u{1b}[2J\u{1b}]0;pwned\u{7}\n";
    person.home.write_credentials(&text);
    let list = person.run(&["list"]).ok().prints(&["?[2J?]0;pwned?"]);
    assert!(!list.stdout.contains('\u{1b}'), "{list:?}");
    let refused = person.run(&["refresh", "usermanager"]);
    assert!(!refused.stderr.contains('\u{1b}'), "{refused:?}");
}

#[test]
fn half_a_fingerprint_is_not_taken_for_a_file() {
    let person = support::with_sealed_manager();
    let whole = person.home.fingerprint(&person.ssh_key);
    for verb in ["add", "remove"] {
        for wrong in ["SHA256:", "SHA256:abc", &whole[..whole.len() - 1], &format!("{whole}x")] {
            let run = || person.run(&["recipients", verb, "usermanager", wrong]);
            person.changing_nothing(run).fails(5).says(&[wrong, "is no fingerprint", "ssh-add -l"]);
        }
    }
}

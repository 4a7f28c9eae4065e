//! The prompt on a real terminal, and the process itself, each in a child process.

use super::*;

/// Runs `child` in a process of its own: this test binary with only this test, which takes the other branch there.
const CHILD: &str = "KEYRING_TEST_CHILD";

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

fn child(mut command: std::process::Command, test: &str) -> std::process::Command {
    command.env(CHILD, "1").args([&format!("keyring::tests::terminal::{test}"), "--exact", "--nocapture"]);
    command
}

fn prompting_child() {
    let passphrase_prompt = PassphrasePrompt { terminal: true, ..PassphrasePrompt::default() };
    match passphrase_prompt.ask("Passphrase? ") {
        Ok(answer) => println!("answer={};", answer.expose_secret()),
        Err(error) => println!("error={error};"),
    }
    let modes = std::process::Command::new("sh").args(["-c", "stty -a </dev/tty"]).output().unwrap();
    let modes = String::from_utf8_lossy(&modes.stdout).into_owned();
    println!("echo={} canonical={};", modes.contains(" echo "), modes.contains(" icanon "));
}

fn prompt(home: &Home, test: &str) -> testkit::Pty {
    let mut pty =
        testkit::Pty::spawn(child(testkit::Pty::command(home, std::env::current_exe().unwrap()), test));
    pty.expect("Passphrase? ");
    pty
}

#[test]
fn the_prompt_shows_nothing_and_edits() {
    if is_child() {
        return prompting_child();
    }
    let home = Home::new();
    let mut pty = prompt(&home, "the_prompt_shows_nothing_and_edits");
    pty.send("wrong\x15pa\u{df}\x7fssz\x7f w\u{f6}rd\r");
    pty.expect("echo=true canonical=true;");
    let (status, output) = pty.wait();
    assert!(status.success() && output.contains("answer=pass w\u{f6}rd;"), "{output}");
    assert!(!output.contains("wrong") && output.matches("pass w").count() == 1, "{output}");
}

#[test]
fn control_c_at_the_prompt_gives_the_echo_back() {
    if is_child() {
        return prompting_child();
    }
    let home = Home::new();
    let mut pty = prompt(&home, "control_c_at_the_prompt_gives_the_echo_back");
    pty.send("secret\x03");
    pty.expect("error=interrupted;");
    pty.expect("echo=true canonical=true;");
    assert!(!pty.wait().1.contains("secret"));
}

#[test]
fn without_a_terminal_it_fails_at_once() {
    if is_child() {
        return prompting_child();
    }
    let home = Home::new();
    // A session of its own has no controlling terminal.
    let mut command = home.command("setsid");
    command.arg("--wait").arg(std::env::current_exe().unwrap());
    let output = child(command, "without_a_terminal_it_fails_at_once").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("error=there is no terminal and no askpass program"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_hardened_process_leaves_no_core() {
    use rustix::process::{DumpableBehavior, dumpable_behavior};
    let core = || {
        let limits = fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
        line.split_whitespace().nth(4).unwrap().to_owned()
    };
    if is_child() {
        let limit = hygiene::harden();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(core(), "0");
        limit.restore();
        println!("then={};", core());
        return;
    }
    let home = Home::new();
    let mut command = home.command("sh");
    command.args(["-c", "ulimit -S -c 7; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    let output = child(command, "a_hardened_process_leaves_no_core").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    // `ulimit -c` counts in blocks of 512 bytes.
    assert!(text.contains("then=3584;"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

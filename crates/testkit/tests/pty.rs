//! The pseudo-terminal is a controlling terminal: echo can be switched off, Ctrl-C is a signal, /dev/tty opens.

use std::os::unix::process::ExitStatusExt;

use testkit::{Home, Pty};

fn shell(home: &Home, script: &str) -> Pty {
    let mut command = Pty::command(home, "/bin/sh");
    command.args(["-c", script]);
    Pty::spawn(command)
}

#[test]
fn a_prompt_is_answered_and_echo_is_seen_unless_off() {
    let home = Home::new();
    let mut pty = shell(
        &home,
        "printf 'name? '; read -r a; stty -echo; printf 'word? '; read -r b; echo; echo \"$a-${#b}\"; exit 3",
    );
    pty.expect("name? ");
    pty.send_line("visible");
    pty.expect("word? ");
    pty.send_line("hidden");
    pty.expect("visible-6");
    let (status, output) = pty.wait();
    assert_eq!(status.code(), Some(3));
    assert_eq!(output.matches("visible").count(), 2, "{output}");
    assert!(!output.contains("hidden"), "{output}");
}

#[test]
fn control_c_interrupts() {
    let home = Home::new();
    let mut pty = shell(&home, "echo ready; exec sleep 600");
    pty.expect("ready");
    pty.send("\x03");
    assert_eq!(pty.wait().0.signal(), Some(2));
}

#[test]
fn it_is_the_controlling_terminal() {
    let home = Home::new();
    let mut pty = shell(&home, "test -t 0 && test -t 1 && test -t 2 && echo hello >/dev/tty");
    pty.expect("hello");
    assert!(pty.wait().0.success());
}

#[test]
#[should_panic(expected = "the program ended without \"never\"")]
fn what_does_not_come_fails() {
    shell(&Home::new(), "echo something").expect("never");
}

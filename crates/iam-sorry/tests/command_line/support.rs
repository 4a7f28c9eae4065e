//! The machines of these tests.

use testkit::{Account, EXAMPLE_KEY_ID, EXAMPLE_SECRET, Machine};

/// The program under test.
pub const BIN: &str = env!("CARGO_BIN_EXE_iam-sorry");

/// With the SSH key on disk only.
pub fn machine() -> Machine {
    Machine::new(BIN)
}

/// With the SSH key in a running ssh-agent too.
pub fn with_agent() -> Machine {
    Machine::with_agent(BIN)
}

/// With an agent, and `[usermanager]` holding AWS's example key as plain text.
pub fn with_plain_manager() -> Machine {
    let machine = with_agent();
    machine.home.write_credentials(section("usermanager"));
    machine
}

/// The same, sealed.
pub fn with_sealed_manager() -> Machine {
    let machine = with_plain_manager();
    machine.run(&["--profile", "usermanager", "--encrypt"]).ok();
    machine
}

/// With an agent, at this AWS account, whose manager is `[usermanager]`, sealed.
pub fn at(account: &Account) -> Machine {
    let machine = Machine::at(BIN, account.endpoint());
    machine.home.write_credentials(account.manager("usermanager").section("usermanager"));
    machine.run(&["--profile", "usermanager", "--encrypt"]).ok();
    machine
}

/// A profile with AWS's example key, as plain text.
pub fn section(profile: &str) -> String {
    format!("[{profile}]\naws_access_key_id = {EXAMPLE_KEY_ID}\naws_secret_access_key = {EXAMPLE_SECRET}\n")
}

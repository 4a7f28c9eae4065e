//! One person's machine and one AWS account: a home, an SSH key in a real ssh-agent, a sealed manager `usermanager`, an
//! IAM user `admin`, and a proxy in front of the emulator that counts calls and makes faults.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::Output;

use testkit::{Creds, Ended, MachineOnAws};

/// Everything a refresh needs. Each rig has an account of its own.
pub struct Rig {
    machine: MachineOnAws,
    pub manager: Creds,
}

impl Deref for Rig {
    type Target = MachineOnAws;

    fn deref(&self) -> &MachineOnAws {
        &self.machine
    }
}

impl DerefMut for Rig {
    fn deref_mut(&mut self) -> &mut MachineOnAws {
        &mut self.machine
    }
}

impl Rig {
    pub fn new() -> Rig {
        let machine = MachineOnAws::new(env!("CARGO_BIN_EXE_iam-sorry"));
        let manager = machine.account.manager("usermanager");
        machine.account.user("admin");
        machine.home.write_credentials(manager.section("usermanager"));
        let rig = Rig { machine, manager };
        rig.run(&["--profile", "usermanager", "--encrypt"]).ok();
        assert!(!rig.home.credentials().contains(&rig.manager.secret), "the manager is sealed");
        rig
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Ended {
        self.end(self.command(args).output().unwrap())
    }

    /// The original's main form: `iam-sorry --profile usermanager NAME`.
    pub fn refresh(&self, name: &str) -> Ended {
        self.run(&["--profile", "usermanager", name])
    }

    /// What came of it. Whatever a test is about, the manager's secret is never printed.
    pub fn end(&self, output: Output) -> Ended {
        let ended = Ended::from(output);
        let told = format!("{}{}", ended.out, ended.err);
        assert!(!told.contains(&self.manager.secret), "a secret was printed: {told}");
        ended
    }

    /// The IAM user that the credentials in a profile act as, by AWS's own answer.
    pub fn acts_as(&self, profile: &str) -> String {
        self.account.user_of(&self.creds(profile))
    }

    /// Nothing that the program made is left in IAM, and nothing is written down as left.
    pub fn assert_clean(&self, user: &str) {
        assert_eq!(self.account.keys(user), Vec::<String>::new(), "keys of '{user}' are left in IAM");
        assert_eq!(self.journal(), Vec::<PathBuf>::new(), "the journal is not cleared");
    }
}

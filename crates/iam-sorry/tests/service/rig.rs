//! A department, and people at machines without a browser.

use std::ops::Deref;

use testkit::{Extras, Machine, Outcome, TestCa, service_program};

const MORE_RULES: &str = r#"
@id("the-lab-may-assume-its-role")
permit (principal in IamSorry::Group::"lab-dirk", action == IamSorry::Action::"assumeRole", resource);
"#;

pub struct Department(testkit::Department);

impl Deref for Department {
    type Target = testkit::Department;

    fn deref(&self) -> &testkit::Department {
        &self.0
    }
}

impl Department {
    /// Runs on plain loopback.
    pub fn new() -> Department {
        let department = Department::prepare(None);
        department.service.run();
        department
    }

    /// Runs with a certificate of `ca`'s; gives its origin too.
    pub fn with_tls(ca: &TestCa) -> (Department, String) {
        let department = Department::prepare(Some(ca));
        department.service.launch();
        let origin = format!("https://{}", department.service.address());
        (department, origin)
    }

    /// Runs with more rules.
    pub fn with_rules(rules: &str) -> Department {
        let department = Department::prepare_with(None, rules);
        department.service.run();
        department
    }

    fn prepare(tls: Option<&TestCa>) -> Department {
        Department::prepare_with(tls, "")
    }

    fn prepare_with(tls: Option<&TestCa>, rules: &str) -> Department {
        let rules = &format!("{MORE_RULES}{rules}");
        let extras = Extras { tls, tables: "[[guardrails.role]]\narn = \"{role}\"\n", rules };
        Department(testkit::Department::prepare(service_program(), &extras))
    }

    /// A machine whose key the directory knows as `name`'s.
    pub fn person(&self, name: &str) -> Person {
        self.person_at(name, &self.service.origin())
    }

    /// The same where the service is reached otherwise.
    pub fn person_at(&self, name: &str, origin: &str) -> Person {
        let person = self.stranger_at(origin);
        self.register(name, &person);
        person
    }

    /// A machine whose key nobody knows.
    pub fn stranger(&self) -> Person {
        self.stranger_at(&self.service.origin())
    }

    fn stranger_at(&self, origin: &str) -> Person {
        let machine = Machine::at(env!("CARGO_BIN_EXE_iam-sorry"), self.account.endpoint());
        Person { machine, origin: origin.to_owned() }
    }

    /// The same, signed in.
    pub fn signed_in(&self, name: &str) -> Person {
        let person = self.person(name);
        let login = person.run(&["login", &person.origin]);
        assert_eq!(login.code, 0, "{login}\n{}", self.service.log());
        person
    }
}

/// Somebody at a machine, and where the service is for them.
pub struct Person {
    machine: Machine,
    pub origin: String,
}

impl Deref for Person {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl Person {
    /// Signs in with the directory's password.
    pub fn by_password(&self, name: &str) -> Outcome {
        let askpass = self.home.write_script("password", &format!("echo '{name}-password'"));
        let mut login = self.command(&["login", &self.origin, "--ldap", "--user", name]);
        login.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force");
        Outcome::of(&mut login)
    }

    /// The session file's text.
    pub fn state(&self) -> String {
        std::fs::read_to_string(self.home.path().join(".local/state/iam-sorry/service.json"))
            .unwrap_or_default()
    }
}

//! `/readyz` and what the service depends on outside this machine.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use testkit::{Department, Extras};

/// Waits until `/readyz` says this of the part, and gives the whole answer.
fn eventually(department: &Department, part: &str, ready: bool) -> (u16, String) {
    for _ in 0..1200 {
        let answer = department.service.get("/readyz").unwrap();
        let body = answer.json();
        let checks = body["checks"].as_array().unwrap().clone();
        if checks.iter().any(|check| check["name"] == part && check["ready"] == ready) {
            return (answer.status, answer.body);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{part} never became {ready}: {:?}", department.service.get("/readyz"));
}

#[test]
fn a_directory_or_an_aws_that_is_away_is_named() {
    let program = Path::new(env!("CARGO_BIN_EXE_iam-sorryd"));
    let department = Department::prepare(program, &Extras::default());
    department.service.run();
    for part in ["aws", "directory"] {
        assert_eq!(eventually(&department, part, true).0, 200);
    }

    department.slapd.stop();
    let (status, body) = eventually(&department, "directory", false);
    assert_eq!(status, 503);
    assert!(!body.contains("127.0.0.1") && !body.contains("ldap"), "no address: {body}");
    assert_eq!(department.service.get("/healthz").unwrap().status, 200, "the process is well");
    department.slapd.restart();
    assert_eq!(eventually(&department, "directory", true).0, 200);

    for key in department.account.keys("the-service") {
        let args = json!({"UserName": "the-service", "AccessKeyId": key});
        department.account.call("iam", "delete_access_key", args);
    }
    let (status, body) = eventually(&department, "aws", false);
    assert_eq!(status, 503);
    assert!(body.contains("AWS refuses the service's credentials"), "{body}");
}

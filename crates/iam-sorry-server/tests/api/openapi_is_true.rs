//! schemathesis, a program of others, reads the published document and tries to find the service doing anything else:
//! with requests that fit it, and with requests that don't.

use std::process::Command;

use super::department::Department;

#[test]
fn openapi_is_true() {
    let department = Department::new();
    let token = department.sign_in("ada");
    let config = department.service.write("schemathesis.toml", CONFIG);
    let run = Command::new(testkit::venv_bin("schemathesis"))
        .arg("--config-file")
        .arg(&config)
        .args(["run", &format!("{}/api/v1/openapi.json", department.service.origin())])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args([
            "--checks",
            "all",
            "--max-examples",
            EXAMPLES,
            "--seed",
            "1",
            "--suppress-health-check",
            "all",
        ])
        .args(["--phases", "examples,coverage,fuzzing", "--no-color", "--generation-database", "none"])
        .current_dir(department.service.dir())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    println!("{said}");
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(department.service.running());
    let mistakes: Vec<String> =
        department.service.log().lines().filter(|line| line.contains("panic")).map(str::to_owned).collect();
    assert!(mistakes.is_empty(), "{mistakes:?}");
}

/// For each operation: enough for every field's edges, few enough for CI.
const EXAMPLES: &str = "60";

const CONFIG: &str = r#"
# A cursor, a public key or a time fits its pattern and is still none: 400, as documented for every operation.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "401", "403", "404", "409", "429"]

# Ending the session that asks would turn all the rest into 401.
[[operations]]
include-operation-id = "signOut"
enabled = false
"#;

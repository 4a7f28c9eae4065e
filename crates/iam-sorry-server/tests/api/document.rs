//! The OpenAPI document against the routes that are really there.

use std::collections::BTreeSet;

use serde_json::Value;

fn document() -> Value {
    serde_json::to_value(iam_sorry_server::http::openapi()).unwrap()
}

#[test]
fn it_has_every_path_of_the_interface_and_no_other() {
    let document = document();
    let documented: BTreeSet<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
    let served: BTreeSet<String> = iam_sorry_server::http::api_paths().into_iter().collect();
    assert_eq!(documented, served);
}

/// `docs/openapi.json` is what integrators read; a change of the interface shows as a change of this file.
#[test]
fn the_published_file_is_the_document() {
    let path = testkit::workspace().join("docs/openapi.json");
    let now = format!("{}\n", iam_sorry_server::http::openapi().to_pretty_json().unwrap());
    if std::env::var("IAM_SORRY_UPDATE_OPENAPI").is_ok_and(|it| it == "1") {
        std::fs::write(&path, &now).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == now,
        "docs/openapi.json is not what the service serves.\nLook at the change and accept it: \
         IAM_SORRY_UPDATE_OPENAPI=1 cargo test -p iam-sorry-server --test api document"
    );
}

#[test]
fn every_operation_says_how_it_fails_and_whether_one_must_be_signed_in() {
    let document = document();
    let public: BTreeSet<&str> =
        ["openapi", "service", "sshChallenge", "signInWithSshKey", "signInWithPassword", "auditKey"].into();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            let responses = operation["responses"].as_object().unwrap();
            for status in ["400", "429", "500", "503"] {
                let schema = &responses[status]["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Problem", "{method} {path} {status}");
            }
            let signed_in = operation.get("security").is_some();
            assert_eq!(signed_in, !public.contains(id), "{id}");
            assert!(!signed_in || (responses.contains_key("401") && responses.contains_key("403")), "{id}");
            assert_eq!(operation.get("requestBody").is_some(), responses.contains_key("415"), "{id}");
        }
    }
}

/// The codes that docs/api.md lists are those that there are, with their statuses.
#[test]
fn the_documented_problems_are_those_that_there_are() {
    let document = document();
    let codes: BTreeSet<String> = document["components"]["schemas"]["ProblemCode"]["enum"]
        .as_array()
        .unwrap()
        .iter()
        .map(|code| {
            let parsed: iam_sorry_core::api::ProblemCode = serde_json::from_value(code.clone()).unwrap();
            assert_eq!(parsed.as_str(), code.as_str().unwrap());
            format!("| {} | `{}` |", parsed.status(), parsed.as_str())
        })
        .collect();
    let text = std::fs::read_to_string(testkit::workspace().join("docs/api.md")).unwrap();
    let listed: BTreeSet<String> = text
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains("| `"))
        .map(|line| line.splitn(4, '|').take(3).collect::<Vec<_>>().join("|") + "|")
        .collect();
    assert_eq!(listed, codes);
}

//! Temporary credentials: of a user, of a role; durations; what CloudTrail would see.

use iam_sorry_core::api::{CredentialsRequest, IssuedCredentials, PageQuery, ProblemCode};
use iam_sorry_server::caller::Caller;
use iam_sorry_server::error::ServiceError;
use iam_sorry_server::operations::action::RunOutput;
use serde_json::json;
use testkit::Fault;

use crate::scene::{Instance, Scene, ada, code, creds, dirk, erik, person};
use crate::verbs::Verbs as _;

fn issue(
    running: &Instance,
    caller: &Caller,
    request: CredentialsRequest,
) -> Result<IssuedCredentials, ServiceError> {
    match running.run(running.service.issue_credentials(caller, None, request))? {
        RunOutput::Acted(issued) => Ok(issued),
        RunOutput::Unchanged(_) => panic!("a dry run"),
    }
}

fn of_user(name: &str, seconds: Option<u32>) -> CredentialsRequest {
    CredentialsRequest { user: Some(name.into()), role: None, duration_seconds: seconds, dry_run: false }
}

fn of_role(arn: &str, seconds: Option<u32>) -> CredentialsRequest {
    CredentialsRequest { user: None, role: Some(arn.into()), duration_seconds: seconds, dry_run: false }
}

#[test]
fn a_users_session_is_the_users_own_takes_five_requests_and_leaves_no_key() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    scene.proxy.clear_calls();
    let issued = issue(&running, &dirk(), of_user("DIRK-A", Some(3600))).unwrap();
    assert_eq!(
        scene.proxy.actions(),
        ["GetUser", "CreateAccessKey", "GetSessionToken", "DeleteAccessKey", "GetCallerIdentity"]
    );
    let session = creds(&issued.access_key_id, &issued.secret_access_key, Some(&issued.session_token));
    let arn = scene.account.whoami(&session).unwrap();
    assert!(arn == issued.arn && arn.ends_with(":user/iam-sorry/dirk/dirk-a"), "{arn}");
    assert_eq!(issued.duration_seconds, 3600);
    assert!(scene.account.keys("dirk-a").is_empty());
    scene.assert_accounted_for(&running);
    let mine = running.run(running.service.list_grants(&dirk(), PageQuery::default())).unwrap();
    assert_eq!((mine.items.len(), mine.items[0].state.as_str()), (1, "active"));
    assert_eq!(mine.items[0].access_key_id, issued.access_key_id);
    let others = running.run(running.service.list_grants(&erik(), PageQuery::default())).unwrap();
    assert!(others.items.is_empty());
    let all = PageQuery { all: true, ..PageQuery::default() };
    assert_eq!(code(running.run(running.service.list_grants(&erik(), all.clone()))), ProblemCode::NotAllowed);
    assert_eq!(running.run(running.service.list_grants(&ada(), all)).unwrap().items.len(), 1);
}

#[test]
fn durations_are_cut_to_the_rules_and_the_answer_says_so() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    let issued = issue(&running, &dirk(), of_user("dirk-a", Some(129_600))).unwrap();
    assert_eq!(issued.duration_seconds, 14_400);
    assert!(issued.done.notes[0].starts_with("cut to 4 h"), "{:?}", issued.done.notes);
    let issued = issue(&running, &dirk(), of_user("dirk-a", None)).unwrap();
    assert!(issued.duration_seconds == 14_400 && issued.done.notes.is_empty(), "{:?}", issued.done);
    let role = issue(&running, &dirk(), of_role(&scene.role, Some(43_200))).unwrap();
    assert_eq!(role.duration_seconds, 7200);
    assert_eq!(code(issue(&running, &dirk(), of_user("dirk-a", Some(899)))), ProblemCode::BadRequest);
    let both = CredentialsRequest { role: Some(scene.role.clone()), ..of_user("dirk-a", None) };
    assert_eq!(code(issue(&running, &dirk(), both)), ProblemCode::BadRequest);
}

/// Confused deputy: ExternalId, SourceIdentity and session name are the service's; nothing in a request sets them.
#[test]
fn a_roles_session_names_the_person_and_bears_the_external_id() {
    let scene = Scene::new();
    let running = scene.start();
    let issued = issue(&running, &dirk(), of_role(&scene.role, Some(900))).unwrap();
    let session = creds(&issued.access_key_id, &issued.secret_access_key, Some(&issued.session_token));
    let arn = scene.account.whoami(&session).unwrap();
    assert!(arn.ends_with("assumed-role/Analysis/dirk.p") && arn == issued.arn, "{arn}");
    said_to_aws(&scene, "dirk.p", ["corp/uuid-dirk.p", "dirk.p", &issued.done.operation]);
    let odd = person("jörg m.", &["lab"]);
    let issued = issue(&running, &odd, of_role(&scene.role, Some(900))).unwrap();
    assert!(issued.arn.contains("/j-rg-m.-"), "{}", issued.arn);
    // What neither may hold goes with a digest of the whole; a tag may have the blank.
    let (_, name) = issued.arn.rsplit_once('/').unwrap();
    let tags = ["corp/uuid-j-rg m.-08e9657e", "j-rg m.-2f48a3f5", &issued.done.operation];
    said_to_aws(&scene, name, tags);
    // The service itself is refused without the handshake: so it was sent.
    let args = json!({"RoleArn": scene.role, "RoleSessionName": "without"});
    let refused = scene.account.call_as(&scene.identity, "sts", "assume_role", args);
    assert_eq!(refused.unwrap_err().code, "AccessDenied");
    assert_eq!(code(issue(&running, &erik(), of_role(&scene.role, None))), ProblemCode::NotAllowed);
    let other = scene.role.replace("Analysis", "Admin");
    assert_eq!(code(issue(&running, &dirk(), of_role(&other, None))), ProblemCode::Guardrail);
}

/// What the last AssumeRole said of the person, whose three tags have these values.
fn said_to_aws(scene: &Scene, person: &str, tags: [&str; 3]) {
    let call = scene.proxy.calls().into_iter().rfind(|call| call.action == "AssumeRole").unwrap();
    let said =
        |name: &str| call.parameters.get(name).unwrap_or_else(|| panic!("{name}: {call:?}")).to_owned();
    assert_eq!((said("RoleSessionName"), said("SourceIdentity")), (person.to_owned(), person.to_owned()));
    assert_eq!(said("ExternalId"), "handshake");
    assert_eq!(said("RoleArn"), scene.role);
    let mut found: Vec<_> = (1..=3)
        .map(|n| (said(&format!("Tags.member.{n}.Key")), said(&format!("Tags.member.{n}.Value"))))
        .collect();
    found.sort();
    let [owner, name, operation] = tags.map(str::to_owned);
    let expected =
        [("iam-sorry-name", name), ("iam-sorry-operation", operation), ("iam-sorry-person", owner)];
    assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value)));
    for more in ["Tags.member.4.Key", "TransitiveTagKeys.member.1", "Policy", "PolicyArns.member.1.arn"] {
        assert_eq!(call.parameters.get(more), None, "{more}");
    }
    assert!(!format!("{call:?}").contains("handshake"));
}

#[test]
fn a_role_whose_own_maximum_is_shorter_is_asked_for_an_hour() {
    let scene = Scene::new();
    let running = scene.start();
    scene.proxy.fault_once("AssumeRole", Fault::Status(400, "ValidationError"));
    let error = issue(&running, &dirk(), of_role(&scene.role, Some(7200))).unwrap_err();
    // The proxy's words are not about the duration, so it is not tried again.
    assert_eq!(error.code, ProblemCode::AwsRefused, "{error}");
    assert_eq!(scene.proxy.count("AssumeRole"), 1);
}

#[test]
fn a_dry_run_issues_nothing() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    scene.proxy.clear_calls();
    let request = CredentialsRequest { dry_run: true, ..of_user("dirk-a", Some(90_000)) };
    let given = running.run(running.service.issue_credentials(&dirk(), None, request)).unwrap();
    let RunOutput::Unchanged(done) = given else { panic!() };
    assert!(done.notes.iter().any(|note| note.contains("would be issued for 4 h")), "{done:?}");
    assert!(scene.proxy.calls().is_empty());
}

#[test]
fn a_key_that_aws_does_not_know_yet_is_waited_for() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    scene.proxy.fault("*", Fault::NewKeyRefused(2));
    issue(&running, &dirk(), of_user("dirk-a", Some(900))).unwrap();
    assert_eq!(scene.proxy.count("GetSessionToken"), 3);
    scene.assert_accounted_for(&running);
}

#[test]
fn many_at_once_for_one_user_wait_for_each_other() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    scene.proxy.fault("CreateAccessKey", Fault::TwoKeyLimit);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let service = running.service.clone();
            running.spawn(async move {
                service.issue_credentials(&dirk(), None, of_user("dirk-a", Some(900))).await.map(drop)
            })
        })
        .collect();
    for task in tasks {
        running.run(task).unwrap().unwrap();
    }
    scene.assert_accounted_for(&running);
}

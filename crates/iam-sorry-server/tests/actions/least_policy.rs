//! The policy that `iam-sorryd policy` prints is enough, and each action in it is needed: with any one taken away
//! something fails and nothing is left behind.
//!
//! What this emulator can't see: paths and conditions (see the scene), sts:SetSourceIdentity and sts:TagSession in an
//! identity's own policy, and the three kinds of credentials that it does not have.

use iam_sorry_core::api::{CreateUser, CredentialsRequest, DeleteKey, Options, PolicyChange};
use iam_sorry_server::error::ServiceError;
use serde_json::json;

use crate::scene::{Instance, Scene, dirk, user_ref};
use crate::verbs::Verbs as _;

/// One pass through every action, with all that hangs on a user to be deleted. The first refusal ends it.
fn everything(scene: &Scene, running: &Instance) -> Result<(), ServiceError> {
    let (service, dirk) = (&running.service, dirk());
    let request =
        CreateUser { name: "dirk-a".into(), policies: vec![scene.policies[0].clone()], dry_run: false };
    running.run(service.create_user(&dirk, None, request))?;
    let made = running.new_key(scene, "dirk-a")?;
    running.run(service.rotate_key(&dirk, None, "dirk-a", &made.access_key_id, Options::default()))?;
    for request in [
        CredentialsRequest {
            user: Some("dirk-a".into()),
            role: None,
            duration_seconds: Some(900),
            dry_run: false,
        },
        CredentialsRequest {
            user: None,
            role: Some(scene.role.clone()),
            duration_seconds: Some(900),
            dry_run: false,
        },
    ] {
        running.run(service.issue_credentials(&dirk, None, request))?;
    }
    let change = PolicyChange { policy_arn: scene.policies[0].clone(), dry_run: false };
    running.run(service.detach_policy(&dirk, None, "dirk-a", change))?;
    running.run(service.show_user(&dirk, &user_ref("dirk-a")))?;
    let call = |op: &str, args| drop(scene.account.call("iam", op, args));
    call("attach_user_policy", json!({"UserName": "dirk-a", "PolicyArn": scene.unlisted}));
    scene.account.put_policy(
        "dirk-a",
        &json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}),
    );
    call("create_group", json!({"GroupName": "staff"}));
    call("add_user_to_group", json!({"GroupName": "staff", "UserName": "dirk-a"}));
    call("create_login_profile", json!({"UserName": "dirk-a", "Password": "x-9-Y-long-enough"}));
    let device =
        scene.account.call("iam", "create_virtual_mfa_device", json!({"VirtualMFADeviceName": "phone"}));
    let serial = &device["VirtualMFADevice"]["SerialNumber"];
    let codes = json!({"UserName": "dirk-a", "SerialNumber": serial, "AuthenticationCode1": "123456",
        "AuthenticationCode2": "654321"});
    call("enable_mfa_device", codes);
    running.run(service.delete_user(&dirk, None, "dirk-a", Options::default()))?;
    call("create_user", json!({"UserName": "dirk-b", "Path": "/iam-sorry/dirk/"}));
    running.run(service.adopt_user(&dirk, None, "dirk-b", Options::default()))?;
    let key = running.new_key(scene, "dirk-b")?.access_key_id;
    let options = DeleteKey { dry_run: false, force: false };
    running.run(service.delete_access_key(&dirk, None, "dirk-b", &key, options))?;
    Ok(())
}

/// What the emulator never asks for.
const UNSEEN: [&str; 9] = [
    "iam:ListSigningCertificates",
    "iam:DeleteSigningCertificate",
    "iam:ListSSHPublicKeys",
    "iam:DeleteSSHPublicKey",
    "iam:ListServiceSpecificCredentials",
    "iam:DeleteServiceSpecificCredential",
    "sts:SetSourceIdentity",
    "sts:TagSession",
    // The emulator has no UpdateUser.
    "iam:UpdateUser",
];

#[test]
fn it_is_enough_for_everything() {
    let scene = Scene::new();
    let running = scene.start();
    everything(&scene, &running).unwrap();
    scene.assert_accounted_for(&running);
}

#[test]
fn every_action_in_it_is_needed() {
    let all = Scene::new().least_policy().actions();
    let tried: Vec<_> = all.into_iter().filter(|action| !UNSEEN.contains(action)).collect();
    assert_eq!(tried.len(), 22, "{tried:?}");
    std::thread::scope(|threads| {
        for group in tried.chunks(8) {
            threads.spawn(move || group.iter().for_each(|action| needed(action)));
        }
    });
}

fn needed(action: &str) {
    let scene = Scene::lacking(&[action]);
    let running = scene.start();
    match (action, everything(&scene, &running)) {
        // Without these nothing fails, but less is done: the old key stays, the answer says so.
        ("iam:UpdateAccessKey" | "iam:GetAccessKeyLastUsed", result) => {
            let rotated = running.trail().into_iter().any(|event| event.action == "rotate-key");
            assert!(rotated, "{action}: {result:?}");
            let inactive = scene.proxy.count("UpdateAccessKey") > 0;
            assert_eq!(inactive, action == "iam:UpdateAccessKey", "{action}");
        }
        // A new user bears its tags from the start, and the emulator asks for TagUser only by itself.
        (_, result) => {
            let refusal = result.expect_err(action);
            let told = refusal.detail.contains(action)
                || refusal.detail.contains("can't be")
                || refusal.detail.contains("could not be");
            assert!(told || action == "sts:AssumeRole", "{action}: {refusal}");
        }
    }
    // A user or key that can't be deleted stays open; everything else is accounted for.
    if !["iam:DeleteAccessKey", "iam:DeleteUser"].contains(&action) {
        running.settled();
    }
}

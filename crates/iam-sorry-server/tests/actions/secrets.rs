//! No secret that was handed out is written anywhere: not in the database, not beside it, not in an error.

use std::path::Path;

use iam_sorry_core::api::{CredentialsRequest, Options};
use iam_sorry_server::operations::action::RunOutput;
use secrecy::ExposeSecret;

use crate::scene::{Scene, dirk, key};
use crate::verbs::Verbs as _;

#[test]
fn every_byte_written_is_free_of_every_secret() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    let made = running.new_key(&scene, "dirk-a").unwrap();
    let rotated = running.run(running.service.rotate_key(
        &dirk(),
        Some(&key("rotate-once")),
        "dirk-a",
        &made.access_key_id,
        Options::default(),
    ));
    let RunOutput::Acted(rotated) = rotated.unwrap() else { panic!() };
    scene.remember(&rotated.secret_access_key);
    let mut tokens = Vec::new();
    for (user, role) in [(Some("dirk-a".to_owned()), None), (None, Some(scene.role.clone()))] {
        let request = CredentialsRequest { user, role, duration_seconds: Some(900), dry_run: false };
        let given = running.run(running.service.issue_credentials(&dirk(), None, request)).unwrap();
        let RunOutput::Acted(issued) = given else { panic!() };
        assert!(!format!("{issued:?}").contains(issued.secret_access_key.expose_secret()));
        scene.remember(&issued.secret_access_key);
        scene.remember(&issued.session_token);
        tokens.push(issued.access_key_id);
    }
    scene.secrets.lock().unwrap().push(scene.identity.secret.clone());
    // While it runs, with SQLite's log not yet in the database; its own secret lies where the scene put it.
    std::fs::remove_file(scene.folder.path().join("secret")).unwrap();
    let secrets = scene.secrets.lock().unwrap();
    assert_eq!(secrets.len(), 7);
    let (mut files, mut known) = (0, false);
    every_file(scene.folder.path(), &mut |path| {
        let bytes = std::fs::read(path).unwrap();
        files += 1;
        let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        for secret in secrets.iter() {
            assert!(!has(secret), "a secret is in {}", path.display());
        }
        // The search finds what is there.
        known |= has(&tokens[0]);
    });
    assert!(files > 0 && known);
    drop(running);
}

fn every_file(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { every_file(&path, visit) } else { visit(&path) }
    }
}

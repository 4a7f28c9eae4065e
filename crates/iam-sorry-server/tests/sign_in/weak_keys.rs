//! Ed25519 public keys of small order: a signature for one takes no private key.

use iam_sorry_core::api::{ProblemCode, SshChallenge};
use iam_sorry_server::login::LoginMethods;
use iam_sorry_server::sessions::NewSession;

use crate::rig::{HERE, Rig};

/// The neutral element: R the same and S = 0 verify for every message.
const NEUTRAL: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// All zero, a point of order 4: the same signature verifies for every fourth message.
const ZERO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn forged() -> [u8; 64] {
    let mut signature = [0; 64];
    signature[0] = 1;
    signature
}

/// Signs in as whoever has the key, without its private half.
async fn forge(rig: &Rig, line: &str) -> Option<NewSession> {
    for _ in 0..64 {
        let challenge: SshChallenge = match rig.challenge(line, HERE).await {
            Ok(challenge) => challenge,
            Err(refusal) => {
                assert_eq!(refusal.code, ProblemCode::BadRequest);
                assert!(refusal.detail.contains("weak"), "{}", refusal.detail);
                return None;
            }
        };
        if let Ok(session) = rig.answer(&challenge, line, &forged(), HERE).await {
            return Some(session);
        }
    }
    None
}

#[tokio::test]
async fn nobody_signs_in_by_a_key_that_needs_no_private_half() {
    for line in [NEUTRAL, ZERO] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("people.toml");
        std::fs::write(&file, format!("[[people]]\nname = \"ada\"\nkeys = [\"{line}\"]\n")).unwrap();
        let login = format!("[ssh]\nfile = {file:?}\n[limits]\nrefusal_milliseconds = 0\n");
        // The file with it is refused as a whole, as one with any other mistake is.
        let error = LoginMethods::new(&toml::from_str(&login).unwrap()).err().unwrap().to_string();
        assert!(error.contains("a key of 'ada' is a weak Ed25519 key"), "{error}");
        std::fs::write(&file, "").unwrap();
        let rig = Rig::with(&login, folder, |methods| methods);
        let session = forge(&rig, line).await;
        assert!(session.is_none(), "signed in as {:?}", session.map(|s| s.answer.identity));
    }
}

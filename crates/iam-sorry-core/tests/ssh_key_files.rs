//! Key files of every kind, made by the real ssh-keygen, which also serves as the oracle for signatures.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iam_sorry_core::ssh::key_file::{KeyFile, KeyFileError, MAX_ROUNDS, Protection};
use iam_sorry_core::ssh::{KeyId, PublicKey, PublicKeyError, UnlockedKey, sshsig};
use proptest::prelude::*;
use secrecy::SecretString;
use tempfile::TempDir;

const PASSPHRASE: &str = "correct horse";

struct Keys {
    dir: TempDir,
}

impl Keys {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Runs ssh-keygen with these arguments and `-f FILE`; returns the file.
    fn make(&self, name: &str, passphrase: &str, arguments: &[&str]) -> PathBuf {
        let path = self.dir.path().join(name);
        run(Command::new("ssh-keygen")
            .args(["-q", "-N", passphrase, "-C", "a comment"])
            .args(arguments)
            .arg("-f")
            .arg(&path));
        path
    }

    /// Keeps the folder alive together with the path.
    fn make_kept(self, name: &str, passphrase: &str, arguments: &[&str]) -> (Self, PathBuf) {
        let path = self.make(name, passphrase, arguments);
        (self, path)
    }
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn parse(path: &Path) -> Result<KeyFile, KeyFileError> {
    KeyFile::parse(&fs::read(path).unwrap())
}

fn unlock(path: &Path, passphrase: &str) -> Result<UnlockedKey, KeyFileError> {
    parse(path)?.unlock(&SecretString::from(passphrase))
}

fn public(path: &Path) -> PublicKey {
    PublicKey::parse_line(&fs::read_to_string(path.with_extension("pub")).unwrap()).unwrap().0
}

#[test]
fn an_unprotected_key_is_seen_as_such_and_opens() {
    let path = Keys::new().make_kept("plain", "", &["-t", "ed25519"]);
    let file = parse(&path.1).unwrap();
    assert_eq!(file.protection(), &Protection::None);
    assert_eq!(file.public_key(), &public(&path.1));
    assert_eq!(unlock(&path.1, "anything").unwrap().public_key(), &public(&path.1));
}

#[test]
fn every_supported_cipher_unlocks_with_the_right_passphrase_only() {
    let keys = Keys::new();
    for cipher in [
        "aes256-ctr",
        "aes256-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
        "aes128-cbc",
        "aes192-ctr",
        "aes128-gcm@openssh.com",
    ] {
        let path = keys.make(cipher, PASSPHRASE, &["-t", "ed25519", "-a", "2", "-Z", cipher]);
        let file = parse(&path).unwrap();
        assert_eq!(file.protection(), &Protection::Passphrase { cipher: cipher.into(), rounds: 2 });
        assert_eq!(file.public_key(), &public_beside(&path));
        let key = unlock(&path, PASSPHRASE).unwrap_or_else(|e| panic!("{cipher}: {e}"));
        assert_eq!(key.public_key(), file.public_key());
        for wrong in ["", "correct horse ", "Correct horse"] {
            assert_eq!(unlock(&path, wrong).unwrap_err(), KeyFileError::WrongPassphrase, "{cipher}");
        }
    }
}

/// `a.b` has its public part in `a.b.pub`.
fn public_beside(path: &Path) -> PublicKey {
    let line = fs::read_to_string(format!("{}.pub", path.display())).unwrap();
    PublicKey::parse_line(&line).unwrap().0
}

#[test]
fn unsupported_ciphers_are_named_before_a_passphrase_is_needed() {
    let (_keys, path) =
        Keys::new().make_kept("tdes", PASSPHRASE, &["-t", "ed25519", "-a", "1", "-Z", "3des-cbc"]);
    let file = parse(&path).unwrap();
    let expected = KeyFileError::UnsupportedCipher("3des-cbc".into());
    assert_eq!(file.check_unlockable(), Err(expected.clone()));
    assert!(expected.hint("/a b").unwrap().contains("-f '/a b'"));
    assert_eq!(unlock(&path, PASSPHRASE).unwrap_err(), expected);
    // The public part is still known: an agent may hold the key.
    assert_eq!(file.public_key(), &public(&path));
}

/// The container of a key file, changed by `change`, as a key file again.
fn altered(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let text = fs::read_to_string(path).unwrap();
    let base64: String = text.lines().filter(|l| !l.starts_with("-----")).collect();
    let mut container = STANDARD.decode(base64).unwrap();
    change(&mut container);
    format!(
        "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n",
        STANDARD.encode(container)
    )
    .into_bytes()
}

// openssh-key-v1\0, str("aes256-ctr"), str("bcrypt"), length of the options, str(salt[16]); then the rounds.
const ROUNDS_AT: usize = 15 + 14 + 10 + 4 + 20;

#[test]
fn too_many_rounds_are_refused_before_the_work() {
    let (_keys, path) = Keys::new().make_kept("k", PASSPHRASE, &["-t", "ed25519", "-a", "1"]);
    for (rounds, refused) in [(MAX_ROUNDS, false), (MAX_ROUNDS + 1, true), (u32::MAX, true)] {
        let bytes = altered(&path, |c| {
            assert_eq!(c[ROUNDS_AT..ROUNDS_AT + 4], [0, 0, 0, 1]);
            c[ROUNDS_AT..ROUNDS_AT + 4].copy_from_slice(&rounds.to_be_bytes());
        });
        let file = KeyFile::parse(&bytes).unwrap();
        assert_eq!(file.check_unlockable().is_err(), refused, "{rounds}");
        if refused {
            // u32::MAX rounds would take years.
            let error = file.unlock(&SecretString::from(PASSPHRASE)).unwrap_err();
            assert_eq!(error, KeyFileError::TooManyRounds(rounds));
        }
    }
}

#[test]
fn a_public_part_of_another_key_is_noticed() {
    let keys = Keys::new();
    let theirs = public(&keys.make("theirs", "", &["-t", "ed25519"]));
    for (passphrase, name) in [("", "plain"), (PASSPHRASE, "locked")] {
        let path = keys.make(name, passphrase, &["-t", "ed25519", "-a", "1"]);
        let ours = public(&path);
        let bytes = altered(&path, |c| {
            let at = c.windows(32).position(|w| w == ours.as_bytes()).unwrap();
            c[at..at + 32].copy_from_slice(theirs.as_bytes());
        });
        let error = KeyFile::parse(&bytes).unwrap().unlock(&SecretString::from(passphrase)).unwrap_err();
        assert!(
            matches!(error, KeyFileError::PublicPartDiffers | KeyFileError::Corrupt(_)),
            "{name}: {error}"
        );
    }
}

#[test]
fn other_types_and_formats_are_told_apart() {
    let keys = Keys::new();
    let kind = |name: &str, passphrase: &str, arguments: &[&str]| {
        parse(&keys.make(name, passphrase, arguments)).unwrap_err()
    };
    let unsupported = |name: &str| KeyFileError::UnsupportedType(name.into());
    assert_eq!(kind("rsa", "", &["-t", "rsa", "-b", "1024"]), unsupported("ssh-rsa"));
    assert_eq!(kind("rsa2", PASSPHRASE, &["-t", "rsa", "-b", "1024", "-a", "1"]), unsupported("ssh-rsa"));
    assert_eq!(kind("ecdsa", "", &["-t", "ecdsa"]), unsupported("ecdsa-sha2-nistp256"));
    assert_eq!(kind("pem", "", &["-t", "rsa", "-b", "1024", "-m", "PEM"]), KeyFileError::Pem("RSA".into()));
    assert_eq!(
        kind("pem2", PASSPHRASE, &["-t", "rsa", "-b", "1024", "-m", "PEM"]),
        KeyFileError::Pem("RSA".into())
    );
    assert_eq!(kind("pemec", "", &["-t", "ecdsa", "-m", "PEM"]), KeyFileError::Pem("EC".into()));
    assert_eq!(kind("p8", "", &["-t", "rsa", "-b", "1024", "-m", "PKCS8"]), KeyFileError::Pkcs8);
    assert_eq!(kind("p8x", PASSPHRASE, &["-t", "rsa", "-b", "1024", "-m", "PKCS8"]), KeyFileError::Pkcs8);
    // Public keys given by mistake, also of other types, also in RFC 4716's format.
    assert_eq!(parse(&keys.dir.path().join("rsa.pub")).unwrap_err(), KeyFileError::PublicKey);
    let ed = keys.make("ed", "", &["-t", "ed25519"]);
    assert_eq!(parse(&ed.with_extension("pub")).unwrap_err(), KeyFileError::PublicKey);
    let rfc4716 = run(Command::new("ssh-keygen").args(["-e", "-f"]).arg(&ed));
    assert_eq!(KeyFile::parse(rfc4716.as_bytes()).unwrap_err(), KeyFileError::PublicKey);
    let of = |text: &str| KeyFile::parse(text.as_bytes()).unwrap_err();
    assert_eq!(of("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n"), KeyFileError::Putty);
    for nothing in ["", "hello", "-----BEGIN CERTIFICATE-----\n", "\0\0"] {
        assert_eq!(of(nothing), KeyFileError::NotAKey);
    }
    let sk = b"\0\0\0\x1ask-ssh-ed25519@openssh.com";
    assert_eq!(
        PublicKey::from_blob(sk).unwrap_err(),
        PublicKeyError::UnsupportedType("sk-ssh-ed25519@openssh.com".into())
    );
    assert!(unsupported("sk-ssh-ed25519@openssh.com").to_string().contains("security-key"));
}

#[test]
fn windows_line_ends_are_read() {
    let (_keys, path) = Keys::new().make_kept("k", "", &["-t", "ed25519"]);
    let text = fs::read_to_string(&path).unwrap().replace('\n', "\r\n");
    assert_eq!(KeyFile::parse(text.as_bytes()).unwrap().public_key(), &public(&path));
}

#[test]
fn fingerprints_and_lines_are_those_of_ssh_keygen() {
    let (_keys, path) = Keys::new().make_kept("k", "", &["-t", "ed25519"]);
    let line = fs::read_to_string(path.with_extension("pub")).unwrap();
    let (key, comment) = PublicKey::parse_line(&line).unwrap();
    assert_eq!(comment, "a comment");
    assert_eq!(key.to_line(&comment), line.trim_end());
    let listed = run(Command::new("ssh-keygen").arg("-lf").arg(&path));
    let fingerprint = key.key_id().to_string();
    assert!(listed.contains(&fingerprint), "{listed}");
    assert_eq!(KeyId::parse(&fingerprint), Some(key.key_id()));
    let private = fs::read_to_string(&path).unwrap();
    assert_eq!(PublicKey::parse_line(&private), Err(PublicKeyError::PrivateKey));
}

#[test]
fn ssh_keygen_makes_the_same_signature() {
    let (keys, path) = Keys::new().make_kept("k", "", &["-t", "ed25519"]);
    let message = keys.dir.path().join("message");
    fs::write(&message, b"iam-sorry/v2/kek\0 and any bytes \xff\xfe").unwrap();
    run(Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", "seal-v2@iam-sorry", "-f"])
        .arg(&path)
        .arg(&message));
    let armored = fs::read_to_string(message.with_extension("sig")).unwrap();
    let blob: String = armored.lines().filter(|l| !l.starts_with("-----")).collect();
    let blob = STANDARD.decode(blob).unwrap();
    let key = unlock(&path, "").unwrap();
    let blob_to_sign = sshsig::to_be_signed("seal-v2@iam-sorry", &fs::read(&message).unwrap());
    // PROTOCOL.sshsig, section 1: the signature is the blob's last string.
    assert_eq!(&blob[blob.len() - 64..], key.sign(&blob_to_sign).as_bytes());
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), framed in any::<bool>()) {
        let _ = KeyFile::parse(&bytes);
        let _ = PublicKey::from_blob(&bytes);
        let _ = PublicKey::parse_line(&String::from_utf8_lossy(&bytes));
        let mut container = if framed { b"openssh-key-v1\0".to_vec() } else { Vec::new() };
        container.extend(bytes);
        let text = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n", STANDARD.encode(container));
        if let Ok(file) = KeyFile::parse(text.as_bytes()) {
            let _ = file.check_unlockable();
        }
    }

    #[test]
    fn public_keys_round_trip(bytes in any::<[u8; 32]>(), comment in "[!-~]{0,20}( [!-~]{1,9})?") {
        let key = PublicKey::from_bytes(bytes).unwrap();
        prop_assert_eq!(PublicKey::from_blob(&key.blob()), Ok(key));
        prop_assert_eq!(PublicKey::parse_line(&key.to_line(&comment)), Ok((key, comment.trim().to_owned())));
    }
}

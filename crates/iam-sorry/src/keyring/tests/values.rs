//! Values: corrupt, mixed, moved, legacy, plain.

use super::*;

#[test]
fn corrupt_and_mixed_values_are_refused_before_anybody_is_asked() {
    let askpass = AskPass::answering(PASSPHRASE);
    let rig = Rig::with_key().askpass(&askpass);
    let (new, old) = (rig.sealed(), rig.sealed());
    let asked = askpass.calls();
    let cut = [new[0].clone(), new[1][..100].to_owned()];
    let text = open(&mut rig.keyring(), &cut).unwrap_err().to_string();
    assert!(text.starts_with("profile 'p', aws_secret_access_key: the sealed value is corrupt"), "{text}");
    let mixed = [new[0].clone(), old[1].clone()];
    let text = open(&mut rig.keyring(), &mixed).unwrap_err().to_string();
    assert!(text.contains("mixed, possibly an old value"), "{text}");
    assert_eq!(askpass.calls(), asked);
}

#[test]
fn moved_values_say_where_they_belong() {
    let askpass = AskPass::answering(PASSPHRASE);
    let rig = Rig::with_key().askpass(&askpass);
    let values = rig.sealed();
    let mut keyring = rig.keyring();
    let swapped = keyring.open_fields("p", &[("aws_secret_access_key", &values[0])]).unwrap_err().to_string();
    assert!(swapped.contains("it was sealed as aws_access_key_id"), "{swapped}");
    keyring.add_known_profiles(["other".to_owned(), "p".to_owned()]);
    let moved = keyring.open_fields("q", &fields(&values)).unwrap_err().to_string();
    assert!(moved.contains("it was sealed for profile 'p'"), "{moved}");
    let resealed = keyring.reseal("q", &fields(&values), "p").unwrap();
    assert!(keyring.open_fields("q", &fields(&resealed)).is_ok());
    assert_ne!(salt(&resealed[0]), salt(&values[0]), "the only recipient is here, so the envelope is fresh");
}

#[test]
fn legacy_values_open_with_a_warning_or_not_at_all() {
    let vector: serde_json::Value =
        serde_json::from_str(include_str!("../../../../iam-sorry-core/tests/vectors/legacy.json")).unwrap();
    let mut rig = Rig::new();
    rig.home.write_mode(".ssh/id_ed25519", vector["key_file"].as_str().unwrap(), 0o600);
    let value = vector["value"].as_str().unwrap();
    let field = [("aws_secret_access_key", value)];
    let opened = rig.keyring().open_fields("p", &field).unwrap();
    assert_eq!(opened[0].expose_secret(), vector["plaintext"].as_str().unwrap());
    assert!(rig.heard().contains("without the passphrase") && rig.heard().contains("iam-sorry migrate"));
    rig.options.refuse_legacy = true;
    assert!(matches!(rig.keyring().open_fields("p", &field), Err(KeyError::LegacyRefused { .. })));
    rig.options.refuse_legacy = false;
    let askpass = AskPass::answering(vector["passphrase"].as_str().unwrap());
    let rig = rig.askpass(&askpass);
    let sealed = rig.sealed();
    let both = [("aws_access_key_id", sealed[0].as_str()), field[0]];
    let text = rig.keyring().open_fields("p", &both).unwrap_err().to_string();
    assert!(text.contains("side by side"), "{text}");
}

#[test]
fn plain_values_need_no_key() {
    let rig = Rig::new();
    let opened = rig.keyring().open_fields("p", &[("aws_access_key_id", "AKIA"), ("region", "")]).unwrap();
    assert_eq!(opened.iter().map(|s| s.expose_secret()).collect::<Vec<_>>(), ["AKIA", ""]);
}

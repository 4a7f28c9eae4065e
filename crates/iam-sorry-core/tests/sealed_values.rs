//! Sealed values against the vectors of an independent implementation, and against whoever tampers with them.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use iam_sorry_core::seal::{
    self, DataKey, Envelope, FreshKeyMaterial, LegacyValue, NewEnvelope, Nonce, SealError, SealedValue, Value,
};
use iam_sorry_core::ssh::{PublicKey, Signature, UnlockedKey};
use proptest::prelude::*;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

// RFC 8032, section 7.1, tests 1 and 2.
const SEED_A: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const PUB_A: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
const SEED_B: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
const PUB_B: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";

// What the vectors hold, and where it was sealed for.
const PROFILE: &str = "iam-sorry";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn key(seed: &str, public: &str) -> UnlockedKey {
    let public = PublicKey::from_bytes(hex(public).try_into().unwrap()).unwrap();
    UnlockedKey::from_seed(&hex(seed).try_into().unwrap(), &public).unwrap()
}

fn a() -> UnlockedKey {
    key(SEED_A, PUB_A)
}

fn b() -> UnlockedKey {
    key(SEED_B, PUB_B)
}

fn vector(name: &str) -> String {
    let all: serde_json::Value = serde_json::from_str(include_str!("vectors/sealed-v2.json")).unwrap();
    all[name].as_str().unwrap().to_owned()
}

fn sealed(text: &str) -> SealedValue {
    match seal::parse(text) {
        Ok(Value::Sealed(value)) => value,
        other => panic!("{other:?}"),
    }
}

/// Salt 00..1f and data key 20..3f, as in the vectors.
fn vector_material() -> FreshKeyMaterial {
    FreshKeyMaterial::from_random(Zeroizing::new(std::array::from_fn(|i| i as u8)))
}

fn nonce(first: u8) -> Nonce {
    Nonce::from_random(std::array::from_fn(|i| first + i as u8))
}

fn envelope(material: FreshKeyMaterial, keys: &[&UnlockedKey]) -> Envelope {
    let public: Vec<_> = keys.iter().map(|k| *k.public_key()).collect();
    let mut new = NewEnvelope::new(material, &public).unwrap();
    for key in keys {
        let signature = key.sign(&new.to_be_signed(&key.public_key().key_id()));
        new.add_signature(key.public_key(), &signature).unwrap();
    }
    new.finish().unwrap()
}

fn unwrap(value: &SealedValue, key: &UnlockedKey) -> Result<DataKey, SealError> {
    let signature = key.sign(&value.header().to_be_signed(&key.public_key().key_id()));
    value.header().unwrap(key.public_key(), &signature)
}

fn text(opened: Result<SecretString, SealError>) -> Result<String, SealError> {
    opened.map(|s| s.expose_secret().to_owned())
}

#[test]
fn signatures_and_fingerprints_are_those_of_the_vectors() {
    let id = a().public_key().key_id();
    assert_eq!(to_hex(id.as_bytes()), vector("keyidA"));
    assert_eq!(id.to_string(), vector("fpA"));
    let to_be_signed = sealed(&vector("v1")).header().to_be_signed(&id);
    assert_eq!(to_hex(&to_be_signed), vector("tbsA"));
    assert_eq!(to_hex(a().sign(&to_be_signed).as_bytes()), vector("sigA"));
}

#[test]
fn seals_the_vectors_byte_for_byte() {
    let secret = SecretString::from(SECRET);
    let one = envelope(vector_material(), &[&a()]);
    assert_eq!(to_hex(one.header().as_bytes()), vector("header1"));
    let v1 = one.seal(PROFILE, "aws_secret_access_key", &secret, nonce(0x40)).unwrap();
    assert_eq!(v1.to_string(), vector("v1"));
    assert_eq!(v1.to_string().len(), 264);

    // Recipients in any order, and a recipient that is added later, give the same bytes.
    let id = SecretString::from(KEY_ID);
    for two in [envelope(vector_material(), &[&a(), &b()]), envelope(vector_material(), &[&b(), &a()]), {
        let signature = b().sign(&one.header().to_be_signed(&b().public_key().key_id()));
        one.with_recipient(b().public_key(), &signature).unwrap()
    }] {
        let v2 = two.seal(PROFILE, "aws_access_key_id", &id, nonce(0x40)).unwrap();
        assert_eq!(v2.to_string(), vector("v2"));
    }
}

#[test]
fn opens_the_vectors_with_every_recipient() {
    let v1 = sealed(&vector("v1"));
    assert_eq!(
        text(unwrap(&v1, &a()).unwrap().open(&v1, PROFILE, "AWS_Secret_Access_Key")),
        Ok(SECRET.into())
    );
    assert_eq!(unwrap(&v1, &b()).unwrap_err(), SealError::NotARecipient(b().public_key().key_id()));
    let v2 = sealed(&vector("v2"));
    for key in [a(), b()] {
        let data_key = unwrap(&v2, &key).unwrap();
        assert_eq!(text(data_key.open(&v2, PROFILE, "aws_access_key_id")), Ok(KEY_ID.into()));
        // One signature serves every value with this salt.
        assert_eq!(data_key.salt(), v1.header().salt());
        assert_eq!(text(data_key.open(&v1, PROFILE, "aws_secret_access_key")), Ok(SECRET.into()));
    }
}

#[test]
fn legacy_vector_opens_with_its_key_file_only() {
    let all: serde_json::Value = serde_json::from_str(include_str!("vectors/legacy.json")).unwrap();
    let value = all["value"].as_str().unwrap();
    let Ok(Value::Legacy(legacy)) = seal::parse(value) else { panic!() };
    let file = all["key_file"].as_str().unwrap();
    assert_eq!(text(legacy.open(file.as_bytes())), Ok(all["plaintext"].as_str().unwrap().to_owned()));
    assert_eq!(legacy.to_string(), value);
    assert_eq!(text(legacy.open(format!("{file}\n").as_bytes())), Err(SealError::LegacyFailed));
}

/// Opens as a program would: parse, sign, unwrap, open.
fn open_as_program(value: &str) -> Option<String> {
    match seal::parse(value) {
        Ok(Value::Sealed(value)) => {
            let key = unwrap(&value, &a()).ok()?;
            text(key.open(&value, PROFILE, "aws_secret_access_key")).ok()
        }
        _ => None,
    }
}

#[test]
fn every_single_character_change_is_refused() {
    let good = vector("v1");
    assert_eq!(open_as_program(&good).as_deref(), Some(SECRET));
    let characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=. \n";
    for at in 0..good.len() {
        // In the body, every character of the alphabet; in the prefix a few.
        for c in characters.chars().filter(|c| at >= 17 || "A_.0".contains(*c)) {
            let mut bad = good.clone();
            bad.replace_range(at..=at, c.encode_utf8(&mut [0; 4]));
            if bad != good {
                assert_eq!(open_as_program(&bad), None, "character {at} as {c:?}");
            }
        }
    }
}

#[test]
fn truncated_and_extended_values_are_corrupt_before_any_key_is_needed() {
    let good = vector("v1");
    for end in 17..good.len() {
        let cut = seal::parse(&good[..end]);
        // Cut inside the ciphertext, what is left still has the form of a shorter value; opening it fails.
        let shortest = 17 + (117_usize + 12 + 16) * 4 / 3;
        if end < shortest {
            assert!(matches!(cut, Err(SealError::Corrupt(_))), "{end}: {cut:?}");
        }
        assert_eq!(open_as_program(&good[..end]), None, "{end}");
    }
    for tail in ["A", "AA", "AAA", "AAAA", "=", "==", " ", "\n", "\0", "ä"] {
        assert_eq!(open_as_program(&format!("{good}{tail}")), None, "{tail:?}");
    }
}

#[test]
fn swapped_fields_and_profiles_are_refused_and_told_apart() {
    let shared = envelope(vector_material(), &[&a()]);
    let place = |p: &str, f: &str| (p.to_owned(), f.to_owned());
    let value = shared.seal("one", "aws_access_key_id", &SecretString::from("x"), nonce(1)).unwrap();
    let key = shared.data_key();
    let siblings = [place("one", "aws_access_key_id"), place("old", "aws_access_key_id")];
    for (profile, field) in
        [("one", "aws_secret_access_key"), ("two", "aws_access_key_id"), ("One", "aws_access_key_id")]
    {
        let error = text(key.open_or_diagnose(&value, profile, field, &siblings)).unwrap_err();
        let expected =
            SealError::TamperedOrMoved { place: place(profile, field), sealed_as: Some(siblings[0].clone()) };
        assert_eq!(error, expected);
        assert!(key.open(&value, profile, field).is_err());
    }
    let renamed = text(key.open_or_diagnose(&value, "two", "aws_access_key_id", &siblings)).unwrap_err();
    assert!(renamed.to_string().contains("reseal 'two' --was 'one'"), "{renamed}");
    // The lengths in the AAD keep "ab"+"c" and "a"+"bc" apart.
    let value = shared.seal("ab", "c", &SecretString::from("x"), nonce(2)).unwrap();
    assert!(key.open(&value, "a", "bc").is_err());
    // Nobody can be told where a value belongs that was changed.
    let mut bytes = value.to_string();
    let last = if bytes.ends_with('A') { "Q" } else { "A" };
    bytes.replace_range(bytes.len() - 3..bytes.len() - 2, last);
    let changed = text(key.open_or_diagnose(&sealed(&bytes), "ab", "c", &siblings)).unwrap_err();
    assert!(matches!(changed, SealError::TamperedOrMoved { sealed_as: None, .. }), "{changed:?}");
}

#[test]
fn a_header_of_another_envelope_is_refused() {
    // The attacker knows a data key of his own and plants its header.
    let theirs = envelope(FreshKeyMaterial::from_random(Zeroizing::new([7; 64])), &[&a()]);
    let forged = theirs.seal("other", "f", &SecretString::from("forged"), nonce(1)).unwrap();
    let key = unwrap(&forged, &a()).unwrap();
    let ours = sealed(&vector("v1"));
    assert_eq!(text(key.open(&ours, PROFILE, "aws_secret_access_key")), Err(SealError::OtherEnvelope));
    assert!(Envelope::of_opened(&forged, &key, PROFILE, "aws_secret_access_key").is_err());
}

#[test]
fn newer_versions_and_suites_say_so() {
    for newer in ["__encrypted__:v3.AAAA", "__encrypted__:v10.", "__encrypted__:v2.AgEAAA"] {
        assert!(matches!(seal::parse(newer), Err(SealError::Newer(_))), "{newer}");
    }
    for corrupt in [
        "__encrypted__:",
        "__encrypted__:v2",
        "__encrypted__:v2.",
        "__encrypted__:x.AAAA",
        "__encrypted__:v.",
        "__encrypted__:AAAA",
        "__encrypted__:v2.AQAA",
        "__encrypted__:vvv2.AQ",
        // One character of the prefix is damaged: no AWS key looks like that, so it must not pass for a plain one.
        "__encrypted__",
        " __encrypted__:v2.AA",
        "_encrypted__:v2.AQAA",
        "__encrypteX__:v2.AQAA",
        "__encrypted__;v2.AQAA",
    ] {
        assert!(matches!(seal::parse(corrupt), Err(SealError::Corrupt(_))), "{corrupt}");
    }
    for plain in ["", "AKIA", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"] {
        assert_eq!(seal::parse(plain), Ok(Value::Plain));
    }
}

/// `v1` with a stanza of type 9 (two bytes) put before or behind the real one, sealed as such.
fn with_unknown_stanza(before: bool) -> String {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut body = engine.decode(&vector("v1")[17..]).unwrap();
    body[1] = 2;
    let at = if before { 34 } else { 117 };
    body.splice(at..at, [9, 0, 2, 0xAB, 0xCD]);
    format!("__encrypted__:v2.{}", engine.encode(body))
}

#[test]
fn unknown_stanzas_are_kept_and_skipped() {
    for before in [true, false] {
        let text_form = with_unknown_stanza(before);
        let value = sealed(&text_form);
        assert_eq!(value.to_string(), text_form);
        assert_eq!(value.header().unknown_recipients(), 1);
        assert_eq!(value.header().recipients().collect::<Vec<_>>(), [a().public_key().key_id()]);
        // The data key is still wrapped for A; the value itself was sealed under another header, so it doesn't open.
        let key = unwrap(&value, &a()).unwrap();
        assert!(matches!(
            key.open(&value, PROFILE, "aws_secret_access_key"),
            Err(SealError::TamperedOrMoved { .. })
        ));
    }
}

#[test]
fn signatures_are_verified_before_use() {
    let value = sealed(&vector("v1"));
    let id = a().public_key().key_id();
    let tbs = value.header().to_be_signed(&id);
    let wrong = [b().sign(&tbs), a().sign(b"another message"), Signature::from_bytes(&[0; 64])];
    for signature in &wrong {
        assert_eq!(
            value.header().unwrap(a().public_key(), signature).unwrap_err(),
            SealError::BadSignature(id)
        );
        let mut new = NewEnvelope::new(vector_material(), &[*a().public_key()]).unwrap();
        assert_eq!(new.add_signature(a().public_key(), signature), Err(SealError::BadSignature(id)));
        assert!(matches!(new.finish(), Err(SealError::SignatureMissing(_))));
    }
}

#[test]
fn recipients_are_1_to_16_and_different() {
    let of = |keys: &[PublicKey]| NewEnvelope::new(vector_material(), keys).map(|_| ());
    assert_eq!(of(&[]), Err(SealError::RecipientCount(0)));
    let many: Vec<_> = (1..18).map(|i| PublicKey::from_bytes([i; 32]).unwrap()).collect();
    assert_eq!(of(&many), Err(SealError::RecipientCount(17)));
    assert_eq!(of(&many[..16]), Ok(()));
    let twice = *a().public_key();
    assert_eq!(of(&[twice, twice]), Err(SealError::AlreadyARecipient(twice.key_id())));
    let one = envelope(vector_material(), &[&a()]);
    let signature = a().sign(&one.header().to_be_signed(&twice.key_id()));
    assert_eq!(
        one.with_recipient(&twice, &signature).unwrap_err(),
        SealError::AlreadyARecipient(twice.key_id())
    );
}

#[test]
fn recipients_out_of_order_or_twice_are_corrupt() {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let body = engine.decode(&vector("v2")[17..]).unwrap();
    let (first, second) = (body[34..117].to_vec(), body[117..200].to_vec());
    for stanzas in [[&second[..], &first[..]], [&first[..], &first[..]]] {
        let bad = [&body[..34], stanzas[0], stanzas[1], &body[200..]].concat();
        let bad = format!("__encrypted__:v2.{}", engine.encode(bad));
        assert_eq!(seal::parse(&bad), Err(SealError::Corrupt("its recipients are not in order")));
    }
}

#[test]
fn sixteen_kib_is_the_limit() {
    let envelope = envelope(vector_material(), &[&a()]);
    let most = SecretString::from("x".repeat(16 * 1024));
    let value = envelope.seal("p", "f", &most, nonce(1)).unwrap();
    assert_eq!(
        text(envelope.data_key().open(&sealed(&value.to_string()), "p", "f")).unwrap().len(),
        16 * 1024
    );
    let over = SecretString::from("x".repeat(16 * 1024 + 1));
    assert_eq!(envelope.seal("p", "f", &over, nonce(2)), Err(SealError::TooLong(16 * 1024 + 1)));
}

#[test]
fn fields_of_different_sealings_are_mixed() {
    let seal_with = |byte: u8, field: &str| {
        let e = envelope(FreshKeyMaterial::from_random(Zeroizing::new([byte; 64])), &[&a()]);
        Value::Sealed(e.seal("p", field, &SecretString::from("x"), nonce(byte)).unwrap())
    };
    let (id, secret, old) = (seal_with(1, "id"), seal_with(1, "secret"), seal_with(2, "secret"));
    let legacy = seal::parse(
        serde_json::from_str::<serde_json::Value>(include_str!("vectors/legacy.json")).unwrap()["value"]
            .as_str()
            .unwrap(),
    )
    .unwrap();
    let check = |fields: &[(&'static str, &Value)]| seal::one_envelope(fields.iter().copied());
    assert_eq!(check(&[]), Ok(()));
    assert_eq!(check(&[("id", &id), ("secret", &secret), ("region", &Value::Plain)]), Ok(()));
    assert_eq!(check(&[("id", &legacy), ("secret", &legacy)]), Ok(()));
    assert_eq!(check(&[("id", &id), ("secret", &old)]), Err(SealError::Mixed("id and secret".into())));
    assert_eq!(check(&[("id", &id), ("secret", &legacy)]), Err(SealError::MixedWithLegacy("secret".into())));
}

#[test]
fn nothing_secret_is_shown_by_debug() {
    let envelope = envelope(vector_material(), &[&a()]);
    let data_key = format!("{:?} {:?} {:?}", envelope, envelope.data_key(), a().sign(b"x"));
    assert!(data_key.matches("redacted").count() == 3, "{data_key}");
    assert!(!format!("{:?}", a()).contains("9d61"));
}

fn any_envelope() -> impl Strategy<Value = Envelope> {
    (any::<[u8; 32]>(), any::<[u8; 32]>(), any::<bool>()).prop_map(|(salt, key, both)| {
        let mut bytes = Zeroizing::new([0; 64]);
        bytes[..32].copy_from_slice(&salt);
        bytes[32..].copy_from_slice(&key);
        let material = FreshKeyMaterial::from_random(bytes);
        if both { envelope(material, &[&a(), &b()]) } else { envelope(material, &[&a()]) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_sealed_opens_under_its_name_only(
        envelope in any_envelope(), profile in "\\PC{0,40}", field in "[a-z_]{0,30}", secret in "\\PC{0,200}", n in any::<[u8; 12]>(),
        other in "\\PC{0,40}",
    ) {
        let value = envelope.seal(&profile, &field, &SecretString::from(secret.as_str()), Nonce::from_random(n)).unwrap();
        let read = sealed(&value.to_string());
        prop_assert_eq!(&read, &value);
        let key = unwrap(&read, &a()).unwrap();
        prop_assert_eq!(text(key.open(&read, &profile, &field)), Ok(secret));
        if other != profile {
            prop_assert!(key.open(&read, &other, &field).is_err());
        }
    }

    #[test]
    fn parsing_never_panics_and_render_gives_back_what_was_read(text in prop_oneof![
        "\\PC{0,300}",
        "__encrypted__:(v[0-9]{0,3}\\.)?[A-Za-z0-9_/+=.-]{0,400}",
    ]) {
        match seal::parse(&text) {
            Ok(Value::Sealed(value)) => prop_assert_eq!(value.to_string(), text),
            Ok(Value::Legacy(value)) => prop_assert_eq!(LegacyValue::to_string(&value), text),
            Ok(Value::Plain) => prop_assert!(!text.starts_with(seal::PREFIX)),
            Err(_) => {}
        }
    }

    #[test]
    fn bodies_of_the_right_shape_render_as_they_were(
        salt in any::<[u8; 32]>(), n in any::<[u8; 12]>(), ct in prop::collection::vec(any::<u8>(), 16..80),
        stanzas in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..90)), 1..17),
    ) {
        use base64::Engine as _;
        let mut body = vec![1, stanzas.len() as u8];
        body.extend(salt);
        for (kind, data) in &stanzas {
            body.extend([*kind, 0, data.len() as u8]);
            body.extend(data);
        }
        body.extend(n);
        body.extend(ct);
        let text = format!("__encrypted__:v2.{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(body));
        if !stanzas.iter().any(|(kind, _)| *kind == 1) {
            prop_assert_eq!(sealed(&text).to_string(), text);
        }
    }
}

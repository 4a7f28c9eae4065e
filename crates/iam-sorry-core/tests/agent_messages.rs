//! Agent messages: exactly what the protocol says goes out, and nothing but that comes in.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use iam_sorry_core::ssh::agent::{
    AgentMessageError as Error, MAX_FRAME, MAX_IDENTITIES, decode_identities, decode_signature, frame_length,
    request_identities, sign_request,
};
use iam_sorry_core::ssh::{PublicKey, Signature};
use proptest::prelude::*;

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn identities(keys: &[(Vec<u8>, &[u8])]) -> Vec<u8> {
    let mut body = vec![12];
    body.extend(u32::try_from(keys.len()).unwrap().to_be_bytes());
    for (blob, comment) in keys {
        body.extend(string(blob));
        body.extend(string(comment));
    }
    body
}

fn signature_answer(kind: &[u8], raw: &[u8]) -> Vec<u8> {
    let mut body = vec![14];
    body.extend(string(&[string(kind), string(raw)].concat()));
    body
}

#[test]
fn requests_are_those_of_the_protocol() {
    assert_eq!(request_identities(), [0, 0, 0, 1, 11]);
    let key = PublicKey::from_bytes([7; 32]).unwrap();
    let body = [vec![13], string(&key.blob()), string(b"data"), vec![0; 4]].concat();
    assert_eq!(sign_request(&key, b"data"), string(&body));
}

#[test]
fn plain_ed25519_keys_are_kept_and_others_skipped() {
    let key = PublicKey::from_bytes([7; 32]).unwrap();
    let certificate =
        [string(b"ssh-ed25519-cert-v01@openssh.com"), string(&[1; 32]), string(&[7; 32])].concat();
    let rsa = [string(b"ssh-rsa"), string(&[1, 0, 1]), string(&[9; 128])].concat();
    let found = decode_identities(&identities(&[
        (certificate, b"c"),
        (rsa, b"r"),
        (key.blob(), b"me@host\x1b[31m"),
        (b"\0\0".to_vec(), b""),
        ([key.blob(), vec![0]].concat(), b"longer"),
    ]))
    .unwrap();
    assert_eq!(found.usable.len(), 1);
    assert_eq!((found.usable[0].key, found.usable[0].comment.as_str()), (key, "me@host?[31m"));
    assert_eq!(found.skipped, ["ssh-ed25519-cert-v01@openssh.com", "ssh-rsa", "unknown", "ssh-ed25519"]);
}

/// One that needs no private key signs for everybody, whatever the agent that offers it.
#[test]
fn a_weak_key_is_skipped() {
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let blob = [string(b"ssh-ed25519"), string(&neutral)].concat();
    let found = decode_identities(&identities(&[(blob, b"weak")])).unwrap();
    assert_eq!((found.usable.len(), found.skipped), (0, vec!["ssh-ed25519".to_owned()]));
}

#[test]
fn lengths_and_counts_are_bounded() {
    assert_eq!(frame_length(u32::try_from(MAX_FRAME).unwrap().to_be_bytes()), Ok(MAX_FRAME));
    for bad in [0, u32::try_from(MAX_FRAME).unwrap() + 1, u32::MAX] {
        assert_eq!(frame_length(bad.to_be_bytes()), Err(Error::FrameLength(bad)));
    }
    let most = vec![(Vec::new(), &b""[..]); MAX_IDENTITIES as usize];
    assert_eq!(decode_identities(&identities(&most)).unwrap().skipped.len(), MAX_IDENTITIES as usize);
    let announce = |n: u32| [&[12][..], &n.to_be_bytes()].concat();
    assert_eq!(decode_identities(&announce(MAX_IDENTITIES + 1)), Err(Error::TooManyIdentities(2049)));
    assert!(matches!(decode_identities(&announce(1)), Err(Error::Malformed(_))));
    assert!(matches!(decode_identities(&[announce(0), vec![0]].concat()), Err(Error::Malformed(_))));
}

#[test]
fn a_signature_is_ed25519_and_64_bytes() {
    let good = signature_answer(b"ssh-ed25519", &[3; 64]);
    assert_eq!(decode_signature(&good), Ok(Signature::from_bytes(&[3; 64])));
    for end in 0..good.len() {
        assert!(matches!(decode_signature(&good[..end]), Err(Error::Malformed(_))), "{end}");
    }
    assert!(matches!(decode_signature(&[good, vec![0]].concat()), Err(Error::Malformed(_))));
    for length in [0, 63, 65] {
        let answer = signature_answer(b"ssh-ed25519", &vec![3; length]);
        assert!(matches!(decode_signature(&answer), Err(Error::Malformed(_))), "{length}");
    }
    assert_eq!(decode_signature(&signature_answer(b"ssh-rsa", &[3; 64])), Err(Error::SignatureType));
}

#[test]
fn refusals_and_other_messages_are_told_apart() {
    for failure in [5, 28, 30, 102] {
        assert_eq!(decode_signature(&[failure]), Err(Error::Refused));
        assert_eq!(decode_identities(&[failure]), Err(Error::Refused));
    }
    assert_eq!(decode_signature(&[6]), Err(Error::UnexpectedMessage(6)));
    assert_eq!(decode_identities(&[14]), Err(Error::UnexpectedMessage(14)));
}

proptest! {
    #[test]
    fn no_answer_makes_the_reader_panic(mut body in prop::collection::vec(any::<u8>(), 0..300), kind in 0_u8..20) {
        let _ = (decode_identities(&body), decode_signature(&body));
        body.insert(0, kind);
        let _ = (decode_identities(&body), decode_signature(&body));
    }

    #[test]
    fn lists_round_trip(keys in prop::collection::vec((any::<[u8; 32]>(), "[ -~]{0,40}"), 0..20)) {
        let list: Vec<_> = keys.iter().map(|(k, c)| (PublicKey::from_bytes(*k).unwrap().blob(), c.as_bytes())).collect();
        let found = decode_identities(&identities(&list)).unwrap();
        let read: Vec<_> = found.usable.into_iter().map(|i| (*i.key.as_bytes(), i.comment)).collect();
        prop_assert_eq!(read, keys);
    }
}

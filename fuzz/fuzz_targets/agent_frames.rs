//! Answers of an SSH agent, possibly a forwarded one: never a panic, never more memory than the frame.
#![no_main]

use iam_sorry_core::ssh::agent;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((prefix, body)) = bytes.split_first_chunk() {
        let _ = agent::frame_length(*prefix);
        let _ = agent::decode_signature(body);
        if let Ok(found) = agent::decode_identities(body) {
            assert!(found.usable.len() + found.skipped.len() <= agent::MAX_IDENTITIES as usize);
        }
    }
});

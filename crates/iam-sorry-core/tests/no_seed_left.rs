//! After a key was unlocked, used and dropped, its seed is nowhere in this process's memory.
//!
//! Alone in its file, so that it runs in a process of its own.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use iam_sorry_core::ssh::KeyFile;
use secrecy::SecretString;
use zeroize::Zeroize;

/// The seed of the key in vectors/legacy.json, masked, so that this constant is not what is found.
const MASKED_SEED: [u8; 32] = [
    0x76, 0x61, 0x02, 0x92, 0x71, 0xa7, 0x61, 0x15, 0x19, 0x7f, 0x64, 0x07, 0x31, 0xe5, 0x78, 0x94, 0x5c,
    0x04, 0x96, 0x16, 0x9d, 0xc0, 0x72, 0x8e, 0x89, 0xa0, 0x06, 0xdf, 0x6f, 0x2b, 0xc4, 0x2f,
];
const MASK: u8 = 0x5A;

/// How often the seed, or its first or last half, stands in writable memory.
fn copies() -> usize {
    let memory = File::open("/proc/self/mem").unwrap();
    let mut found = 0;
    for line in fs::read_to_string("/proc/self/maps").unwrap().lines() {
        let mut words = line.split(' ');
        let (range, mode) = (words.next().unwrap(), words.next().unwrap());
        if !mode.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let (start, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        let mut at = start;
        // Chunks that overlap by less than what is searched for.
        let mut chunk = vec![0; 64 * 1024];
        while at < end {
            let length = usize::try_from(end - at).unwrap().min(chunk.len());
            if memory.read_exact_at(&mut chunk[..length], at).is_err() {
                break;
            }
            let is = |window: &[u8], masked: &[u8]| window.iter().zip(masked).all(|(b, m)| b ^ MASK == *m);
            found += chunk[..length]
                .windows(16)
                .filter(|w| is(w, &MASKED_SEED[..16]) || is(w, &MASKED_SEED[16..]))
                .count();
            at += u64::try_from(length.saturating_sub(15).max(1)).unwrap();
        }
        // Else the next call would find what this one has read.
        chunk.zeroize();
    }
    found
}

#[test]
fn the_seed_is_gone_once_the_key_is_dropped() {
    let all: serde_json::Value = serde_json::from_str(include_str!("vectors/legacy.json")).unwrap();
    let file = KeyFile::parse(all["key_file"].as_str().unwrap().as_bytes()).unwrap();
    let passphrase = SecretString::from(all["passphrase"].as_str().unwrap());
    let key = file.unlock(&passphrase).unwrap();
    key.sign(b"something");
    let held = copies();
    drop(key);
    let left = copies();
    assert!(held >= 2, "the search works: {held}");
    assert_eq!(left, 0);
}

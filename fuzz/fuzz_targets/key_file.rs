//! Key files and public-key lines: never a panic, never long work.
#![no_main]

use iam_sorry_core::ssh::{KeyFile, PublicKey};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = KeyFile::parse(bytes) {
        let _ = file.check_unlockable();
        // Locked files would only exercise bcrypt.
        if !file.is_protected() {
            let _ = file.unlock(&"".into());
        }
    }
    if let Ok((key, comment)) = PublicKey::parse_line(&String::from_utf8_lossy(bytes)) {
        assert_eq!(PublicKey::parse_line(&key.to_line(&comment)).map(|(key, _)| key), Ok(key));
    }
});

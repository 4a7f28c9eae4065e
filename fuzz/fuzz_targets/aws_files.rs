//! Whatever stands in a shared AWS file: it is kept byte for byte or refused, and an edit says what it did.
#![no_main]

use iam_sorry_core::aws_files::{Document, FileKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &str, &str, &str, &[u8])| {
    let (config, profile, key, value, bytes) = input;
    let kind = if config { FileKind::Config } else { FileKind::Credentials };
    let Ok(mut document) = Document::parse(bytes, kind) else { return };
    assert_eq!(document.render(), bytes);
    let names: Vec<String> = document.profiles().into_iter().map(str::to_owned).collect();

    // Any name, and the first that is there, which random text would hardly hit.
    for profile in std::iter::once(profile).chain(names.first().map(String::as_str)) {
        let before = document.render();
        match document.set(profile, key, value) {
            Err(_) => assert_eq!(document.render(), before),
            Ok(()) => {
                let anew = Document::parse(&document.render(), kind).expect("what was written is read");
                assert_eq!(anew.value(profile, key), Some(value));
                assert!(names.iter().all(|name| anew.contains(name)));
                assert!(document.remove(profile, key));
                assert_eq!(document.value(profile, key), None);
            }
        }
    }
    for name in &names {
        assert!(document.remove_profile(name));
        let anew = Document::parse(&document.render(), kind).expect("what is left is read");
        assert!(!anew.contains(name));
    }
});

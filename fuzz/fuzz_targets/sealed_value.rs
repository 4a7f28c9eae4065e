//! Sealed values from a stranger's file: never a panic, and what is accepted renders as it was.
#![no_main]

use iam_sorry_core::seal::{self, Value};

libfuzzer_sys::fuzz_target!(|text: &str| {
    match seal::parse(text) {
        Ok(Value::Sealed(value)) => assert_eq!(value.to_string(), text),
        Ok(Value::Legacy(value)) => assert_eq!(value.to_string(), text),
        Ok(Value::Plain) => assert!(!text.starts_with(seal::PREFIX)),
        Err(_) => {}
    }
});

//! Sealed values from a stranger's file: never a panic, and what is accepted renders as it was.
#![no_main]

use iam_sorry_core::seal::{self, Value};

libfuzzer_sys::fuzz_target!(|text: &str| {
    // With the prefixes given, what is behind them gets its share of the time.
    for prefix in ["", seal::PREFIX, "__encrypted__:v2."] {
        let text = format!("{prefix}{text}");
        match seal::parse(&text) {
            Ok(Value::Sealed(value)) => assert_eq!(value.to_string(), text),
            Ok(Value::Legacy(value)) => assert_eq!(value.to_string(), text),
            Ok(Value::Plain) => assert!(!text.starts_with(seal::PREFIX)),
            Err(_) => {}
        }
    }
});

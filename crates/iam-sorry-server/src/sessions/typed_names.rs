//! What the audit trail keeps of a name that is nobody's. It may be a password in the wrong field, so neither the text nor
//! anything that it could be found out from: a few digits of a keyed digest, by a key that lies in this process's memory
//! alone. They show that the same text was tried again, and no more.

use aws_lc_rs::{hmac, rand};

/// The key of this process.
pub(crate) struct TypedNames(Option<hmac::Key>);

impl TypedNames {
    pub(crate) fn new() -> Self {
        // Without randomness there is no digest; nothing else of the service works then, either.
        Self(hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new()).ok())
    }

    /// For a record: the digest, and roughly how long the text was.
    pub(crate) fn describe(&self, typed: &str) -> Vec<(String, String)> {
        let typed = typed.trim();
        let length = match typed.chars().count() {
            0 => "0",
            1..=8 => "1-8",
            9..=16 => "9-16",
            17..=64 => "17-64",
            _ => "65 or more",
        };
        let digest = self.0.as_ref().map(|key| {
            let tag = hmac::sign(key, typed.as_bytes());
            let hex: String = tag.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
            ("typed".to_owned(), hex)
        });
        digest.into_iter().chain([("typed-length".to_owned(), length.to_owned())]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_recognised_in_one_process_alone() {
        let here = TypedNames::new();
        assert_eq!(here.describe(" hunter2 "), here.describe("hunter2"));
        assert_ne!(here.describe("hunter2"), here.describe("hunter3"));
        assert_ne!(here.describe("hunter2"), TypedNames::new().describe("hunter2"));
        assert_eq!(here.describe("hunter2")[1].1, "1-8");
    }
}

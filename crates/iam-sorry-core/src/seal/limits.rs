//! The constants of the format (docs/sealed-format-v2.md).

/// What every value that is not plain starts with.
pub const PREFIX: &str = "__encrypted__:";
/// The namespace of our signatures: no SSH login and no git signature ever uses it.
pub const NAMESPACE: &str = "seal-v2@iam-sorry";
/// The most bytes that one value may hold.
pub const MAX_PLAINTEXT: usize = 16 * 1024;
/// The most keys that one envelope may be sealed for.
pub const MAX_RECIPIENTS: usize = 16;

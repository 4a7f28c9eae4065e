//! The tags by which the service knows its users again, and how a person's name goes into a tag.

use iam_sorry_aws::managed::Facts;

/// The tags by which a user is known again (IAM API reference, Tag).
pub(crate) const MANAGED_BY: (&str, &str) = ("managed-by", "iam-sorry");
const OWNER: &str = "iam-sorry-owner";
pub(crate) const OPERATION: &str = "iam-sorry-operation";

/// Whether this operation made or adopted the user.
pub(crate) fn is_of(facts: &Facts, operation: &str) -> bool {
    facts.tags.get(OPERATION).is_some_and(|value| value == operation)
}

/// The tags of a user that an operation makes or adopts.
pub(crate) fn tags(owner: &str, operation: &str) -> Vec<(String, String)> {
    let pair = |key: &str, value: String| (key.to_owned(), value);
    vec![
        pair(MANAGED_BY.0, MANAGED_BY.1.to_owned()),
        pair(OWNER, tag_value(owner)),
        pair(OPERATION, operation.to_owned()),
    ]
}

/// As a tag's value (IAM and STS API references, Tag): other characters become `-`, and a piece of the digest keeps two
/// that differ only in them apart.
pub(crate) fn tag_value(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || " _.:/=+-@".contains(c);
    if text.len() <= 256 && text.chars().all(fits) {
        return text.to_owned();
    }
    let plain: String = text.chars().map(|c| if fits(c) { c } else { '-' }).take(240).collect();
    format!("{plain}-{}", short_digest(text))
}

pub(crate) fn short_digest(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(4).map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_values_are_iams_and_stay_apart() {
        assert_eq!(tag_value("corp/alice"), "corp/alice");
        let (a, b) = (tag_value("corp/al*ce"), tag_value("corp/al,ce"));
        assert_ne!(a, b);
        for value in [a, b, tag_value(&"é".repeat(400))] {
            assert!(value.len() <= 256 && !value.contains(['*', ',', 'é']), "{value}");
        }
    }
}

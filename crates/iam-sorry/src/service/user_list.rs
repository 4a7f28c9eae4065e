//! Lists of user names from files: one a line, or CSV (RFC 4180) with the name in the first column and policies in the
//! others.

use std::collections::BTreeMap;

use iam_sorry_core::ids::UserSelector;

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUser {
    /// Line number from 1, for messages.
    pub line: usize,
    /// A valid IAM user name, or `ACCOUNT/NAME`.
    pub name: String,
    /// Policy ARNs.
    pub policies: Vec<String>,
}

/// Every error in a list, one a line; no request is sent for such a list.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct InvalidUserList(Vec<String>);

/// A list with more names is a mistake.
const MAX_NAMES: usize = 10_000;

/// Parses a list. A first line whose first column is `name`, `user` or `username` is a heading. Empty lines and lines
/// that begin with `#` are skipped.
///
/// # Errors
/// [`InvalidUserList`] with each invalid line: invalid IAM names, duplicates (IAM ignores case), unclosed quotes, and
/// more than 10,000 names.
pub fn parse(text: &str) -> Result<Vec<ListedUser>, InvalidUserList> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut users, mut errors) = (Vec::new(), Vec::new());
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (line, content) in (1..).zip(text.lines()) {
        if content.trim().is_empty() || content.trim_start().starts_with('#') {
            continue;
        }
        let Some(mut cells) = cells(content) else {
            errors.push(format!("line {line}: a quotation mark is not closed, or stands inside a value"));
            continue;
        };
        let name = cells.remove(0);
        let heading = ["name", "user", "username"].iter().any(|word| name.eq_ignore_ascii_case(word));
        if users.is_empty() && seen.is_empty() && heading {
            continue;
        }
        if let Err(e) = UserSelector::parse(&name) {
            let e = e.to_string();
            errors.push(format!("line {line}: {}", e.lines().next().unwrap_or_default()));
            continue;
        }
        if let Some(before) = seen.insert(name.to_lowercase(), line) {
            errors.push(format!("line {line}: '{name}' stands in line {before} already"));
            continue;
        }
        let policies = cells.iter().flat_map(|cell| cell.split([';', ' '])).filter(|arn| !arn.is_empty());
        users.push(ListedUser { line, name, policies: policies.map(str::to_owned).collect() });
    }
    if users.len() > MAX_NAMES {
        errors.push(format!("{} names are more than the {MAX_NAMES} that one file may have", users.len()));
    }
    if users.is_empty() && errors.is_empty() {
        errors.push("there is no name in it".to_owned());
    }
    if errors.is_empty() { Ok(users) } else { Err(InvalidUserList(errors)) }
}

/// The values of one line, trimmed; at least one.
fn cells(line: &str) -> Option<Vec<String>> {
    let mut cells = Vec::new();
    let mut rest = line.trim();
    loop {
        rest = rest.trim_start();
        let (cell, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_cell(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let cell = rest[..end].trim();
                if cell.contains('"') {
                    return None;
                }
                (cell.to_owned(), &rest[end..])
            }
        };
        cells.push(cell);
        match after.trim_start().strip_prefix(',') {
            Some(next) => rest = next,
            None if after.trim().is_empty() => return Some(cells),
            None => return None,
        }
    }
}

/// RFC 4180, section 2: a doubled quotation mark means one.
fn quoted_cell(text: &str) -> Option<(String, &str)> {
    let mut cell = String::new();
    let mut rest = text;
    loop {
        let at = rest.find('"')?;
        cell.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                cell.push('"');
                rest = more;
            }
            None => return Some((cell.trim().to_owned(), rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(text: &str) -> Vec<String> {
        parse(text).unwrap().into_iter().map(|person| person.name).collect()
    }

    #[test]
    fn names_alone_and_tables() {
        assert_eq!(names("alice\nbob\n"), ["alice", "bob"]);
        assert_eq!(names("\u{feff}name\r\nalice\r\n\r\n# no\r\nbob"), ["alice", "bob"]);
        assert_eq!(names("alice\nname\n"), ["alice", "name"], "only the first line is a heading");
        let users = parse("Name,policies\nalice,arn:a;arn:b\n \"bob\" , \"arn:c\" ,arn:d,\n").unwrap();
        assert_eq!(users[0].policies, ["arn:a", "arn:b"]);
        assert_eq!((users[1].line, users[1].name.as_str()), (3, "bob"));
        assert_eq!(users[1].policies, ["arn:c", "arn:d"]);
        assert_eq!(names("alice\narchive/alice\n"), ["alice", "archive/alice"], "two users");
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let InvalidUserList(errors) = parse("alice\nALICE\na b\n\"bob\nb\"o\nx/y/z\n").unwrap_err();
        assert_eq!(errors.len(), 5, "{errors:?}");
        assert_eq!(errors[0], "line 2: 'ALICE' stands in line 1 already");
        assert!(errors[2].starts_with("line 4: a quotation mark"), "{errors:?}");
        assert!(parse("name\n").unwrap_err().to_string().contains("no name"));
        let many: String = (0..=MAX_NAMES).map(|n| format!("u{n}\n")).collect();
        assert!(parse(&many).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_taken_and_every_name_is_ones_of_iam(text in "\\PC{0,60}|[a-z\",\n; ]{0,60}") {
            if let Ok(users) = parse(&text) {
                for user in users {
                    prop_assert!(UserSelector::parse(&user.name).is_ok());
                }
            }
        }

        #[test]
        fn what_is_quoted_reads_back(values in proptest::collection::vec("[a-z\",;. ]{0,12}", 1..5)) {
            let line: Vec<String> =
                values.iter().map(|value| format!("\"{}\"", value.replace('"', "\"\""))).collect();
            let expected: Vec<String> = values.iter().map(|value| value.trim().to_owned()).collect();
            prop_assert_eq!(cells(&line.join(",")), Some(expected));
        }
    }
}

//! A person's groups, which stand in a lane once and are named by their digest from then on: somebody in 500 groups makes
//! a record twenty times as long, and most people have the same groups for months.

use super::canonical::{from_hex, hex, sha256, strings};
use super::lane::Hash;

const GROUPS_TAG: &[u8] = b"iam-sorry audit groups v2\n";

/// A list whose canonical bytes are no longer than this is written out in each record: its digest would be longer.
const SHORT: usize = 80;

const LINE_START: &str = "{\"groups\":";
const LINE_MIDDLE: &str = ",\"groups_digest\":\"";

/// The digest of a list of groups, in the order in which it is written.
pub fn groups_digest(groups: &[String]) -> Hash {
    sha256(GROUPS_TAG, canonical(groups).as_bytes())
}

/// The digest of a list that is long enough to be named by it.
pub(super) fn digest_of_long(groups: &[String]) -> Option<Hash> {
    let text = canonical(groups);
    (text.len() > SHORT).then(|| sha256(GROUPS_TAG, text.as_bytes()))
}

/// The line of an export that gives a list which the records behind it name, where the record that has it is not in the
/// export: in a part of a trail.
pub fn groups_line(groups: &[String]) -> String {
    let text = canonical(groups);
    let digest = hex(&sha256(GROUPS_TAG, text.as_bytes()));
    format!("{LINE_START}{text}{LINE_MIDDLE}{digest}\"}}")
}

/// Reads [`groups_line`]: the digest that it states, and the list. Whether the two fit is the caller's to check.
pub(super) fn parse_groups_line(line: &str) -> Option<(Hash, Vec<String>)> {
    let rest = line.strip_prefix(LINE_START)?;
    let (list, digest) = rest.rsplit_once(LINE_MIDDLE)?;
    let digest = from_hex(digest.strip_suffix("\"}")?)?;
    let groups: Vec<String> = serde_json::from_str(list).ok()?;
    // One spelling: what is hashed is what is written.
    (canonical(&groups) == list).then_some((digest, groups))
}

fn canonical(groups: &[String]) -> String {
    let mut text = String::with_capacity(groups.iter().map(|group| group.len() + 3).sum::<usize>() + 2);
    strings(&mut text, groups);
    text
}

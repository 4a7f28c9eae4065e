//! What an entry says about its person: the login name, the stable subject, and whether the account is in force.

use iam_sorry_core::timestamp::Timestamp;
use ldap3::SearchEntry;

use super::escape::{first_value, fold};
use super::settings::{Kind, LdapSettings};
use crate::login::error::RejectReason;

/// `userAccountControl` and its computed sibling (MS-ADTS, section 2.2.16).
const ACCOUNT_DISABLED: i64 = 0x2;
const LOCKED_OUT: i64 = 0x10;
/// `accountExpires`, where an account never does (MS-ADA1, section 2.3).
const NEVER: [i64; 2] = [0, i64::MAX];
/// From 1601, where Windows' time begins, to 1970, in seconds.
const WINDOWS_EPOCH: i64 = 11_644_473_600;

/// A person's entry, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub dn: String,
    /// The login name as the directory writes it.
    pub raw_name: String,
    /// The same, folded.
    pub name: String,
    pub subject: String,
    /// Why it may not sign in.
    pub barred: Option<RejectReason>,
    /// POSIX primary group.
    pub gid: Option<String>,
    /// Active Directory's primary group, as the objectSid that it has.
    pub primary_group_sid: Option<Vec<u8>>,
    /// Public key lines.
    pub ssh_keys: Vec<String>,
}

/// The attributes that [`Account::read`] wants.
pub(super) fn attributes(settings: &LdapSettings) -> Vec<String> {
    let of_kind: &[&str] = match settings.kind {
        Kind::Openldap => &["pwdAccountLockedTime", "shadowExpire", "nsAccountLock", "gidNumber"],
        Kind::ActiveDirectory => &[
            "userAccountControl",
            "msDS-User-Account-Control-Computed",
            "lockoutTime",
            "accountExpires",
            "objectSid",
            "primaryGroupID",
        ],
    };
    let named = [settings.name_attribute(), settings.subject_attribute(), &settings.ssh_key_attribute];
    named.iter().chain(of_kind).map(|name| (*name).to_owned()).collect()
}

impl Account {
    /// Reads an entry. The error says what the directory or the service's rights in it lack; it is for the operator.
    pub fn read(settings: &LdapSettings, entry: &SearchEntry, now: Timestamp) -> Result<Self, String> {
        let dn = entry.dn.clone();
        let lacks = |attribute: &str| {
            format!("the entry {dn} shows no {attribute}: the account that searches must be able to read it")
        };
        let raw_name = one_name(entry, settings.name_attribute()).ok_or_else(|| {
            format!("{} or has several, none of which names it", lacks(settings.name_attribute()))
        })?;
        let subject = id_of(settings.kind, settings.subject_attribute(), entry)
            .ok_or_else(|| lacks(settings.subject_attribute()))?;
        let barred = match settings.kind {
            Kind::Openldap => barred_openldap(entry, now),
            Kind::ActiveDirectory => {
                // Without it a disabled account can't be told from one in force.
                let control =
                    number(entry, "userAccountControl").ok_or_else(|| lacks("userAccountControl"))?;
                barred_windows(entry, control, now)
            }
        };
        Ok(Self {
            name: fold(&raw_name),
            raw_name,
            subject,
            barred,
            gid: texts(entry, "gidNumber").into_iter().next(),
            primary_group_sid: primary_group(entry),
            ssh_keys: texts(entry, &settings.ssh_key_attribute),
            dn,
        })
    }
}

/// The one value of the attribute that names an entry for ever, in lower case.
pub(super) fn id_of(kind: Kind, attribute: &str, entry: &SearchEntry) -> Option<String> {
    let values = bytes(entry, attribute);
    let [value] = values.as_slice() else { return None };
    let id = match kind {
        Kind::ActiveDirectory if attribute.eq_ignore_ascii_case("objectGUID") => guid(value)?,
        _ => String::from_utf8(value.clone()).ok()?,
    };
    let good = !id.trim().is_empty() && !id.chars().any(char::is_control) && id.len() <= 256;
    good.then(|| id.to_ascii_lowercase())
}

/// The one value of a naming attribute; where there are several, the one that the entry's RDN has.
pub(super) fn one_name(entry: &SearchEntry, attribute: &str) -> Option<String> {
    let values = texts(entry, attribute);
    let good = |value: &String| !fold(value).is_empty() && !value.chars().any(char::is_control);
    match values.as_slice() {
        [value] => Some(value.clone()).filter(good),
        several => {
            let (_, rdn) = first_value(&entry.dn).filter(|(name, _)| name.eq_ignore_ascii_case(attribute))?;
            several.iter().find(|value| fold(value) == rdn).cloned().filter(good)
        }
    }
}

/// The values of an attribute that are text, whatever case the directory writes its name in.
pub(super) fn texts(entry: &SearchEntry, attribute: &str) -> Vec<String> {
    let named = entry.attrs.iter().filter(|(name, _)| name.eq_ignore_ascii_case(attribute));
    named.flat_map(|(_, values)| values.clone()).collect()
}

/// The values as bytes: the LDAP library sorts them into text and bytes by what they happen to look like.
fn bytes(entry: &SearchEntry, attribute: &str) -> Vec<Vec<u8>> {
    let binary = entry.bin_attrs.iter().filter(|(name, _)| name.eq_ignore_ascii_case(attribute));
    let binary = binary.flat_map(|(_, values)| values.clone());
    texts(entry, attribute).into_iter().map(String::into_bytes).chain(binary).collect()
}

fn number(entry: &SearchEntry, attribute: &str) -> Option<i64> {
    texts(entry, attribute).first()?.trim().parse().ok()
}

fn barred_openldap(entry: &SearchEntry, now: Timestamp) -> Option<RejectReason> {
    // 389 Directory Server and FreeIPA.
    if texts(entry, "nsAccountLock").iter().any(|value| value.eq_ignore_ascii_case("true")) {
        return Some(RejectReason::Disabled);
    }
    // draft-behera-ldap-password-policy, section 5.3.3: locked by an administrator, else by wrong passwords until the
    // next bind that slapd accepts.
    match texts(entry, "pwdAccountLockedTime").first().map(String::as_str) {
        Some("000001010000Z") => return Some(RejectReason::Disabled),
        Some(_) => return Some(RejectReason::Locked),
        None => {}
    }
    // shadow(5): days since 1970, from which on the account is disabled; negative or absent: never.
    let days = number(entry, "shadowExpire").filter(|days| *days >= 0)?;
    (now.unix() / 86_400 >= days).then_some(RejectReason::Expired)
}

fn barred_windows(entry: &SearchEntry, control: i64, now: Timestamp) -> Option<RejectReason> {
    if control & ACCOUNT_DISABLED != 0 {
        return Some(RejectReason::Disabled);
    }
    // The computed one knows when a lock has run out; where a server lacks it, any lock counts.
    let locked = match number(entry, "msDS-User-Account-Control-Computed") {
        Some(computed) => computed & LOCKED_OUT != 0,
        None => number(entry, "lockoutTime").is_some_and(|time| time != 0),
    };
    if locked {
        return Some(RejectReason::Locked);
    }
    let expires = number(entry, "accountExpires").filter(|time| !NEVER.contains(time))?;
    (now.unix() >= expires / 10_000_000 - WINDOWS_EPOCH).then_some(RejectReason::Expired)
}

/// A GUID as Windows writes it: the first three parts are little-endian (MS-DTYP, section 2.3.4).
fn guid(bytes: &[u8]) -> Option<String> {
    let b: [u8; 16] = bytes.try_into().ok()?;
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::with_capacity(36);
    for (place, index) in order.into_iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", b.get(index)?));
    }
    Some(text)
}

/// The bytes of a GUID that [`guid`] wrote.
pub(super) fn guid_bytes(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let written = u128::from_str_radix(&digits, 16)
        .ok()
        .filter(|_| digits.len() == 32 && !digits.starts_with('+'))?
        .to_be_bytes();
    let [a, b, c, d, e, f, g, h, rest @ ..] = written;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&[d, c, b, a, f, e, h, g]);
    bytes[8..].copy_from_slice(&rest);
    Some(bytes)
}

/// The primary group is in nobody's `member`: its SID is the person's with the last part replaced by primaryGroupID
/// (MS-DTYP, section 2.4.2).
fn primary_group(entry: &SearchEntry) -> Option<Vec<u8>> {
    let group = u32::try_from(number(entry, "primaryGroupID")?).ok()?;
    let mut sid = bytes(entry, "objectSid").into_iter().next()?;
    let relative = sid.len().checked_sub(4).filter(|at| *at >= 8)?;
    sid.get_mut(relative..)?.copy_from_slice(&group.to_le_bytes());
    Some(sid)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn entry(dn: &str, attributes: &[(&str, &[&str])]) -> SearchEntry {
        let attrs = attributes.iter().map(|(name, values)| {
            ((*name).to_owned(), values.iter().map(|value| (*value).to_owned()).collect())
        });
        SearchEntry { dn: dn.to_owned(), attrs: attrs.collect(), bin_attrs: HashMap::new() }
    }

    fn now() -> Timestamp {
        Timestamp::parse("2026-11-22T19:00:00Z").unwrap()
    }

    #[test]
    fn a_guid_is_written_as_windows_writes_it() {
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(guid(&bytes).unwrap(), "03020100-0504-0706-0809-0a0b0c0d0e0f");
        assert_eq!(guid(&bytes[1..]), None);
        assert_eq!(guid_bytes(&guid(&bytes).unwrap()).unwrap().as_slice(), bytes);
        for bad in ["", "alice", "+3020100050407060809-0a0b0c0d0e0f", &"f".repeat(33)] {
            assert_eq!(guid_bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn several_names_are_one_only_by_the_rdn() {
        let one = |dn: &str, values: &[&str]| one_name(&entry(dn, &[("UID", values)]), "uid");
        assert_eq!(one("cn=x,dc=a", &["Alice"]).as_deref(), Some("Alice"));
        assert_eq!(one("uid=alice,dc=a", &["root", "Alice"]).as_deref(), Some("Alice"));
        assert_eq!(one("cn=alice,dc=a", &["root", "alice"]), None);
        assert_eq!(one("uid=alice,dc=a", &[]), None);
        assert_eq!(one("uid=alice,dc=a", &["a\nb"]), None);
    }

    #[test]
    fn accounts_out_of_force() {
        let state = |attributes: &[(&str, &[&str])]| barred_openldap(&entry("uid=a", attributes), now());
        assert_eq!(state(&[]), None);
        assert_eq!(state(&[("pwdAccountLockedTime", &["000001010000Z"])]), Some(RejectReason::Disabled));
        assert_eq!(state(&[("pwdAccountLockedTime", &["20261122180000Z"])]), Some(RejectReason::Locked));
        assert_eq!(state(&[("nsaccountlock", &["TRUE"])]), Some(RejectReason::Disabled));
        assert_eq!(state(&[("shadowExpire", &["1"])]), Some(RejectReason::Expired));
        assert_eq!(state(&[("shadowExpire", &["-1"])]), None);
        assert_eq!(state(&[("shadowExpire", &["99999"])]), None);
        let windows = |control, attributes: &[(&str, &[&str])]| {
            barred_windows(&entry("cn=a", attributes), control, now())
        };
        assert_eq!(windows(512, &[("accountExpires", &["9223372036854775807"])]), None);
        assert_eq!(windows(512, &[("accountExpires", &["0"])]), None);
        assert_eq!(windows(514, &[]), Some(RejectReason::Disabled));
        assert_eq!(
            windows(512, &[("msDS-User-Account-Control-Computed", &["16"])]),
            Some(RejectReason::Locked)
        );
        let lock_over: &[(&str, &[&str])] =
            &[("lockoutTime", &["133"]), ("msDS-User-Account-Control-Computed", &["0"])];
        assert_eq!(windows(512, lock_over), None);
        assert_eq!(windows(512, &[("lockoutTime", &["133"])]), Some(RejectReason::Locked));
        let since_1601 = |seconds: i64| ((now().unix() + seconds + WINDOWS_EPOCH) * 10_000_000).to_string();
        assert_eq!(windows(512, &[("accountExpires", &[&since_1601(0)])]), Some(RejectReason::Expired));
        assert_eq!(windows(512, &[("accountExpires", &[&since_1601(1)])]), None);
    }

    #[test]
    fn an_account_whose_state_can_not_be_read_is_not_taken_for_a_good_one() {
        let settings: LdapSettings =
            toml::from_str("name = \"ad\"\nkind = \"active-directory\"\nurls = []\nusers_base = \"dc=a\"")
                .unwrap();
        let mut entry = entry("cn=a,dc=a", &[("sAMAccountName", &["Alice"])]);
        entry.bin_attrs.insert("objectGUID".into(), vec![vec![0xff; 16]]);
        let error = Account::read(&settings, &entry, now()).unwrap_err();
        assert!(error.contains("userAccountControl"), "{error}");
        entry.attrs.insert("userAccountControl".into(), vec!["512".into()]);
        let account = Account::read(&settings, &entry, now()).unwrap();
        assert_eq!((account.name.as_str(), account.barred), ("alice", None));
        assert_eq!(account.subject, "ffffffff-ffff-ffff-ffff-ffffffffffff");
    }
}

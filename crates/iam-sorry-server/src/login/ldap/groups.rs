//! A person's groups, nested ones included, under names that mean one group each.

use std::collections::{BTreeMap, BTreeSet};

use ldap3::{Scope, SearchEntry};

use super::account::{Account, one_name};
use super::connection::{Failure, Query};
use super::escape::{bytes_in_filter, fold, in_filter};
use super::{Directory, Kind};
use crate::login::{LoginError, Why};

/// Nobody is in more groups, and no nesting is deeper; with some of them left out, a rule that forbids could be missed.
const MOST_GROUPS: usize = 1000;
const DEEPEST: usize = 20;
/// How many DNs go into one filter.
const AT_ONCE: usize = 25;

/// Groups by folded DN, with the name that each has in its own entry.
type Found = BTreeMap<String, Option<String>>;

impl Directory {
    /// The names of all groups that the person is in.
    pub(super) async fn groups_of(&self, account: &Account) -> Result<Vec<String>, LoginError> {
        let Some(base) = self.settings.groups_base.as_deref() else { return Ok(Vec::new()) };
        let found = match self.settings.kind {
            Kind::Openldap => self.walk(base, account).await?,
            Kind::ActiveDirectory => self.chain(base, account).await?,
        };
        let unique = self.names_of_one_group(base, &found).await?;
        let name = |(dn, name): (&String, &Option<String>)| match name {
            Some(name) if unique.contains(name) => name.clone(),
            _ => dn.clone(),
        };
        Ok(found.iter().map(name).collect())
    }

    /// Level by level, each group once, so that groups in a circle end it too.
    async fn walk(&self, base: &str, account: &Account) -> Result<Found, LoginError> {
        let mut direct = member(&account.dn);
        direct.push_str(&format!("(memberUid={})", in_filter(&account.raw_name)));
        if let Some(gid) = &account.gid {
            direct.push_str(&format!("(&(objectClass=posixGroup)(gidNumber={}))", in_filter(gid)));
        }
        let mut found = Found::new();
        let mut level = self.matching(base, &direct, &mut found).await?;
        for _ in 0..DEEPEST {
            if level.is_empty() || !self.settings.nested_groups {
                return Ok(found);
            }
            let mut next = Vec::new();
            for some in level.chunks(AT_ONCE) {
                let any: String = some.iter().map(|dn| member(dn)).collect();
                next.extend(self.matching(base, &any, &mut found).await?);
            }
            level = next;
        }
        Err(LoginError::Refused(Why::TooManyGroups))
    }

    /// Active Directory follows the chain itself (LDAP_MATCHING_RULE_IN_CHAIN, MS-ADTS section 3.1.1.3.4.4), but not
    /// that of the primary group, which is in no `member`.
    async fn chain(&self, base: &str, account: &Account) -> Result<Found, LoginError> {
        let rule = if self.settings.nested_groups { "member:1.2.840.113556.1.4.1941:" } else { "member" };
        let in_chain = |dn: &str| format!("({rule}={})", in_filter(dn));
        let mut found = Found::new();
        self.matching(base, &in_chain(&account.dn), &mut found).await?;
        if let Some(sid) = &account.primary_group_sid {
            let primary = format!("(objectSid={})", bytes_in_filter(sid));
            for dn in self.matching(base, &primary, &mut found).await? {
                if self.settings.nested_groups {
                    self.matching(base, &in_chain(&dn), &mut found).await?;
                }
            }
        }
        Ok(found)
    }

    /// Adds the groups that match any of the conditions; gives the DNs of the new ones.
    async fn matching(&self, base: &str, any: &str, found: &mut Found) -> Result<Vec<String>, LoginError> {
        let filter = format!("(&{}(|{any}))", self.settings.group_filter());
        let mut new = Vec::new();
        for entry in self.group_entries(base, filter).await? {
            let name = self.own_name(&entry);
            if found.insert(fold(&entry.dn), name).is_none() {
                new.push(entry.dn);
            }
        }
        if found.len() > MOST_GROUPS {
            return Err(LoginError::Refused(Why::TooManyGroups));
        }
        Ok(new)
    }

    /// Two groups may bear one name in different places, and in one of those places anybody may make groups: a name that
    /// is not one group's alone stands for none of them, and they go by their DNs.
    async fn names_of_one_group(&self, base: &str, found: &Found) -> Result<BTreeSet<String>, LoginError> {
        let attribute = &self.settings.group_name_attribute;
        let names: BTreeSet<&String> = found.values().flatten().collect();
        let names: Vec<&String> = names.into_iter().collect();
        let mut bearers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for some in names.chunks(AT_ONCE) {
            let any: String = some.iter().map(|name| format!("({attribute}={})", in_filter(name))).collect();
            let filter = format!("(&{}(|{any}))", self.settings.group_filter());
            for entry in self.group_entries(base, filter).await? {
                let dn = fold(&entry.dn);
                for value in super::account::texts(&entry, attribute) {
                    bearers.entry(fold(&value)).or_default().insert(dn.clone());
                }
            }
        }
        let (one, several): (Vec<_>, Vec<_>) = bearers.into_iter().partition(|(_, dns)| dns.len() == 1);
        for (name, dns) in several {
            tracing::warn!(name, groups = ?dns, "several groups bear this name; in the rules they go by their DNs");
        }
        Ok(one.into_iter().map(|(name, _)| name).collect())
    }

    fn own_name(&self, entry: &SearchEntry) -> Option<String> {
        let name = one_name(entry, &self.settings.group_name_attribute).map(|name| fold(&name));
        // What looks like a DN could be taken for one.
        name.filter(|name| !name.contains('='))
    }

    async fn group_entries(&self, base: &str, filter: String) -> Result<Vec<SearchEntry>, LoginError> {
        let most = i32::try_from(MOST_GROUPS).unwrap_or(i32::MAX);
        let attributes = vec![self.settings.group_name_attribute.clone()];
        let query = Query { base, scope: Scope::Subtree, filter, attributes, limit: most };
        self.connections.search(&query).await.map_err(|failure| match failure {
            Failure::TooMany => LoginError::Refused(Why::TooManyGroups),
            other => other.into(),
        })
    }
}

/// Attributes that a server doesn't know match nothing (RFC 4511, section 4.5.1.7).
fn member(dn: &str) -> String {
    let dn = in_filter(dn);
    format!("(member={dn})(uniqueMember={dn})")
}

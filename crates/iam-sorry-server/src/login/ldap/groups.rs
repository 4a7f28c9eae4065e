//! A person's groups, nested ones included: by DN and stable id, and by name with whether the name is one group's alone.

use std::collections::{BTreeMap, BTreeSet};

use iam_sorry_core::dn;
use iam_sorry_core::group::{Group, looks_like_an_id};
use ldap3::{Scope, SearchEntry};

use super::account::{Account, id_of, one_name, texts};
use super::connection::Query;
use super::directory::Directory;
use super::escape::{bytes_in_filter, fold, in_filter};
use super::failure::Failure;
use super::settings::Kind;
use crate::login::error::{LoginError, RejectReason};

/// Nobody is in more groups, and no nesting is deeper; with some of them left out, a rule that forbids could be missed.
const MOST_GROUPS: usize = 1000;
const DEEPEST: usize = 20;
/// How many DNs go into one filter.
const AT_ONCE: usize = 25;

/// Groups by folded DN; whether their names are theirs alone is not known yet.
type Found = BTreeMap<String, Group>;

/// Folded DNs of the groups that have a name, by folded name; None where there are more than can be counted.
pub(crate) type Bearers = BTreeMap<String, Option<BTreeSet<String>>>;

impl Directory {
    /// All groups that the person is in. Somebody who may make groups in one place may give one the name of another, so a
    /// name counts only if no other group below the base has it.
    pub(super) async fn groups_of(&self, account: &Account) -> Result<Vec<Group>, LoginError> {
        let Some(base) = self.settings.groups_base.as_deref() else { return Ok(Vec::new()) };
        let found = match self.settings.kind {
            Kind::Openldap => self.walk(base, account).await?,
            Kind::ActiveDirectory => self.chain(base, account).await?,
        };
        let names: BTreeSet<String> = found.values().filter_map(|group| group.name.clone()).collect();
        let bearers = self.bearers_of(base, &names).await?;
        let one =
            |name: &String| bearers.get(name).and_then(Option::as_ref).is_some_and(|dns| dns.len() == 1);
        Ok(found
            .into_values()
            .map(|group| Group {
                name_is_unique: group.name.as_ref().is_some_and(|name| one(name) && !looks_like_an_id(name)),
                ..group
            })
            .collect())
    }

    /// Which groups have these names (folded), whoever is in them.
    ///
    /// # Errors
    /// [`LoginError`]
    pub(crate) async fn groups_called(&self, names: &BTreeSet<String>) -> Result<Bearers, LoginError> {
        match self.settings.groups_base.as_deref() {
            Some(base) => self.bearers_of(base, names).await,
            None => Ok(Bearers::new()),
        }
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
        Err(LoginError::Refused(RejectReason::TooManyGroups))
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
            let group = self.group(&entry)?;
            let folded = group.dn.clone().unwrap_or_default();
            if found.insert(folded, group).is_none() {
                new.push(entry.dn);
            }
        }
        if found.len() > MOST_GROUPS {
            return Err(LoginError::Refused(RejectReason::TooManyGroups));
        }
        Ok(new)
    }

    async fn bearers_of(&self, base: &str, names: &BTreeSet<String>) -> Result<Bearers, LoginError> {
        let mut bearers = Bearers::new();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut parts: Vec<&[&str]> = names.chunks(AT_ONCE).collect();
        while let Some(part) = parts.pop() {
            match self.bearers_at_once(base, part).await {
                Ok(found) => bearers.extend(found.into_iter().map(|(name, dns)| (name, Some(dns)))),
                // Hundreds of groups of one name must not keep its members from signing in.
                Err(LoginError::Refused(RejectReason::TooManyGroups)) => match part {
                    [name] => drop(bearers.insert((*name).to_owned(), None)),
                    several => {
                        let (some, others) = several.split_at(several.len() / 2);
                        parts.extend([some, others]);
                    }
                },
                Err(error) => return Err(error),
            }
        }
        Ok(bearers)
    }

    async fn bearers_at_once(
        &self,
        base: &str,
        names: &[&str],
    ) -> Result<BTreeMap<String, BTreeSet<String>>, LoginError> {
        let attribute = &self.settings.group_name_attribute;
        let any: String = names.iter().map(|name| format!("({attribute}={})", in_filter(name))).collect();
        let filter = format!("(&{}(|{any}))", self.settings.group_filter());
        let mut bearers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for entry in self.group_entries(base, filter).await? {
            let dn = folded_dn(&entry)?;
            for name in texts(&entry, attribute).iter().map(|value| fold(value)) {
                if names.contains(&name.as_str()) {
                    bearers.entry(name).or_default().insert(dn.clone());
                }
            }
        }
        Ok(bearers)
    }

    fn group(&self, entry: &SearchEntry) -> Result<Group, LoginError> {
        Ok(Group {
            issuer: self.settings.name.clone(),
            id: id_of(self.settings.kind, self.settings.group_id_attribute(), entry),
            dn: Some(folded_dn(entry)?),
            name: one_name(entry, &self.settings.group_name_attribute).map(|name| fold(&name)),
            name_is_unique: false,
        })
    }

    async fn group_entries(&self, base: &str, filter: String) -> Result<Vec<SearchEntry>, LoginError> {
        let most = i32::try_from(MOST_GROUPS).unwrap_or(i32::MAX);
        let attributes =
            vec![self.settings.group_name_attribute.clone(), self.settings.group_id_attribute().to_owned()];
        let query = Query { base, scope: Scope::Subtree, filter, attributes, limit: most };
        self.connections.search(&query).await.map_err(|failure| match failure {
            Failure::TooMany => LoginError::Refused(RejectReason::TooManyGroups),
            other => other.into(),
        })
    }
}

fn folded_dn(entry: &SearchEntry) -> Result<String, LoginError> {
    dn::fold(&entry.dn)
        .ok_or_else(|| LoginError::Broken(format!("the directory names a group {:?}", entry.dn)))
}

/// Attributes that a server doesn't know match nothing (RFC 4511, section 4.5.1.7).
fn member(dn: &str) -> String {
    let dn = in_filter(dn);
    format!("(member={dn})(uniqueMember={dn})")
}

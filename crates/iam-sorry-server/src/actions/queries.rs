//! What people may see: users, access keys, grants, and what can be attached and assumed. Nothing here changes anything at AWS.

use std::sync::Arc;

use iam_sorry_aws::errors::LastUsed;
use iam_sorry_aws::{lookup, managed};
use iam_sorry_core::api::{self, GrantInfo, GrantKind, GrantState, KeyInfo, KeyStatus, Page, ProblemCode};
use iam_sorry_core::audit::Outcome;
use iam_sorry_core::ids::{AccountName, UserRef};
use iam_sorry_rules::{Action as Right, Resource, RuleSet};
use iam_sorry_store::{Grant, ManagedUser, PageRequest, Store};

use crate::accounts::handle::AwsHandle;
use crate::authz::authorize::AuthzRequest;
use crate::caller::Caller;
use crate::clock::rfc3339;
use crate::error::ServiceError;
use crate::service::Service;

/// How many rows are read at once at least: most of them may be ones that the caller may not see.
const READ: u32 = 200;

impl Service {
    /// `GET /users/{name}`: what IAM says now.
    ///
    /// # Errors
    /// [`ServiceError`]: not allowed, not found, or AWS.
    pub async fn show_user(&self, caller: &Caller, user: &UserRef) -> Result<api::UserDetails, ServiceError> {
        let allowed = self.authorize(caller, &AuthzRequest::user(Right::ShowUser, user.clone())).await?;
        let row = allowed.managed()?;
        self.record_reading_user(caller, "show-user", &allowed).await?;
        let handle = self.handle(&row.user.account).await?;
        let facts = self.managed_user(&handle, row).await?;
        let (aws, credentials) = handle.pair();
        let policies = managed::attached(aws, credentials, &row.user.name).await;
        let policies = policies.map_err(ServiceError::of_aws)?;
        let keys = self.keys(&handle, &row.user).await?;
        Ok(api::UserDetails { user: info(row), policies, keys, permissions_boundary: facts.boundary })
    }

    /// `GET /users`: of the namespaces that the caller owns; with `all`, of every one; of one account, or of all. Listed is what
    /// the rules let them list *and* show, so that nobody learns by a list what they may not see (GHSA-xp3c).
    ///
    /// # Errors
    /// [`ServiceError`]: bad cursor, store.
    pub async fn list_users(
        &self,
        caller: &Caller,
        account: Option<&AccountName>,
        query: api::PageQuery,
    ) -> Result<Page<api::UserInfo>, ServiceError> {
        let (all, rules) = (query.all, self.rules());
        let page = self.page_of_users(caller, account, query, &rules).await?;
        let me = caller.identity.id();
        let others = page.items.iter().filter(|user| user.owner != me).count();
        // In namespaces of their own people see what is theirs together.
        if all && others > 0 {
            let mut event = self.event(caller, "list-users", "all");
            event.outcome = Some(Outcome::Success);
            event.rules_digest = Some(rules.digest().whole().to_string());
            event.details.insert("of-others".to_owned(), others.to_string());
            self.store().record(vec![event]).await?;
        }
        Ok(page)
    }

    async fn page_of_users(
        &self,
        caller: &Caller,
        account: Option<&AccountName>,
        query: api::PageQuery,
        rules: &Arc<RuleSet>,
    ) -> Result<Page<api::UserInfo>, ServiceError> {
        let candidates = if query.all {
            rules.settings().namespaces.iter().collect()
        } else {
            rules.namespaces_of(&caller.identity)
        };
        let mut namespaces = Vec::new();
        for namespace in candidates {
            let authz_request =
                AuthzRequest::about(Right::ListUsers, Resource::Namespace(namespace.name.clone()));
            if self.evaluate_with(rules.clone(), caller, &authz_request, None).decision.allowed {
                namespaces.push(namespace.name.clone());
            }
        }
        let limit = crate::audit::trail::limit(query.limit)?;
        let (mut rows, mut cursor) = (Vec::<ManagedUser>::new(), query.cursor);
        let page_of = |rows: Vec<ManagedUser>, next| Page { items: rows.iter().map(info).collect(), next };
        loop {
            let page = PageRequest { cursor, limit: (limit + 1).max(READ) };
            let found = self.store().list_users(account, Some(&namespaces), page).await?;
            for row in found.items {
                let authz_request = AuthzRequest::user(Right::ShowUser, row.user.clone());
                if !self.evaluate_with(rules.clone(), caller, &authz_request, Some(&row)).decision.allowed {
                    continue;
                }
                // A cursor names the row before it, so it is never that of one who is left out.
                if let Some(last) = rows.last().filter(|_| rows.len() >= limit as usize) {
                    let next = Some(Store::after_user(&last.user));
                    return Ok(page_of(rows, next));
                }
                rows.push(row);
            }
            if found.next.is_none() {
                return Ok(page_of(rows, None));
            }
            cursor = found.next;
        }
    }

    /// `GET /users/{name}/keys`.
    ///
    /// # Errors
    /// [`ServiceError`]: not allowed, not found, or AWS.
    pub async fn list_keys(&self, caller: &Caller, user: &UserRef) -> Result<Vec<KeyInfo>, ServiceError> {
        let allowed = self.authorize(caller, &AuthzRequest::user(Right::ShowUser, user.clone())).await?;
        let row = allowed.managed()?;
        self.record_reading_user(caller, "list-keys", &allowed).await?;
        let handle = self.handle(&row.user.account).await?;
        self.managed_user(&handle, row).await?;
        self.keys(&handle, &row.user).await
    }

    /// The user's keys with their last use.
    pub(crate) async fn keys(
        &self,
        handle: &AwsHandle,
        user: &UserRef,
    ) -> Result<Vec<KeyInfo>, ServiceError> {
        let (aws, credentials) = handle.pair();
        let listed = lookup::keys_of(aws, credentials, &user.name).await.map_err(ServiceError::of_aws)?;
        let facts = lookup::key_facts(aws, credentials, &listed).await;
        let rotations = self.store().rotations_of(user).await?;
        let old = |id: &str| rotations.iter().find(|found| found.new.old_key == id);
        let new = |id: &str| rotations.iter().find(|found| found.new.new_key == id);
        Ok(facts
            .into_iter()
            .map(|key| KeyInfo {
                replaced_by: old(&key.id).map(|found| found.new.new_key.clone()),
                deleted_after: old(&key.id).and_then(|found| found.new.delete_after_ms).map(rfc3339),
                replaces: new(&key.id).map(|found| found.new.old_key.clone()),
                access_key_id: key.id,
                status: KeyStatus::of(key.active),
                created_at: key.created.map(|at| at.to_string()),
                last_used_at: match key.last_used {
                    LastUsed::At(at, _) => Some(at.to_string()),
                    LastUsed::Never | LastUsed::Unknown => None,
                },
            })
            .collect())
    }

    /// `GET /credentials`: what the caller was given; with `all`, everybody (who may read the audit trail).
    ///
    /// # Errors
    /// [`ServiceError`]: not allowed, bad cursor, store.
    pub async fn list_grants(
        &self,
        caller: &Caller,
        query: api::PageQuery,
    ) -> Result<Page<GrantInfo>, ServiceError> {
        let authz_request = AuthzRequest::about(Right::ReadAudit, Resource::Audit);
        let allowed = if query.all { Some(self.authorize(caller, &authz_request).await?) } else { None };
        let person = caller.identity.id();
        let limit = crate::audit::trail::limit(query.limit)?;
        if let Some(allowed) = allowed {
            self.record_reading(caller, "read-grants", "all", &allowed, query.cursor.as_deref()).await?;
        }
        let page = PageRequest { cursor: query.cursor, limit };
        let found = self.store().list_grants((!query.all).then_some(person.as_str()), page).await?;
        let now = self.clock().now_ms();
        Ok(Page {
            items: found.items.into_iter().map(|grant| grant_info(grant, now)).collect::<Result<_, _>>()?,
            next: found.next,
        })
    }

    /// `GET /policies`: ARNs of the allow-list.
    ///
    /// # Errors
    /// None at the moment.
    pub async fn list_policies(&self, _caller: &Caller) -> Result<Vec<String>, ServiceError> {
        Ok(self.rules().settings().guardrails.policies.clone())
    }

    /// `GET /roles`: ARNs of the roles that the caller may assume.
    ///
    /// # Errors
    /// None at the moment.
    pub async fn list_roles(&self, caller: &Caller) -> Result<Vec<String>, ServiceError> {
        Ok(self.roles_of(caller))
    }

    /// The roles that the caller may assume.
    pub(crate) fn roles_of(&self, caller: &Caller) -> Vec<String> {
        let set = self.rules();
        let rules = set.clone();
        let roles = rules.settings().guardrails.roles.iter().map(|role| role.arn.clone());
        roles
            .filter(|arn| {
                let authz_request = AuthzRequest::about(Right::AssumeRole, Resource::Role(arn.clone()));
                self.evaluate_with(set.clone(), caller, &authz_request, None).decision.allowed
            })
            .collect()
    }
}

fn grant_info(grant: Grant, now_ms: i64) -> Result<GrantInfo, ServiceError> {
    let state = match grant.new.expires_ms {
        _ if grant.deleted => GrantState::Deleted,
        Some(ends) if ends <= now_ms => GrantState::Expired,
        _ => GrantState::Active,
    };
    let kind = GrantKind::ALL.into_iter().find(|kind| kind.as_str() == grant.new.kind).ok_or_else(|| {
        tracing::error!(operation = grant.operation, kind = grant.new.kind, "a grant of an unknown kind");
        ServiceError::new(ProblemCode::Internal, "The service's database holds something unexpected.")
    })?;
    Ok(GrantInfo {
        operation: grant.operation,
        person: grant.person,
        kind,
        account: grant.new.account,
        resource: grant.new.resource,
        access_key_id: grant.new.access_key_id,
        issued_at: rfc3339(grant.new.issued_ms),
        expires_at: grant.new.expires_ms.map(rfc3339),
        state,
    })
}

pub(crate) fn info(row: &ManagedUser) -> api::UserInfo {
    api::UserInfo {
        account: row.user.account.clone(),
        name: row.user.name.to_string(),
        arn: row.arn.clone(),
        namespace: row.namespace.clone(),
        owner: row.owner.clone(),
        created_at: rfc3339(row.created_ms),
        adopted: row.adopted,
    }
}

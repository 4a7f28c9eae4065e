//! IAM users: make, delete, adopt, show, list.
//!
//! A user of the service's is known by three things that must agree: its row in the store, its ARN (path included), and
//! its tags in IAM. One that was deleted, moved or made anew behind the service's back fits no longer and is not touched.

use std::sync::Arc;
use std::time::Duration;

use iam_sorry_aws::errors::LastUsed;
use iam_sorry_aws::managed::{self, Facts, NewUser};
use iam_sorry_aws::primitives::NotMade;
use iam_sorry_aws::{AwsError, lookup, removal};
use iam_sorry_core::api::{self, Done, Page, ProblemCode};
use iam_sorry_core::audit::Outcome;
use iam_sorry_core::names::UserName;
use iam_sorry_rules::{Action, Resource, RuleSet};
use iam_sorry_store::{ManagedUser, PageRequest, Store};
use tokio::time::Instant;

use crate::accounts::handle::{AwsHandle, is_final, refused};
use crate::accounts::tags::{MANAGED_BY, is_of, tags};
use crate::authz::authorize::{AuthzRequest, user_name};
use crate::caller::Caller;
use crate::clock::rfc3339;
use crate::error::ServiceError;
use crate::operations::idempotency::IdempotencyKey;
use crate::operations::operation::{Changes, OpenOperation, Start, dry_run};
use crate::operations::plan::{Note, Plan};
use crate::service::Service;

/// How long a user that was just made may be unknown to another part of IAM (IAM User Guide, "Changes that I make are not
/// always immediately visible").
const KNOWN_WITHIN: Duration = Duration::from_secs(6);

/// How many rows are read at once at least: most of them may be ones that the caller may not see.
const READ: u32 = 200;

/// No user that is younger is taken for deleted because IAM does not show it.
const YOUNG_MS: i64 = 60_000;

/// The most policies that one request attaches; IAM's own quota is 10 a user unless raised.
const MOST_POLICIES: usize = 20;

/// How each note of a deletion's dry run begins.
pub const WOULD_GO: &str = "would take away ";

/// What IAM says of a user whose row we have.
pub(crate) enum Standing {
    Ours(Facts),
    Gone,
    /// Another user of that name, or one that was moved or lost its tag: why.
    NotOurs(String),
}

impl Service {
    /// `POST /users`.
    ///
    /// # Errors
    /// [`ServiceError`]: not allowed, conflict, or AWS.
    pub async fn create_user(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        request: api::CreateUser,
    ) -> Result<Done, ServiceError> {
        let (service, caller, key) = (self.clone(), caller.clone(), key.cloned());
        self.detached(async move { service.create(&caller, key.as_ref(), request).await }).await
    }

    async fn create(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        mut request: api::CreateUser,
    ) -> Result<Done, ServiceError> {
        let name = user_name(&request.name)?;
        let authz_request = AuthzRequest::user(Action::CreateUser, &request.name)?;
        let allowed = self.authorize(caller, &authz_request).await?;
        request.policies.sort();
        request.policies.dedup();
        if request.policies.len() > MOST_POLICIES {
            return Err(ServiceError::new(
                ProblemCode::BadRequest,
                format!("At most {MOST_POLICIES} policies can be attached at once."),
            ));
        }
        for arn in &request.policies {
            self.allow_first_policy(caller, &name, arn).await?;
        }
        let rules = &allowed.rules;
        let namespace = rules.namespace_of(&name).ok_or_else(|| {
            ServiceError::new(ProblemCode::Guardrail, format!("{name} is in no namespace of this service."))
        })?;
        let handle = self.handle().await?;
        if request.dry_run {
            if allowed.row.is_some() {
                return Err(exists(&name));
            }
            return match managed::facts(&handle.aws, &handle.credentials, &name).await {
                Err(AwsError::NoSuchUser { .. }) => Ok(dry_run(&authz_request, &allowed, Vec::new())),
                Ok(_) => Err(exists(&name)),
                Err(error) => Err(refused(&error)),
            };
        }
        let plan = Plan::CreateUser {
            user: name.as_str().to_owned(),
            namespace: namespace.name.clone(),
            path: namespace.path(),
            boundary: rules.settings().guardrails.boundary().map(str::to_owned),
            policies: request.policies.clone(),
        };
        let run =
            match self.begin(caller, key, &authz_request, &allowed, &request.policies, plan.clone()).await? {
                Start::Replay(done) => return Ok(done),
                Start::Fresh(run) => run,
            };
        if allowed.row.is_some() {
            return Err(run.failed(exists(&name), Changes::default()).await);
        }
        make_user(&run, &handle, &plan).await
    }

    /// A policy that a new user gets at once is attached all the same: whoever may not attach it, may not give it so. The
    /// user will be theirs, and managed, when it is.
    async fn allow_first_policy(
        &self,
        caller: &Caller,
        name: &UserName,
        arn: &str,
    ) -> Result<(), ServiceError> {
        let authz_request = AuthzRequest {
            recorded_as: None,
            policy_arn: Some(arn.to_owned()),
            ..AuthzRequest::about(Action::AttachPolicy, Resource::User(name.clone()))
        };
        let to_be = ManagedUser {
            name: name.as_str().to_owned(),
            arn: String::new(),
            namespace: String::new(),
            owner: caller.identity.id(),
            created_ms: 0,
            adopted: false,
        };
        self.authorize_with(caller, &authz_request, Some(to_be)).await.map(drop)
    }

    /// `DELETE /users/{name}`.
    ///
    /// # Errors
    /// [`ServiceError`]: not allowed, or AWS.
    pub async fn delete_user(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        name: &str,
        options: api::Options,
    ) -> Result<Done, ServiceError> {
        let authz_request = AuthzRequest::user(Action::DeleteUser, name)?;
        let (service, caller, key) = (self.clone(), caller.clone(), key.cloned());
        self.detached(async move { service.delete(&caller, key.as_ref(), authz_request, options).await })
            .await
    }

    async fn delete(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        authz_request: AuthzRequest,
        options: api::Options,
    ) -> Result<Done, ServiceError> {
        // Done before under the same key: the row, which the rules want to see, is gone by now.
        if let Some(done) = self.done_before(caller, key, &authz_request, &()).await? {
            return Ok(done);
        }
        let allowed = self.authorize(caller, &authz_request).await?;
        let (row, name) = allowed.user()?;
        let handle = self.handle().await?;
        if options.dry_run {
            // It names the user's keys, devices and policies.
            self.record_reading_user(caller, "show-user", &allowed).await?;
            return match self.standing(&handle, row, &name).await? {
                Standing::Ours(_) => {
                    self.groups_may_go(&handle, &name).await?;
                    Ok(dry_run(
                        &authz_request,
                        &allowed,
                        what_would_go(&handle, &name).await.map_err(|e| refused(&e))?,
                    ))
                }
                Standing::Gone => Ok(dry_run(&authz_request, &allowed, vec![gone_text(&name)])),
                Standing::NotOurs(why) => Err(not_ours(&why)),
            };
        }
        let plan = Plan::DeleteUser { user: row.name.clone() };
        match self.begin(caller, key, &authz_request, &allowed, &(), plan).await? {
            Start::Replay(done) => Ok(done),
            Start::Fresh(run) => match self.standing(&handle, row, &name).await {
                Ok(Standing::Ours(_)) => match self.groups_may_go(&handle, &name).await {
                    Ok(()) => delete_user(&run, &handle, &name).await,
                    Err(refusal) => Err(run.failed(refusal, Changes::default()).await),
                },
                Ok(Standing::Gone) => {
                    let changes = Changes { deleted_user: Some(row.name.clone()), ..Changes::default() };
                    run.done(vec![gone_text(&name)], changes).await
                }
                Ok(Standing::NotOurs(why)) => Err(run.failed(not_ours(&why), Changes::default()).await),
                Err(refusal) => Err(run.failed(refusal, Changes::default()).await),
            },
        }
    }

    /// Whether the service may take the user out of all of its groups: asked before anything is taken away, so that a user
    /// whom it can't delete stays whole.
    async fn groups_may_go(&self, handle: &AwsHandle, name: &UserName) -> Result<(), ServiceError> {
        let rules = self.rules();
        let Some(listed) = &rules.settings().guardrails.groups else { return Ok(()) };
        let groups =
            managed::group_arns(&handle.aws, &handle.credentials, name).await.map_err(|e| refused(&e))?;
        match groups.into_iter().find(|arn| !listed.contains(arn)) {
            None => Ok(()),
            Some(arn) => Err(ServiceError::new(
                ProblemCode::Guardrail,
                format!(
                    "{name} is in the IAM group {arn}, which the service may not take anybody out of, so nothing was \
                     deleted.\nAsk an administrator of the AWS account to take {name} out of it, then try again."
                ),
            )),
        }
    }

    /// `GET /users/{name}`: what IAM says now.
    ///
    /// # Errors
    /// [`ServiceError`]: not allowed, not found, or AWS.
    pub async fn show_user(&self, caller: &Caller, name: &str) -> Result<api::UserDetails, ServiceError> {
        let allowed = self.authorize(caller, &AuthzRequest::user(Action::ShowUser, name)?).await?;
        let (row, name) = allowed.user()?;
        self.record_reading_user(caller, "show-user", &allowed).await?;
        let handle = self.handle().await?;
        let facts = self.ours(&handle, row, &name).await?;
        let policies =
            managed::attached(&handle.aws, &handle.credentials, &name).await.map_err(|e| refused(&e))?;
        let keys = self.keys(&handle, &name).await?;
        Ok(api::UserDetails { user: info(row), policies, keys, permissions_boundary: facts.boundary })
    }

    /// `GET /users`: of the namespaces that the caller owns; with `all`, of every one. Listed is what the rules let them
    /// list *and* show, so that nobody learns by a list what they may not see (GHSA-xp3c).
    ///
    /// # Errors
    /// [`ServiceError`]: bad cursor, store.
    pub async fn list_users(
        &self,
        caller: &Caller,
        query: api::PageQuery,
    ) -> Result<Page<api::UserInfo>, ServiceError> {
        let (all, rules) = (query.all, self.rules());
        let page = self.page_of_users(caller, query, &rules).await?;
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
                AuthzRequest::about(Action::ListUsers, Resource::Namespace(namespace.name.clone()));
            if self.evaluate_with(rules.clone(), caller, &authz_request, None).decision.allowed {
                namespaces.push(namespace.name.clone());
            }
        }
        let limit = crate::audit::trail::limit(query.limit)?;
        let (mut items, mut cursor) = (Vec::<api::UserInfo>::new(), query.cursor);
        loop {
            let page = PageRequest { cursor, limit: (limit + 1).max(READ) };
            let found = self.store().list_users(Some(&namespaces), page).await?;
            for row in found.items {
                let authz_request = AuthzRequest::user(Action::ShowUser, &row.name)?;
                if !self.evaluate_with(rules.clone(), caller, &authz_request, Some(&row)).decision.allowed {
                    continue;
                }
                // A cursor names the row before it, so it is never that of one who is left out.
                if let Some(last) = items.last().filter(|_| items.len() >= limit as usize) {
                    let next = Some(Store::after_user(&last.name));
                    return Ok(Page { items, next });
                }
                items.push(info(&row));
            }
            if found.next.is_none() {
                return Ok(Page { items, next: None });
            }
            cursor = found.next;
        }
    }

    /// What IAM says of a user whose row we have.
    pub(crate) async fn standing(
        &self,
        handle: &AwsHandle,
        row: &ManagedUser,
        name: &UserName,
    ) -> Result<Standing, ServiceError> {
        let start = Instant::now();
        loop {
            match managed::facts(&handle.aws, &handle.credentials, name).await {
                Ok(facts) => return Ok(compare(facts, row)),
                Err(AwsError::NoSuchUser { .. }) => {
                    let young = self.clock().now_ms() - row.created_ms < YOUNG_MS;
                    if !young || start.elapsed() > KNOWN_WITHIN {
                        return Ok(Standing::Gone);
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Err(error) => return Err(refused(&error)),
            }
        }
    }

    /// The user's facts, for what only looks.
    pub(crate) async fn ours(
        &self,
        handle: &AwsHandle,
        row: &ManagedUser,
        name: &UserName,
    ) -> Result<Facts, ServiceError> {
        match self.standing(handle, row, name).await? {
            Standing::Ours(facts) => Ok(facts),
            Standing::Gone => Err(gone(name)),
            Standing::NotOurs(why) => Err(not_ours(&why)),
        }
    }

    /// The same within an operation, which ends where the user is not ours; the row of one that is gone goes too, so that
    /// nothing is tried again for ever (vault#5190).
    pub(crate) async fn ours_or_end(
        &self,
        run: &OpenOperation,
        handle: &AwsHandle,
        row: &ManagedUser,
        name: &UserName,
    ) -> Result<Facts, ServiceError> {
        match self.standing(handle, row, name).await {
            Ok(Standing::Ours(facts)) => Ok(facts),
            Ok(Standing::Gone) => {
                let changes = Changes { deleted_user: Some(row.name.clone()), ..Changes::default() };
                Err(run.failed(gone(name), changes).await)
            }
            Ok(Standing::NotOurs(why)) => Err(run.failed(not_ours(&why), Changes::default()).await),
            Err(refusal) => Err(run.failed(refusal, Changes::default()).await),
        }
    }

    /// The user's keys with their last use.
    pub(crate) async fn keys(
        &self,
        handle: &AwsHandle,
        name: &UserName,
    ) -> Result<Vec<api::KeyInfo>, ServiceError> {
        let listed =
            lookup::keys_of(&handle.aws, &handle.credentials, name).await.map_err(|e| refused(&e))?;
        let facts = lookup::key_facts(&handle.aws, &handle.credentials, &listed).await;
        let rotations = self.store().rotations_of(name.as_str()).await?;
        let old = |id: &str| rotations.iter().find(|found| found.new.old_key == id);
        let new = |id: &str| rotations.iter().find(|found| found.new.new_key == id);
        Ok(facts
            .into_iter()
            .map(|key| api::KeyInfo {
                replaced_by: old(&key.id).map(|found| found.new.new_key.clone()),
                deleted_after: old(&key.id).and_then(|found| found.new.delete_after_ms).map(rfc3339),
                replaces: new(&key.id).map(|found| found.new.old_key.clone()),
                access_key_id: key.id,
                status: crate::actions::keys::status(key.active),
                created_at: key.created.map(|at| at.to_string()),
                last_used_at: match key.last_used {
                    LastUsed::At(at, _) => Some(at.to_string()),
                    LastUsed::Never | LastUsed::Unknown => None,
                },
            })
            .collect())
    }
}

/// From the intent to the outcome.
async fn make_user(run: &OpenOperation, handle: &AwsHandle, plan: &Plan) -> Result<Done, ServiceError> {
    let Plan::CreateUser { user, path, boundary, .. } = plan else {
        return Err(run.left_open("The plan of the operation is another's"));
    };
    let name = user_name(user)?;
    let new = NewUser {
        name: name.clone(),
        path: path.clone(),
        boundary: boundary.clone(),
        tags: tags(run.person(), &run.id),
    };
    let facts = match managed::create(&handle.aws, &handle.credentials, &new).await {
        Ok(facts) => facts,
        Err(NotMade::Certainly(AwsError::Refused { code, .. }))
            if code.starts_with("EntityAlreadyExists") =>
        {
            return Err(run.failed(exists(&name), Changes::default()).await);
        }
        Err(NotMade::Certainly(error)) => {
            return Err(run.failed(refused(&error), Changes::default()).await);
        }
        Err(NotMade::Perhaps(error)) => {
            tracing::warn!(%error, operation = run.id, "CreateUser");
            match managed::facts(&handle.aws, &handle.credentials, &name).await {
                Ok(facts) if is_of(&facts, &run.id) => facts,
                _ => return Err(run.left_open("AWS did not answer, and may have made the user")),
            }
        }
    };
    match complete_user(run.service.clone(), handle, &facts, plan, run.person()).await {
        Ok((notes, row)) => run.done(notes, Changes { user: Some(row), ..Changes::default() }).await,
        Err(error) => {
            let refusal = refused(&error);
            let what = format!("the user {name}, which was just made");
            if let Err(error) = run.note_undoing(&Note::TakingBack, &what).await {
                tracing::warn!(%error, operation = run.id, "note");
                return Err(run.left_open("The user was made, but not finished"));
            }
            match take_back_user(handle, &name, &run.id).await {
                Ok(_) => Err(run.failed(refusal, Changes::default()).await),
                Err(error) => {
                    tracing::warn!(%error, operation = run.id, "taking back");
                    Err(run.left_open(
                        "The user was made, but not finished, and can't be taken back at the moment",
                    ))
                }
            }
        }
    }
}

/// Gives a user that was just made its policies. The reconciler goes on from here too.
pub(crate) async fn complete_user(
    service: Service,
    handle: &AwsHandle,
    facts: &Facts,
    plan: &Plan,
    owner: &str,
) -> Result<(Vec<String>, ManagedUser), AwsError> {
    let Plan::CreateUser { namespace, policies, .. } = plan else {
        return Err(AwsError::Settings("not a plan to create a user".into()));
    };
    let mut notes = Vec::new();
    for arn in policies {
        while_unknown(|| managed::attach(&handle.aws, &handle.credentials, &facts.name, arn)).await?;
        notes.push(format!("attached {arn}"));
    }
    let row = ManagedUser {
        name: facts.name.as_str().to_owned(),
        arn: facts.arn.clone(),
        namespace: namespace.clone(),
        owner: owner.to_owned(),
        created_ms: service.clock().now_ms(),
        adopted: false,
    };
    Ok((notes, row))
}

/// Deletes the user that this operation made, and no other. `false`: there was none.
pub(crate) async fn take_back_user(
    handle: &AwsHandle,
    name: &UserName,
    operation: &str,
) -> Result<bool, AwsError> {
    match managed::facts(&handle.aws, &handle.credentials, name).await {
        Ok(facts) if is_of(&facts, operation) => {
            removal::delete_completely(&handle.aws, &handle.credentials, name).await?;
            Ok(true)
        }
        Ok(_) | Err(AwsError::NoSuchUser { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn delete_user(run: &OpenOperation, handle: &AwsHandle, name: &UserName) -> Result<Done, ServiceError> {
    match removal::delete_completely(&handle.aws, &handle.credentials, name).await {
        Ok(removed) => {
            let changes = Changes {
                deleted_user: Some(name.as_str().to_owned()),
                deleted_keys: removed.keys,
                details: vec![("removed", removed.lines.join(", "))],
                ..Changes::default()
            };
            let notes = removed.lines.into_iter().map(|line| format!("took away {line}")).collect();
            run.done(notes, changes).await
        }
        // What was taken away until then stays away, and the row stays: the same request again goes on from there.
        Err(error) if is_final(&error) => Err(run.failed(refused(&error), Changes::default()).await),
        Err(error) => {
            tracing::warn!(%error, operation = run.id, "delete-user");
            Err(run.left_open("AWS did not answer while the user was being deleted"))
        }
    }
}

async fn what_would_go(handle: &AwsHandle, name: &UserName) -> Result<Vec<String>, AwsError> {
    let lines = removal::what_hangs_on(&handle.aws, &handle.credentials, name).await?;
    Ok(lines.into_iter().map(|line| format!("{WOULD_GO}{line}")).collect())
}

/// Repeats what fails because IAM does not know a user everywhere that it just made.
pub(crate) async fn while_unknown<T, F>(request: impl Fn() -> F) -> Result<T, AwsError>
where
    F: Future<Output = Result<T, AwsError>>,
{
    let start = Instant::now();
    loop {
        match request().await {
            Err(AwsError::Refused { code, .. })
                if code.starts_with("NoSuchEntity") && start.elapsed() < KNOWN_WITHIN =>
            {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            answer => return answer,
        }
    }
}

fn compare(facts: Facts, row: &ManagedUser) -> Standing {
    if facts.arn != row.arn {
        return Standing::NotOurs(format!("in IAM {} is now {}, not {}", row.name, facts.arn, row.arn));
    }
    if facts.tags.get(MANAGED_BY.0).is_none_or(|value| value != MANAGED_BY.1) {
        return Standing::NotOurs(format!(
            "in IAM {} does not bear the tag {} any more",
            row.name, MANAGED_BY.0
        ));
    }
    Standing::Ours(facts)
}

pub(crate) fn info(row: &ManagedUser) -> api::UserInfo {
    api::UserInfo {
        name: row.name.clone(),
        arn: row.arn.clone(),
        namespace: row.namespace.clone(),
        owner: row.owner.clone(),
        created_at: rfc3339(row.created_ms),
        adopted: row.adopted,
    }
}

fn exists(name: &UserName) -> ServiceError {
    ServiceError::new(
        ProblemCode::Conflict,
        format!(
            "There is a user {name} already (IAM's names have no case).\nChoose another name; one that this service did not \
             make can be adopted: iam-sorry users adopt {name}"
        ),
    )
}

fn gone(name: &UserName) -> ServiceError {
    ServiceError::new(ProblemCode::NotFound, gone_text(name))
}

fn gone_text(name: &UserName) -> String {
    format!("IAM knows no user {name} any more: it was deleted without this service.")
}

pub(crate) fn not_ours(why: &str) -> ServiceError {
    ServiceError {
        reasons: vec![
            "guardrail managed-users: only users that the service made or adopted are touched".into(),
        ],
        ..ServiceError::new(
            ProblemCode::Guardrail,
            format!("This user is no longer the service's: {why}.\nAsk the operator what happened to it."),
        )
    }
}

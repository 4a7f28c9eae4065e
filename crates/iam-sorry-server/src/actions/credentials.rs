//! Temporary credentials: a user's own session, made through a key that exists for a moment; or a role's, with the person
//! behind it in SourceIdentity and session tags, so that CloudTrail tells who. What a caller can't choose: any of those.

use iam_sorry_aws::issue::{RoleRequest, Session, assume_role};
use iam_sorry_aws::{AwsError, primitives};
use iam_sorry_core::api::{self, CredentialsRequest, GrantInfo, IssuedCredentials, Page, ProblemCode};
use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::identity::Identity;
use iam_sorry_core::names::SessionDuration;
use iam_sorry_core::timestamp::human_duration;
use iam_sorry_rules::{Action, Resource, SHORTEST_SECONDS};
use iam_sorry_store::{Grant, NewGrant, PageRequest};

use crate::accounts::handle::{AwsHandle, is_final, refused};
use crate::accounts::tags::{short_digest, tag_value};
use crate::actions::keys::{noted, take_back};
use crate::actions::output::Output;
use crate::authz::authorize::{Authorized, AuthzRequest};
use crate::caller::Caller;
use crate::clock::rfc3339;
use crate::error::ServiceError;
use crate::operations::idempotency::IdempotencyKey;
use crate::operations::operation::{ASK_AGAIN, Changes, OpenOperation, Start, already_done, dry_run};
use crate::operations::plan::Plan;
use crate::service::Service;

/// The most that STS gives where the service's own credentials are a role's (STS API reference, AssumeRole, "role
/// chaining"), and the least that every role allows.
const CHAINED_SECONDS: u32 = 3600;

impl Service {
    /// `POST /credentials`.
    ///
    /// # Errors
    /// [`ServiceError`]: not allowed; bad-request; already-done; or AWS.
    pub async fn issue_credentials(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        request: CredentialsRequest,
    ) -> Result<Output<IssuedCredentials>, ServiceError> {
        let (service, caller, key) = (self.clone(), caller.clone(), key.cloned());
        self.detached(async move { service.issue(&caller, key.as_ref(), request).await }).await
    }

    async fn issue(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        request: CredentialsRequest,
    ) -> Result<Output<IssuedCredentials>, ServiceError> {
        let bad = |text: &str| ServiceError::new(ProblemCode::BadRequest, text);
        if request.duration_seconds.is_some_and(|seconds| seconds < SHORTEST_SECONDS) {
            return Err(bad("AWS gives no credentials for less than 900 seconds."));
        }
        let authz_request = match (&request.user, &request.role) {
            (Some(user), None) => AuthzRequest::user(Action::IssueCredentials, user)?,
            (None, Some(role)) => AuthzRequest::about(Action::AssumeRole, Resource::Role(role.clone())),
            _ => return Err(bad("Name exactly one of user and role.")),
        };
        let authz_request = AuthzRequest { seconds: request.duration_seconds, ..authz_request };
        let allowed = self.authorize(caller, &authz_request).await?;
        let seconds = allowed.seconds.unwrap_or(SHORTEST_SECONDS);
        let mut notes = Vec::new();
        if let Some(asked) = request.duration_seconds.filter(|asked| *asked > seconds) {
            notes.push(format!(
                "cut to {}: the rules allow no more, and {} was asked for",
                human_duration(seconds.into()),
                human_duration(asked.into())
            ));
        }
        if request.dry_run {
            notes.push(format!("would be issued for {}", human_duration(seconds.into())));
            return Ok(Output::DryRun(dry_run(&authz_request, &allowed, notes)));
        }
        let handle = self.handle().await?;
        let plan = match &authz_request.resource {
            Resource::Role(role) => Plan::RoleSession { role: role.clone() },
            _ => Plan::UserSession { user: allowed.managed()?.name.clone(), since: self.aws_now(&handle) },
        };
        let run =
            match self.begin(caller, key, &authz_request, &allowed, &request.duration_seconds, plan).await? {
                Start::Replay(done) => return Err(already_done(&done, "the credentials", ASK_AGAIN)),
                Start::Fresh(run) => run,
            };
        match &authz_request.resource {
            Resource::Role(role) => self.of_role(&run, &handle, caller, &allowed, role, notes).await,
            _ => self.of_user(&run, &handle, &allowed, seconds, notes).await,
        }
        .map(Output::New)
    }

    /// Five requests: GetUser (the user must still be the service's, by path and tag, before anything is done to it),
    /// CreateAccessKey, GetSessionToken, DeleteAccessKey, GetCallerIdentity. No ListAccessKeys: all keys that are known are in
    /// the store.
    async fn of_user(
        &self,
        run: &OpenOperation,
        handle: &AwsHandle,
        allowed: &Authorized,
        seconds: u32,
        notes: Vec<String>,
    ) -> Result<IssuedCredentials, ServiceError> {
        let (row, name) = allowed.user()?;
        let duration = SessionDuration::from_seconds(seconds)
            .map_err(|e| ServiceError::new(ProblemCode::BadRequest, e.0))?;
        self.ours_or_end(run, handle, row, &name).await?;
        let made = self.make_key(run, handle, row).await?;
        let patience = self.actions().patience();
        let session = primitives::session_of_new_key(&handle.aws, &made, duration, &patience);
        let (noted, session) = tokio::join!(noted(run, &made), session);
        let session = match noted.and_then(|()| session.map_err(|e| refused(&e))) {
            Ok(session) => session,
            Err(refusal) => return Err(take_back(run, handle, &name, &made.id, refusal, self).await),
        };
        if let Err(error) =
            primitives::delete_key_surely(&handle.aws, &handle.credentials, &name, &made.id, &patience).await
        {
            tracing::warn!(%error, operation = run.id, "deleting the key of a moment");
            return Err(run.left_open("The access key that was made for a moment could not be deleted yet"));
        }
        // AWS documents that a session outlives the key that made it; what it says is believed, not the documents.
        let arn = match primitives::identity(&handle.aws, &session).await {
            Ok(arn) if arn == row.arn => arn,
            Ok(arn) => {
                let text = format!(
                    "AWS says that the credentials are {arn}'s, not {}'s. They were thrown away.",
                    row.arn
                );
                let refusal = ServiceError::new(ProblemCode::AwsRefused, text);
                return Err(run.failed(refusal, Changes::default()).await);
            }
            Err(error) => return Err(run.failed(refused(&error), Changes::default()).await),
        };
        self.given(run, "session", &row.name, arn, session, seconds, notes).await
    }

    async fn of_role(
        &self,
        run: &OpenOperation,
        handle: &AwsHandle,
        caller: &Caller,
        allowed: &Authorized,
        role: &str,
        mut notes: Vec<String>,
    ) -> Result<IssuedCredentials, ServiceError> {
        if let Err(refusal) = run.may_act() {
            return Err(run.failed(refusal, Changes::default()).await);
        }
        let mut seconds = allowed.seconds.unwrap_or(SHORTEST_SECONDS);
        let guardrails = &allowed.rules.settings().guardrails;
        let person = session_name(&caller.identity);
        let mut request = RoleRequest {
            role_arn: role.to_owned(),
            session_name: person.clone(),
            external_id: guardrails.role(role).and_then(|r| r.external_id.clone()),
            seconds: Some(seconds),
            mfa: None,
            source_identity: Some(person),
            tags: vec![
                ("iam-sorry-person".into(), tag_value(&caller.identity.id())),
                ("iam-sorry-name".into(), tag_value(&caller.identity.name)),
                ("iam-sorry-operation".into(), run.id.clone()),
            ],
        };
        let mut answer = assume_role(&handle.aws, &handle.credentials, &request).await;
        if seconds > CHAINED_SECONDS && answer.as_ref().is_err_and(is_about_duration) {
            seconds = CHAINED_SECONDS;
            request.seconds = Some(seconds);
            notes.push("cut to 1 h: the role's own maximum session duration in AWS is shorter than what was asked for".into());
            answer = assume_role(&handle.aws, &handle.credentials, &request).await;
        }
        match answer {
            Ok(Session { credentials, caller }) => {
                let arn = caller_arn(&caller);
                self.given(run, "role", role, arn, credentials, seconds, notes).await
            }
            // A session whose answer was lost is nobody's: AWS told its secret to us alone.
            Err(error) => {
                let refusal = role_refused(&error, role);
                Err(run.failed(refusal, Changes::default()).await)
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is a column of the grant or a field of the answer")]
    async fn given(
        &self,
        run: &OpenOperation,
        kind: &str,
        resource: &str,
        arn: String,
        session: Credentials,
        seconds: u32,
        notes: Vec<String>,
    ) -> Result<IssuedCredentials, ServiceError> {
        let (Some(token), Some(ends)) = (session.session_token, session.expiration) else {
            let refusal = ServiceError::new(ProblemCode::AwsRefused, "AWS gave credentials without an end.");
            return Err(run.failed(refusal, Changes::default()).await);
        };
        let changes = Changes {
            grants: vec![NewGrant {
                kind: kind.to_owned(),
                resource: resource.to_owned(),
                access_key_id: session.access_key_id.clone(),
                issued_ms: self.clock().now_ms(),
                expires_ms: Some(ends.unix() * 1000),
            }],
            details: vec![
                ("access-key-id", session.access_key_id.clone()),
                ("duration-seconds", seconds.to_string()),
                ("expires", ends.to_string()),
            ],
            ..Changes::default()
        };
        let done = run.done(notes, changes).await?;
        Ok(IssuedCredentials {
            done,
            arn,
            access_key_id: session.access_key_id,
            secret_access_key: session.secret_access_key,
            session_token: token,
            expiration: ends.to_string(),
            duration_seconds: seconds,
        })
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
        let authz_request = AuthzRequest::about(Action::ReadAudit, Resource::Audit);
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
            items: found.items.into_iter().map(|grant| grant_info(grant, now)).collect(),
            next: found.next,
        })
    }
}

fn grant_info(grant: Grant, now_ms: i64) -> GrantInfo {
    let state = match grant.new.expires_ms {
        _ if grant.deleted => "deleted",
        Some(ends) if ends <= now_ms => "expired",
        _ => "active",
    };
    GrantInfo {
        operation: grant.operation,
        person: grant.person,
        kind: grant.new.kind,
        resource: grant.new.resource,
        access_key_id: grant.new.access_key_id,
        issued_at: rfc3339(grant.new.issued_ms),
        expires_at: grant.new.expires_ms.map(rfc3339),
        state: state.to_owned(),
    }
}

/// The person as a role session's name and source identity: 2 to 64 of letters, digits and `_+=,.@-` (STS API reference,
/// AssumeRole). The same person always gets the same, and two people never, as far as their names go.
fn session_name(identity: &Identity) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    let name = &identity.name;
    // A source identity may not begin with "aws:"; the colon is not among the characters anyway.
    if (2..=64).contains(&name.len()) && name.chars().all(fits) {
        return name.clone();
    }
    let plain: String = name.chars().map(|c| if fits(c) { c } else { '-' }).take(48).collect();
    format!("{plain}-{}", short_digest(&identity.id()))
}

/// STS has no code of its own for a duration beyond the role's maximum (`ValidationError`).
fn is_about_duration(error: &AwsError) -> bool {
    matches!(error, AwsError::Refused { code, message, .. }
        if code == "ValidationError" && (message.contains("DurationSeconds") || message.contains("1 hour session limit")))
}

fn role_refused(error: &AwsError, role: &str) -> ServiceError {
    if matches!(error, AwsError::Refused { code, .. } if code.starts_with("AccessDenied")) {
        tracing::warn!(%error, role, "AssumeRole");
        return ServiceError::new(
            ProblemCode::AwsRefused,
            format!(
                "AWS does not let the service assume {role}.\nTell its operator: the role's trust policy must allow the service \
                 sts:AssumeRole, sts:SetSourceIdentity and sts:TagSession."
            ),
        );
    }
    if is_final(error) {
        return refused(error);
    }
    ServiceError { code: ProblemCode::AwsUnavailable, retry_after: Some(5), ..refused(error) }
}

fn caller_arn(caller: &iam_sorry_core::names::CallerArn) -> String {
    use iam_sorry_core::names::Principal;
    match &caller.principal {
        Principal::AssumedRole(role, session) => {
            format!("arn:{}:sts::{}:assumed-role/{role}/{session}", caller.partition, caller.account)
        }
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use iam_sorry_core::group::Groups;
    use iam_sorry_core::identity::Method;

    use super::*;

    fn person(name: &str) -> Identity {
        Identity {
            issuer: "corp".into(),
            subject: format!("uuid-of-{name}"),
            name: name.into(),
            groups: Groups::default(),
            method: Method::Ldap,
        }
    }

    #[test]
    fn session_names_are_stss_stable_and_apart() {
        assert_eq!(session_name(&person("alice")), "alice");
        assert_eq!(session_name(&person("alice@example.org")), "alice@example.org");
        assert_ne!(session_name(&person("jörg")), session_name(&person("jürg")));
        assert_eq!(session_name(&person("jörg")), session_name(&person("jörg")));
    }

    proptest::proptest! {
        #[test]
        fn any_name_gives_one_that_sts_takes(name in "\\PC{0,200}") {
            let made = session_name(&person(&name));
            let fits = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
            proptest::prop_assert!((2..=64).contains(&made.len()) && made.chars().all(fits), "{}", made);
        }
    }
}

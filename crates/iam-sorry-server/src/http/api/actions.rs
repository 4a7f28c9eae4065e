//! IAM users, their policies and keys.

use axum::Json as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use iam_sorry_core::api::{
    self, DeleteKey, Done, KeyInfo, NewKey, Options, Page, PageQuery, PolicyChange, UserDetails, UserInfo,
};

use super::super::extract::{Json, NoBody, PathAccount, PathUser, PathUserKey, Query, SignedIn};
use super::super::problem::ApiError;
use super::action_body::ActionBody;
use super::secret::secret_json;
use crate::actions::adopt_user::AdoptUser;
use crate::actions::attach_policy::AttachPolicy;
use crate::actions::confirm_key::ConfirmKey;
use crate::actions::create_access_key::CreateAccessKey;
use crate::actions::create_user::CreateUser;
use crate::actions::delete_access_key::DeleteAccessKey;
use crate::actions::delete_user::DeleteUser;
use crate::actions::detach_policy::DetachPolicy;
use crate::actions::registry::{AnyOutput, StoredAction};
use crate::actions::restore_key::RestoreKey;
use crate::actions::rotate_key::RotateKey;
use crate::caller::Caller;
use crate::error::ServiceError;
use crate::http::api::schemas::{ActionAnswer, IdempotencyHeader, KeyPath, NewKeyAnswer, UserPath};
use crate::http::app::App;
use crate::operations::action::{Action, Mode, RunOutput};
use crate::operations::idempotency::IdempotencyKey;

/// The users of my namespaces; with `all`, every one that the rules let me see.
#[utoipa::path(get, path = "/api/v1/users", operation_id = "listUsers", tag = "users", params(PageQuery),
    responses((status = 200, description = "Users that the service made or adopted", body = Page<UserInfo>)),
    security(("session" = [])))]
pub async fn users(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    PathAccount(account): PathAccount,
    Query(query): Query<PageQuery>,
) -> Result<Answer<Page<UserInfo>>, ApiError> {
    Ok(Answer(app.service.list_users(&caller, account.as_ref(), query).await?))
}

/// Creates an IAM user in the namespace that its name says, with the configured permissions boundary.
#[utoipa::path(post, path = "/api/v1/users", operation_id = "createUser", tag = "users",
    params(IdempotencyHeader), request_body = api::CreateUser,
    responses((status = 200, description = "Done, or what would be", body = Done)), security(("session" = [])))]
pub async fn create_user(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    key: Option<IdempotencyKey>,
    PathAccount(account): PathAccount,
    Json(request): Json<api::CreateUser>,
) -> Result<Answer<Done>, ApiError> {
    let user = app.service.user_in(account, &request.name)?;
    done(&app, &caller, key, Ok(CreateUser::new(user, request.policies)), request.dry_run).await
}

/// A user, as IAM says it is now.
#[utoipa::path(get, path = "/api/v1/users/{name}", operation_id = "showUser", tag = "users", params(UserPath),
    responses((status = 200, description = "The user, its policies and keys", body = UserDetails)),
    security(("session" = [])))]
pub async fn user(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    PathUser(user): PathUser,
) -> Result<Answer<UserDetails>, ApiError> {
    Ok(Answer(app.service.show_user(&caller, &user).await?))
}

/// Deletes a user with everything that is attached to it.
#[utoipa::path(delete, path = "/api/v1/users/{name}", operation_id = "deleteUser", tag = "users",
    params(UserPath, Options, IdempotencyHeader),
    responses((status = 200, description = "Done, or what would be", body = Done)), security(("session" = [])))]
pub async fn delete_user(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    key: Option<IdempotencyKey>,
    PathUser(user): PathUser,
    Query(options): Query<Options>,
    NoBody: NoBody,
) -> Result<Answer<Done>, ApiError> {
    done(&app, &caller, key, Ok(DeleteUser::new(user)), options.dry_run).await
}

/// Takes an IAM user that was there before into the service's care.
#[utoipa::path(post, path = "/api/v1/users/{name}/adopt", operation_id = "adoptUser", tag = "users",
    params(UserPath, Options, IdempotencyHeader),
    responses((status = 200, description = "Done, or what would be", body = Done)), security(("session" = [])))]
pub async fn adopt_user(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    key: Option<IdempotencyKey>,
    PathUser(user): PathUser,
    Query(options): Query<Options>,
    NoBody: NoBody,
) -> Result<Answer<Done>, ApiError> {
    done(&app, &caller, key, Ok(AdoptUser::new(user)), options.dry_run).await
}

/// Attaches a managed policy of the allow-list.
#[utoipa::path(post, path = "/api/v1/users/{name}/policies", operation_id = "attachPolicy", tag = "policies",
    params(UserPath, IdempotencyHeader), request_body = PolicyChange,
    responses((status = 200, description = "Done, or what would be", body = Done)), security(("session" = [])))]
pub async fn attach_policy(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    key: Option<IdempotencyKey>,
    PathUser(user): PathUser,
    Json(change): Json<PolicyChange>,
) -> Result<Answer<Done>, ApiError> {
    done(&app, &caller, key, Ok(AttachPolicy::new(user, change.policy_arn)), change.dry_run).await
}

/// Detaches a managed policy.
#[utoipa::path(delete, path = "/api/v1/users/{name}/policies", operation_id = "detachPolicy", tag = "policies",
    params(UserPath, PolicyChange, IdempotencyHeader),
    responses((status = 200, description = "Done, or what would be", body = Done)), security(("session" = [])))]
pub async fn detach_policy(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    key: Option<IdempotencyKey>,
    PathUser(user): PathUser,
    Query(change): Query<PolicyChange>,
    NoBody: NoBody,
) -> Result<Answer<Done>, ApiError> {
    done(&app, &caller, key, Ok(DetachPolicy::new(user, change.policy_arn)), change.dry_run).await
}

/// The policies that may be attached at all.
#[utoipa::path(get, path = "/api/v1/policies", operation_id = "listPolicies", tag = "policies",
    responses((status = 200, description = "ARNs, all on one page", body = Page<String>)), security(("session" = [])))]
pub async fn policies(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
) -> Result<Answer<Page<String>>, ApiError> {
    Ok(Answer(Page { items: app.service.list_policies(&caller).await?, next: None }))
}

/// The roles that I may assume.
#[utoipa::path(get, path = "/api/v1/roles", operation_id = "listRoles", tag = "credentials",
    responses((status = 200, description = "ARNs, all on one page", body = Page<String>)), security(("session" = [])))]
pub async fn roles(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
) -> Result<Answer<Page<String>>, ApiError> {
    Ok(Answer(Page { items: app.service.list_roles(&caller).await?, next: None }))
}

/// A user's access keys, without their secrets.
#[utoipa::path(get, path = "/api/v1/users/{name}/keys", operation_id = "listKeys", tag = "keys", params(UserPath),
    responses((status = 200, description = "All of them, on one page", body = Page<KeyInfo>)),
    security(("session" = [])))]
pub async fn keys(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    PathUser(user): PathUser,
) -> Result<Answer<Page<KeyInfo>>, ApiError> {
    Ok(Answer(Page { items: app.service.list_keys(&caller, &user).await?, next: None }))
}

/// Makes a permanent access key. Its secret is shown this once; a dry run answers what would be done.
#[utoipa::path(post, path = "/api/v1/users/{name}/keys", operation_id = "createKey", tag = "keys",
    params(UserPath, Options, IdempotencyHeader),
    responses((status = 200, description = "The new key, or what would be done", body = NewKeyAnswer)),
    security(("session" = [])))]
pub async fn create_key(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    key: Option<IdempotencyKey>,
    PathUser(user): PathUser,
    Query(options): Query<Options>,
    NoBody: NoBody,
) -> Result<Response, ApiError> {
    new_key(&app, &caller, key, Ok(CreateAccessKey::new(user)), options.dry_run).await
}

/// Puts a new key in the place of an old one, which becomes inactive unless somebody still uses it. The old key is deleted
/// once the new one is confirmed, or at the time that the answer names.
#[utoipa::path(post, path = "/api/v1/users/{name}/keys/{id}/rotate", operation_id = "rotateKey", tag = "keys",
    params(KeyPath, Options, IdempotencyHeader),
    responses((status = 200, description = "The new key, or what would be done", body = NewKeyAnswer)),
    security(("session" = [])))]
pub async fn rotate_key(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    key: Option<IdempotencyKey>,
    PathUserKey(user, id): PathUserKey,
    Query(options): Query<Options>,
    NoBody: NoBody,
) -> Result<Response, ApiError> {
    new_key(&app, &caller, key, RotateKey::new(user, &id), options.dry_run).await
}

/// Confirms that the secret of a rotation's new key has arrived, so that the old key is deleted, unless somebody uses it.
/// `id` is the new key. Needs the right to rotate the user's keys.
#[utoipa::path(post, path = "/api/v1/users/{name}/keys/{id}/confirm", operation_id = "confirmKey", tag = "keys",
    params(KeyPath, Options, IdempotencyHeader),
    responses((status = 200, description = "Done, or what would be", body = Done)), security(("session" = [])))]
pub async fn confirm_key(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    key: Option<IdempotencyKey>,
    PathUserKey(user, id): PathUserKey,
    Query(options): Query<Options>,
    NoBody: NoBody,
) -> Result<Answer<Done>, ApiError> {
    done(&app, &caller, key, ConfirmKey::new(user, &id), options.dry_run).await
}

/// Takes a rotation back that nobody has confirmed: the old key is active again, the new one is deleted, unless somebody
/// uses it. `id` is the old key. Needs the right to rotate the user's keys.
#[utoipa::path(post, path = "/api/v1/users/{name}/keys/{id}/restore", operation_id = "restoreKey", tag = "keys",
    params(KeyPath, Options, IdempotencyHeader),
    responses((status = 200, description = "Done, or what would be", body = Done)), security(("session" = [])))]
pub async fn restore_key(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    key: Option<IdempotencyKey>,
    PathUserKey(user, id): PathUserKey,
    Query(options): Query<Options>,
    NoBody: NoBody,
) -> Result<Answer<Done>, ApiError> {
    done(&app, &caller, key, RestoreKey::new(user, &id), options.dry_run).await
}

/// Deletes an access key that nobody uses any more, or, with `force`, any.
#[utoipa::path(delete, path = "/api/v1/users/{name}/keys/{id}", operation_id = "deleteKey", tag = "keys",
    params(KeyPath, DeleteKey, IdempotencyHeader),
    responses((status = 200, description = "Done, or what would be", body = Done)), security(("session" = [])))]
pub async fn delete_key(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    key: Option<IdempotencyKey>,
    PathUserKey(user, id): PathUserKey,
    Query(options): Query<DeleteKey>,
    NoBody: NoBody,
) -> Result<Answer<Done>, ApiError> {
    let action = DeleteAccessKey::new(user, &id, options.force);
    done(&app, &caller, key, action, options.dry_run).await
}

/// Runs any action, given as a value. What has an address of its own does the same there.
#[utoipa::path(post, path = "/api/v1/actions", operation_id = "runAction", tag = "actions",
    params(Options, IdempotencyHeader), request_body = StoredAction,
    responses((status = 200, description = "What was done, with what is shown once, or what would be done",
        body = ActionAnswer)), security(("session" = [])))]
pub async fn run(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    key: Option<IdempotencyKey>,
    Query(options): Query<Options>,
    Json(body): Json<ActionBody>,
) -> Result<Response, ApiError> {
    let action = body.action(&app.service)?;
    Ok(match action.run(&app.service, &caller, key.as_ref(), Mode::of(options.dry_run)).await? {
        RunOutput::Acted(AnyOutput::Done(done)) | RunOutput::Unchanged(done) => Answer(done).into_response(),
        RunOutput::Acted(AnyOutput::Key(key)) => secret_json(key.to_json()),
        RunOutput::Acted(AnyOutput::Credentials(issued)) => secret_json(issued.to_json()),
    })
}

/// Runs an action that shows nothing secret.
async fn done<A: Action<Output = Done>>(
    app: &App,
    caller: &Caller,
    key: Option<IdempotencyKey>,
    action: Result<A, ServiceError>,
    dry_run: bool,
) -> Result<Answer<Done>, ApiError> {
    let output = app.service.run(caller, key.as_ref(), action?, Mode::of(dry_run)).await?;
    Ok(Answer(output.into_done()))
}

/// Runs an action that makes a permanent key.
async fn new_key<A: Action<Output = NewKey>>(
    app: &App,
    caller: &Caller,
    key: Option<IdempotencyKey>,
    action: Result<A, ServiceError>,
    dry_run: bool,
) -> Result<Response, ApiError> {
    Ok(match app.service.run(caller, key.as_ref(), action?, Mode::of(dry_run)).await? {
        RunOutput::Acted(key) => secret_json(key.to_json()),
        RunOutput::Unchanged(done) => Answer(done).into_response(),
    })
}

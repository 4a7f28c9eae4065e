//! People: each goes through a random program of actions, and asks again where the answer did not come.

use std::fmt;
use std::time::Duration;

use iam_sorry_core::api::{Done, IssuedCredentials, NewKey, PageQuery, ProblemCode};
use iam_sorry_core::group::Group;
use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_core::ids::{AccountName, UserRef};
use iam_sorry_core::names::UserName;
use iam_sorry_server::actions::adopt_user::AdoptUser;
use iam_sorry_server::actions::assume_role::AssumeRole;
use iam_sorry_server::actions::attach_policy::AttachPolicy;
use iam_sorry_server::actions::confirm_key::ConfirmKey;
use iam_sorry_server::actions::create_access_key::CreateAccessKey;
use iam_sorry_server::actions::create_user::CreateUser;
use iam_sorry_server::actions::delete_access_key::DeleteAccessKey;
use iam_sorry_server::actions::delete_user::DeleteUser;
use iam_sorry_server::actions::detach_policy::DetachPolicy;
use iam_sorry_server::actions::issue_credentials::IssueCredentials;
use iam_sorry_server::actions::restore_key::RestoreKey;
use iam_sorry_server::actions::rotate_key::RotateKey;
use iam_sorry_server::caller::{Caller, RequestSource};
use iam_sorry_server::error::ServiceError;
use iam_sorry_server::operations::action::{Action, Mode, RunOutput};
use iam_sorry_server::operations::idempotency::IdempotencyKey;
use iam_sorry_server::service::Service;
use iam_sorry_server::simulation::On;
use iam_sorry_store::Session;
use tokio::time::sleep;

use crate::happened;
use crate::instance::{policies_of_the_list, role};
use crate::rng::Rng;
use crate::world::{BEGIN_MS, World};

/// The IAM users that people fight over.
pub const NAMES: [&str; 3] = ["dirk-a", "dirk-b", "dirk-C"];

/// One that was there before the service.
pub const OLD_NAME: &str = "dirk-old";

/// How long a person waits for an answer at most.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a person wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    CreateUser { name: String, policies: Vec<String> },
    DeleteUser { name: String },
    AdoptUser { name: String },
    CreateKey { name: String },
    RotateKey { name: String, id: String },
    ConfirmKey { name: String, id: String },
    RestoreKey { name: String, id: String },
    DeleteKey { name: String, id: String, force: bool },
    Attach { name: String, arn: String },
    Detach { name: String, arn: String },
    SessionOf { name: String },
    SessionAs { role: String },
    Look { name: String },
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = |arn: &str| arn.rsplit('/').next().unwrap_or_default().to_owned();
        match self {
            Self::CreateUser { name, policies } => {
                write!(f, "create-user {name}")?;
                policies.iter().try_for_each(|arn| write!(f, " {}", last(arn)))
            }
            Self::DeleteUser { name } => write!(f, "delete-user {name}"),
            Self::AdoptUser { name } => write!(f, "adopt-user {name}"),
            Self::CreateKey { name } => write!(f, "create-access-key {name}"),
            Self::RotateKey { name, id } => write!(f, "rotate-key {name} {id}"),
            Self::ConfirmKey { name, id } => write!(f, "confirm-key {name} {id}"),
            Self::RestoreKey { name, id } => write!(f, "restore-key {name} {id}"),
            Self::DeleteKey { name, id, force } => write!(f, "delete-access-key {name} {id} force={force}"),
            Self::Attach { name, arn } => write!(f, "attach-policy {name} {}", last(arn)),
            Self::Detach { name, arn } => write!(f, "detach-policy {name} {}", last(arn)),
            Self::SessionOf { name } => write!(f, "issue-credentials {name}"),
            Self::SessionAs { role } => write!(f, "assume-role {}", last(role)),
            Self::Look { name } => write!(f, "look at {name}"),
        }
    }
}

/// What a person heard.
#[derive(Clone, Debug)]
pub enum Heard {
    /// It was done; with the secret of a key, the key.
    Done {
        operation: String,
        changed: bool,
        key: Option<String>,
    },
    /// A dry run, or something that was only read.
    Seen,
    Error(ServiceError),
    /// The connection broke, or the person did not wait.
    Nothing(&'static str),
}

impl Heard {
    /// Whether it says that nothing was done, and nothing will be.
    pub fn says_not_done(&self) -> bool {
        use ProblemCode::{AlreadyDone, AuditUnavailable, AwsUnavailable, Busy, Internal, StoreUnavailable};
        match self {
            Self::Error(error) => match error.code {
                AlreadyDone | Internal => false,
                AuditUnavailable | AwsUnavailable | Busy | StoreUnavailable => {
                    !["settl", "under way"].iter().any(|words| error.detail.contains(words))
                }
                _ => true,
            },
            _ => false,
        }
    }

    /// Whether the same request again may come to more.
    fn is_worth_another_try(&self) -> bool {
        match self {
            Self::Nothing(_) => true,
            Self::Error(error) => error.retry_after.is_some(),
            _ => false,
        }
    }
}

/// Somebody of the lab, which owns the namespace.
pub fn person(number: usize) -> Caller {
    let name = format!("p{number}");
    let identity = Identity {
        issuer: "corp".into(),
        subject: format!("uuid-{name}"),
        name,
        groups: [Group::named("corp", "lab")].into_iter().collect(),
        method: Method::Ldap,
    };
    Caller {
        session: Session {
            id: format!("session-{number}"),
            token_hash: [number as u8; 32],
            form_hash: None,
            identity: identity.clone(),
            method: Method::Ldap,
            signed_in_ms: BEGIN_MS,
            last_used_ms: BEGIN_MS,
            expires_ms: BEGIN_MS + 3_600_000,
            address: "192.0.2.7".into(),
            key: None,
            via: None,
        },
        identity,
        source: RequestSource {
            address: "192.0.2.7".parse().expect("an address"),
            request_id: "request-1".into(),
        },
    }
}

/// One person with a program.
pub struct Visitor {
    pub number: usize,
    pub world: World,
    pub rng: Rng,
    /// How many wishes.
    pub wishes: u64,
    /// The longest pause between two, milliseconds.
    pub leisure: u64,
}

impl Visitor {
    /// From the first wish to the last.
    pub async fn go(mut self) {
        for n in 0..self.wishes {
            let pause = self.rng.below(self.leisure + 1);
            sleep(Duration::from_millis(pause)).await;
            let wish = self.wish();
            let dry = self.rng.chance(60);
            let key = self.rng.chance(850).then(|| format!("key-p{}-{n:04}", self.number));
            self.ask_until_answered(wish, key, dry).await;
        }
    }

    async fn ask_until_answered(&mut self, wish: Wish, key: Option<String>, dry: bool) {
        let request = self.world.wished(self.number, &wish, key.as_deref(), dry);
        let mut tries = self.rng.range(1..6);
        loop {
            let heard = self.ask(request, &wish, key.as_deref(), dry).await;
            tries -= 1;
            if tries == 0 || key.is_none() || !heard.is_worth_another_try() {
                return;
            }
            let pause = *self.rng.pick(&[0, 1_000, 6_000, 30_000]);
            sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn ask(&mut self, request: usize, wish: &Wish, key: Option<&str>, dry: bool) -> Heard {
        let Some((machine, service)) = self.world.any_service() else {
            sleep(Duration::from_millis(500)).await;
            return Heard::Nothing("nobody answers");
        };
        let world = self.world.clone();
        {
            let mut state = world.state();
            let what = if dry { " (dry run)" } else { "" };
            happened!(
                world,
                state,
                format_args!("p{}", self.number),
                "asks {machine} for {wish}{what}, {}",
                key.unwrap_or("no key")
            );
            state.count("requests");
        }
        let hangs_up = self.rng.chance(world.state().weather.hang_up);
        let patience = if hangs_up { Duration::from_millis(self.rng.below(6_000)) } else { PATIENCE };
        let caller = person(self.number);
        let key = key.map(|key| IdempotencyKey::parse(key).expect("a key"));
        let (asked, wanted) = (service.clone(), wish.clone());
        let work =
            On::new(
                machine.host(),
                async move { carry_out(&asked, &caller, key.as_ref(), wanted, dry).await },
            );
        let heard = tokio::select! {
            biased;
            heard = work => heard,
            () = machine.has_ended() => Heard::Nothing("the connection broke"),
            () = sleep(patience) => Heard::Nothing(if hangs_up { "hung up" } else { "waited too long" }),
        };
        drop(service);
        world.heard(self.number, request, &machine, &heard);
        heard
    }

    fn wish(&mut self) -> Wish {
        let [read, write] = policies_of_the_list();
        let rng = &mut self.rng;
        let name = match rng.below(20) {
            0 => OLD_NAME.to_owned(),
            1 => NAMES[2].to_ascii_lowercase(),
            _ => (*rng.pick(&NAMES)).to_owned(),
        };
        let arn = rng.pick(&[read.clone(), write.clone()]).clone();
        let exists = self.world.state().aws.user(&name).is_some();
        if !exists && rng.chance(800) {
            let policies = match rng.below(4) {
                0 => vec![read],
                1 => vec![write, read],
                _ => Vec::new(),
            };
            return Wish::CreateUser { name, policies };
        }
        let keys: Vec<String> = {
            let state = self.world.state();
            state
                .aws
                .user(&name)
                .map(|user| user.keys.iter().map(|key| key.id.clone()).collect())
                .unwrap_or_default()
        };
        let id = if keys.is_empty() { "AKIA0000000000000000".to_owned() } else { rng.pick(&keys).clone() };
        let with_keys = if keys.is_empty() { 1 } else { 8 };
        match rng.weighted(&[
            (10, 0),
            (with_keys, 1),
            (with_keys / 2 + 1, 2),
            (with_keys / 2 + 1, 3),
            (with_keys, 4),
            (3, 5),
            (3, 6),
            (5, 7),
            (1, 8),
            (2, 9),
            (2, 10),
            (2, 11),
            (1, 12),
        ]) {
            0 => Wish::CreateKey { name },
            1 => Wish::RotateKey { name, id },
            2 => Wish::ConfirmKey { name, id },
            3 => Wish::RestoreKey { name, id },
            4 => Wish::DeleteKey { name, id, force: self.rng.chance(700) },
            5 => Wish::Attach { name, arn },
            6 => Wish::Detach { name, arn },
            7 => Wish::SessionOf { name },
            8 => Wish::SessionAs { role: role() },
            9 => Wish::Look { name },
            10 => Wish::DeleteUser { name },
            11 => Wish::AdoptUser { name: OLD_NAME.to_owned() },
            _ => Wish::CreateUser { name, policies: Vec::new() },
        }
    }
}

async fn carry_out(
    service: &Service,
    caller: &Caller,
    key: Option<&IdempotencyKey>,
    wish: Wish,
    dry: bool,
) -> Heard {
    let done = async {
        match wish {
            Wish::CreateUser { name, policies } => {
                plain(service, caller, key, CreateUser::new(user_ref(&name)?, policies), dry).await
            }
            Wish::DeleteUser { name } => {
                plain(service, caller, key, DeleteUser::new(user_ref(&name)?), dry).await
            }
            Wish::AdoptUser { name } => {
                plain(service, caller, key, AdoptUser::new(user_ref(&name)?), dry).await
            }
            Wish::CreateKey { name } => Ok(new_key(
                service.run(caller, key, CreateAccessKey::new(user_ref(&name)?), Mode::of(dry)).await?,
            )),
            Wish::RotateKey { name, id } => Ok(new_key(
                service.run(caller, key, RotateKey::new(user_ref(&name)?, &id)?, Mode::of(dry)).await?,
            )),
            Wish::ConfirmKey { name, id } => {
                plain(service, caller, key, ConfirmKey::new(user_ref(&name)?, &id)?, dry).await
            }
            Wish::RestoreKey { name, id } => {
                plain(service, caller, key, RestoreKey::new(user_ref(&name)?, &id)?, dry).await
            }
            Wish::DeleteKey { name, id, force } => {
                plain(service, caller, key, DeleteAccessKey::new(user_ref(&name)?, &id, force)?, dry).await
            }
            Wish::Attach { name, arn } => {
                plain(service, caller, key, AttachPolicy::new(user_ref(&name)?, arn), dry).await
            }
            Wish::Detach { name, arn } => {
                plain(service, caller, key, DetachPolicy::new(user_ref(&name)?, arn), dry).await
            }
            Wish::SessionOf { name } => {
                let action = IssueCredentials::new(user_ref(&name)?, Some(3600))?;
                Ok(session(service.run(caller, key, action, Mode::of(dry)).await?))
            }
            Wish::SessionAs { role } => {
                let action = AssumeRole::new(role, Some(3600))?;
                Ok(session(service.run(caller, key, action, Mode::of(dry)).await?))
            }
            Wish::Look { name } => {
                service.show_user(caller, &user_ref(&name)?).await?;
                service.list_keys(caller, &user_ref(&name)?).await?;
                service.list_users(caller, None, PageQuery::default()).await?;
                service.list_grants(caller, PageQuery::default()).await?;
                Ok(Heard::Seen)
            }
        }
    };
    done.await.unwrap_or_else(Heard::Error)
}

/// In the account that goes without saying.
fn user_ref(name: &str) -> Result<UserRef, ServiceError> {
    let name = UserName::parse(name)
        .map_err(|error| ServiceError::new(ProblemCode::InvalidName, error.to_string()))?;
    Ok(UserRef::new(AccountName::default(), name))
}

/// An action that shows nothing secret.
async fn plain<A: Action<Output = Done>>(
    service: &Service,
    caller: &Caller,
    key: Option<&IdempotencyKey>,
    action: A,
    dry: bool,
) -> Result<Heard, ServiceError> {
    Ok(match service.run(caller, key, action, Mode::of(dry)).await? {
        RunOutput::Acted(done) => heard_of(&done, None),
        RunOutput::Unchanged(done) if !dry => heard_of(&done, None),
        RunOutput::Unchanged(_) => Heard::Seen,
    })
}

fn new_key(answer: RunOutput<NewKey>) -> Heard {
    match answer {
        RunOutput::Acted(made) => heard_of(&made.done, Some(made.access_key_id.to_string())),
        RunOutput::Unchanged(_) => Heard::Seen,
    }
}

fn session(answer: RunOutput<IssuedCredentials>) -> Heard {
    match answer {
        RunOutput::Acted(made) => heard_of(&made.done, Some(made.access_key_id.to_string())),
        RunOutput::Unchanged(_) => Heard::Seen,
    }
}

fn heard_of(done: &Done, key: Option<String>) -> Heard {
    Heard::Done { operation: done.operation.to_string(), changed: done.changed, key }
}

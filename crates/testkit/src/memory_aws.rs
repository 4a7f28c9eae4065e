//! STS and IAM in this process, as fast as memory: what the service asks for, with the rules that matter under load (two keys
//! a user, an inactive key signs nothing, a key's last use). It checks no signature and no policy; ministack does that.
//!
//! A test looks into it without asking it anything, and makes it slow, or lose answers after the work is done.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::Creds;
use crate::proxy::http::Message;

const ACCOUNT: &str = "123456789012";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// Whose key the service signs with.
const SERVICE: &str = "AKIASERVICEEXAMPLE00";
const ISO: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// An access key that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryKey {
    /// Access key ID.
    pub id: String,
    /// Whether it may sign.
    pub active: bool,
    created: OffsetDateTime,
    used: Option<OffsetDateTime>,
}

/// A user that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryUser {
    /// Its keys, oldest first; at most two.
    pub keys: Vec<MemoryKey>,
    /// ARNs of its policies.
    pub attached: Vec<String>,
    id: String,
    path: String,
    boundary: Option<String>,
    tags: BTreeMap<String, String>,
}

/// What goes wrong, how often of a thousand requests, repeatably.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chaos {
    /// Seed of the sequence.
    pub seed: u64,
    /// The work is done and the connection closed without an answer.
    pub lost: u32,
    /// The answer takes up to `slow_for`.
    pub slow: u32,
    /// See `slow`.
    pub slow_for: Duration,
}

/// The running thing. Ends on drop.
#[derive(Debug)]
pub struct MemoryAws {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    stopped: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    users: BTreeMap<String, MemoryUser>,
    /// Temporary credentials: whose ARN they speak for.
    sessions: HashMap<String, String>,
    serial: u64,
    chaos: Chaos,
    random: u64,
    counts: BTreeMap<String, u64>,
    lost: u64,
}

impl MemoryAws {
    /// An empty account.
    pub fn start() -> MemoryAws {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let shared = Arc::new(Shared {
            address: listener.local_addr().expect("its address"),
            stopped: AtomicBool::new(false),
            state: Mutex::default(),
        });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        MemoryAws { shared, accepting: Some(accepting) }
    }

    /// `http://127.0.0.1:PORT`, for both services.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.shared.address)
    }

    /// What the service signs with.
    pub fn service(&self) -> Creds {
        Creds::new(SERVICE, SECRET)
    }

    /// An ARN in this account, such as of `policy/read` or `role/analysis`.
    pub fn arn(&self, resource: &str) -> String {
        format!("arn:aws:iam::{ACCOUNT}:{resource}")
    }

    /// All users by name, as they are now.
    pub fn users(&self) -> BTreeMap<String, MemoryUser> {
        self.shared.state().users.clone()
    }

    /// Whether the key exists, and may sign.
    pub fn is_active(&self, key: &str) -> Option<bool> {
        let state = self.shared.state();
        state.users.values().flat_map(|user| &user.keys).find(|found| found.id == key).map(|key| key.active)
    }

    /// A key that somebody makes by hand.
    pub fn hand_made_key(&self, user: &str) -> String {
        let mut state = self.shared.state();
        state.make_key(user).unwrap_or_else(|(_, code, _)| panic!("a key for {user}: {code}"))
    }

    /// A user that somebody makes by hand.
    pub fn hand_made_user(&self, name: &str) {
        let mut state = self.shared.state();
        state.serial += 1;
        let made = state.make_user(name, &Fields::new());
        assert!(made.is_ok(), "{made:?}");
    }

    /// Takes a hand-made user away again, unless somebody took it into their care.
    pub fn remove_user_unless_tagged(&self, name: &str) {
        let mut state = self.shared.state();
        if state.users.get(name).is_some_and(|user| user.tags.is_empty()) {
            state.users.remove(name);
        }
    }

    /// How often an action was asked for.
    pub fn count(&self, action: &str) -> u64 {
        self.shared.state().counts.get(action).copied().unwrap_or(0)
    }

    /// How many answers were lost.
    pub fn lost(&self) -> u64 {
        self.shared.state().lost
    }

    /// What goes wrong from here on.
    pub fn set_chaos(&self, chaos: Chaos) {
        let mut state = self.shared.state();
        // xorshift stays at zero for ever.
        (state.random, state.chaos) = (chaos.seed | 1, chaos);
    }
}

impl Drop for MemoryAws {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.shared.address); // wakes the accepting thread
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        // An error is a client that went away.
        std::thread::spawn(move || drop(serve(&stream, &shared)));
    }
}

/// One connection, kept for as many requests as come.
fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let request = Message::read(stream, false)?;
        let fields = request.parameters();
        let authorization = request.header("authorization").unwrap_or_default();
        let credential = authorization.split_once("Credential=").map_or("", |(_, rest)| rest);
        let signer = credential.split('/').next().unwrap_or_default().to_owned();
        let action = fields.get("Action").cloned().unwrap_or_default();
        let (answer, lose, wait) = {
            let mut state = shared.state();
            state.serial += 1;
            *state.counts.entry(action.clone()).or_default() += 1;
            let answer = state.act(&action, &fields, &signer);
            let (lost, slow) = (state.chaos.lost, state.chaos.slow);
            let lose = state.happens(lost);
            state.lost += u64::from(lose);
            let wait = if state.happens(slow) { state.chaos.slow_for } else { Duration::ZERO };
            (answer, lose, wait)
        };
        std::thread::sleep(wait);
        if lose {
            return stream.shutdown(Shutdown::Both);
        }
        write(stream, &action, answer)?;
    }
}

fn write(mut stream: &TcpStream, action: &str, answer: Answer) -> io::Result<()> {
    const META: &str = "<RequestId>00000000-0000-4000-8000-000000000000</RequestId>";
    let (status, body) = match answer {
        Ok(result) => (
            200,
            format!(
                "<{action}Response><{action}Result>{result}</{action}Result><ResponseMetadata>{META}</ResponseMetadata>\
                 </{action}Response>"
            ),
        ),
        Err((status, code, message)) => (
            status,
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>{META}\
                 </ErrorResponse>"
            ),
        ),
    };
    let date = OffsetDateTime::now_utc().format(HTTP_DATE).unwrap_or_default();
    let text = format!(
        "HTTP/1.1 {status} OK\r\ncontent-type: text/xml\r\ndate: {date}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes())
}

type Failure = (u16, &'static str, String);
type Answer = Result<String, Failure>;
type Fields = BTreeMap<String, String>;

impl State {
    fn happens(&mut self, per_mille: u32) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 1000 < u64::from(per_mille)
    }

    fn act(&mut self, action: &str, fields: &Fields, signer: &str) -> Answer {
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        let named = field("UserName");
        match action {
            "GetCallerIdentity" => {
                let arn = self.identity(signer)?;
                Ok(format!("<Arn>{arn}</Arn><UserId>AIDAEXAMPLE</UserId><Account>{ACCOUNT}</Account>"))
            }
            "GetSessionToken" => {
                let arn = self.identity(signer)?;
                Ok(self.session(arn, field("DurationSeconds")))
            }
            "AssumeRole" => {
                let role = field("RoleArn").rsplit('/').next().unwrap_or_default().to_owned();
                let (session, person) = (field("RoleSessionName"), field("SourceIdentity"));
                let arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session}");
                let credentials = self.session(arn.clone(), field("DurationSeconds"));
                Ok(format!(
                    "<AssumedRoleUser><AssumedRoleId>AROAEXAMPLE:{session}</AssumedRoleId><Arn>{arn}</Arn>\
                     </AssumedRoleUser>{credentials}<SourceIdentity>{person}</SourceIdentity>"
                ))
            }
            "CreateUser" => self.make_user(named, fields),
            "CreateAccessKey" => {
                let id = self.make_key(named)?;
                let now = OffsetDateTime::now_utc().format(ISO).unwrap_or_default();
                Ok(format!(
                    "<AccessKey><UserName>{named}</UserName><AccessKeyId>{id}</AccessKeyId><Status>Active</Status>\
                     <SecretAccessKey>{SECRET}</SecretAccessKey><CreateDate>{now}</CreateDate></AccessKey>"
                ))
            }
            "GetAccessKeyLastUsed" => self.last_used(field("AccessKeyId")),
            _ => self.of_user(action, fields, named),
        }
    }

    fn make_user(&mut self, named: &str, fields: &Fields) -> Answer {
        if self.users.contains_key(named) {
            return Err((409, "EntityAlreadyExists", format!("User {named} exists")));
        }
        let user = MemoryUser {
            keys: Vec::new(),
            attached: Vec::new(),
            id: format!("AIDA{:016}", self.serial),
            path: fields.get("Path").cloned().unwrap_or_else(|| "/".to_owned()),
            boundary: fields.get("PermissionsBoundary").cloned(),
            tags: tags(fields),
        };
        let shown = described(named, &user);
        self.users.insert(named.to_owned(), user);
        Ok(shown)
    }

    fn make_key(&mut self, named: &str) -> Answer {
        self.serial += 1;
        let id = format!("AKIA{:016}", self.serial);
        let user = self.user(named)?;
        if user.keys.len() >= 2 {
            return Err((409, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2".to_owned()));
        }
        let created = OffsetDateTime::now_utc();
        user.keys.push(MemoryKey { id: id.clone(), active: true, created, used: None });
        Ok(id)
    }

    fn last_used(&mut self, id: &str) -> Answer {
        let owner = self.users.iter().find(|(_, user)| user.keys.iter().any(|key| key.id == id));
        let Some((name, user)) = owner else { return Err(missing(id)) };
        let used = user.keys.iter().find(|key| key.id == id).and_then(|key| key.used);
        let used = match used.and_then(|at| at.format(ISO).ok()) {
            Some(at) => format!("<LastUsedDate>{at}</LastUsedDate><ServiceName>sts</ServiceName>"),
            None => "<ServiceName>N/A</ServiceName>".to_owned(),
        };
        Ok(format!(
            "<UserName>{name}</UserName><AccessKeyLastUsed>{used}<Region>N/A</Region></AccessKeyLastUsed>"
        ))
    }

    /// What is asked about a user that must be there.
    fn of_user(&mut self, action: &str, fields: &Fields, named: &str) -> Answer {
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        let user = self.user(named)?;
        match action {
            "GetUser" => return Ok(described(named, user)),
            "DeleteUser" => {
                if !(user.keys.is_empty() && user.attached.is_empty()) {
                    return Err((409, "DeleteConflict", "Cannot delete entity".to_owned()));
                }
                self.users.remove(named);
            }
            "ListAccessKeys" => {
                let mut members = String::new();
                for key in &user.keys {
                    let status = if key.active { "Active" } else { "Inactive" };
                    let created = key.created.format(ISO).unwrap_or_default();
                    let _ = write!(
                        members,
                        "<member><UserName>{named}</UserName><AccessKeyId>{}</AccessKeyId><Status>{status}</Status>\
                         <CreateDate>{created}</CreateDate></member>",
                        key.id
                    );
                }
                return Ok(list("AccessKeyMetadata", &members));
            }
            "UpdateAccessKey" => {
                let id = field("AccessKeyId");
                let key = user.keys.iter_mut().find(|key| key.id == id).ok_or_else(|| missing(id))?;
                key.active = field("Status") == "Active";
            }
            "DeleteAccessKey" => {
                let id = field("AccessKeyId");
                let at = user.keys.iter().position(|key| key.id == id).ok_or_else(|| missing(id))?;
                user.keys.remove(at);
            }
            "TagUser" => user.tags.extend(tags(fields)),
            "PutUserPermissionsBoundary" => user.boundary = fields.get("PermissionsBoundary").cloned(),
            "UpdateUser" => field("NewPath").clone_into(&mut user.path),
            "AttachUserPolicy" => {
                user.attached.retain(|arn| arn != field("PolicyArn"));
                user.attached.push(field("PolicyArn").to_owned());
            }
            "DetachUserPolicy" => {
                let arn = field("PolicyArn");
                let at = user.attached.iter().position(|has| has == arn).ok_or_else(|| missing(arn))?;
                user.attached.remove(at);
            }
            "ListAttachedUserPolicies" => {
                let member = |arn: &String| {
                    let name = arn.rsplit('/').next().unwrap_or_default();
                    format!("<member><PolicyName>{name}</PolicyName><PolicyArn>{arn}</PolicyArn></member>")
                };
                return Ok(list("AttachedPolicies", &user.attached.iter().map(member).collect::<String>()));
            }
            "ListUserPolicies" => return Ok(list("PolicyNames", "")),
            "ListGroupsForUser" => return Ok(list("Groups", "")),
            "ListMFADevices" => return Ok(list("MFADevices", "")),
            "ListSigningCertificates" => return Ok(list("Certificates", "")),
            "ListSSHPublicKeys" => return Ok(list("SSHPublicKeys", "")),
            "ListServiceSpecificCredentials" => return Ok(list("ServiceSpecificCredentials", "")),
            "DeleteLoginProfile" | "GetLoginProfile" => return Err(missing("the login profile")),
            _ => return Err((400, "InvalidAction", format!("{action} is not known here"))),
        }
        Ok(String::new())
    }

    fn user(&mut self, name: &str) -> Result<&mut MemoryUser, Failure> {
        self.users.get_mut(name).ok_or_else(|| missing(name))
    }

    /// Whose key it is; using a permanent one is noted.
    fn identity(&mut self, signer: &str) -> Answer {
        if signer == SERVICE {
            return Ok(format!("arn:aws:iam::{ACCOUNT}:user/iam-sorryd"));
        }
        if let Some(arn) = self.sessions.get(signer) {
            return Ok(arn.clone());
        }
        for (name, user) in &mut self.users {
            if let Some(key) = user.keys.iter_mut().find(|key| key.id == signer && key.active) {
                key.used = Some(OffsetDateTime::now_utc());
                return Ok(arn_of(name, &user.path));
            }
        }
        Err((
            403,
            "InvalidClientTokenId",
            "The security token included in the request is invalid.".to_owned(),
        ))
    }

    fn session(&mut self, arn: String, seconds: &str) -> String {
        let id = format!("ASIA{:016}", self.serial);
        self.sessions.insert(id.clone(), arn);
        let seconds = seconds.parse().unwrap_or(3600);
        let end = (OffsetDateTime::now_utc() + Duration::from_secs(seconds)).format(ISO).unwrap_or_default();
        format!(
            "<Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>\
             <SessionToken>token-of-{id}</SessionToken><Expiration>{end}</Expiration></Credentials>"
        )
    }
}

fn missing(what: &str) -> Failure {
    (404, "NoSuchEntity", format!("{what} cannot be found."))
}

fn list(name: &str, members: &str) -> String {
    format!("<{name}>{members}</{name}><IsTruncated>false</IsTruncated>")
}

fn arn_of(name: &str, path: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:user{path}{name}")
}

fn described(name: &str, user: &MemoryUser) -> String {
    let boundary = user.boundary.as_ref().map_or_else(String::new, |arn| {
        format!(
            "<PermissionsBoundary><PermissionsBoundaryType>Policy</PermissionsBoundaryType><PermissionsBoundaryArn>{arn}\
             </PermissionsBoundaryArn></PermissionsBoundary>"
        )
    });
    let tags: String = user
        .tags
        .iter()
        .map(|(key, value)| format!("<member><Key>{key}</Key><Value>{value}</Value></member>"))
        .collect();
    format!(
        "<User><Path>{}</Path><UserName>{name}</UserName><UserId>{}</UserId><Arn>{}</Arn>\
         <CreateDate>2020-01-01T00:00:00Z</CreateDate>{boundary}<Tags>{tags}</Tags></User>",
        user.path,
        user.id,
        arn_of(name, &user.path)
    )
}

fn tags(fields: &Fields) -> BTreeMap<String, String> {
    (1..)
        .map_while(|n| {
            let key = fields.get(&format!("Tags.member.{n}.Key"))?;
            Some((key.clone(), fields.get(&format!("Tags.member.{n}.Value")).cloned().unwrap_or_default()))
        })
        .collect()
}

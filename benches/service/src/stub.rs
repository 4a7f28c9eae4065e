//! An AWS that answers at once: the calls of STS and IAM that a service for credentials makes, with answers of the right
//! form and just enough memory to be consistent (whose key is it, which tags has a user). Signatures are not checked.
//!
//! It is the same for everybody who is measured against it, so what remains is what they cost themselves.
//! `GET /counts` tells how often each action was asked for since the last time.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::Error;

const ACCOUNT: &str = "123456789012";

/// Serves until killed. `ADDRESS:PORT`, and optionally milliseconds that every answer takes.
pub async fn serve(arguments: &[String]) -> Result<(), Error> {
    let address: SocketAddr = arguments.first().ok_or("where to listen?")?.parse()?;
    let delay = arguments.get(1).map_or(Ok(0), |text| text.parse())?;
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let state = Rc::new(RefCell::new(State::default()));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let state = Rc::clone(&state);
        tokio::task::spawn_local(async move {
            let answer = service_fn(|request| answer(Rc::clone(&state), request, delay));
            // A client that goes away is no matter here.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(
    state: Rc<RefCell<State>>,
    request: Request<Incoming>,
    delay: u64,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/counts" {
        let counts = std::mem::take(&mut state.borrow_mut().counts);
        return Ok(Response::new(Full::new(Bytes::from(serde_json::json!(counts).to_string()))));
    }
    let signer = signer(&request).unwrap_or_default();
    let Ok(body) = request.into_body().collect().await else {
        return Ok(text(StatusCode::BAD_REQUEST, String::new()));
    };
    let fields = fields(&body.to_bytes());
    if delay > 0 {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let mut state = state.borrow_mut();
    let action = fields.get("Action").map_or("", String::as_str);
    *state.counts.entry(action.to_owned()).or_default() += 1;
    Ok(match state.act(action, &fields, &signer) {
        Ok(result) => text(
            StatusCode::OK,
            format!(
                "<{action}Response><{action}Result>{result}</{action}Result><ResponseMetadata><RequestId>\
                 00000000-0000-4000-8000-{:012}</RequestId></ResponseMetadata></{action}Response>",
                state.serial
            ),
        ),
        Err((status, code, message)) => text(
            status,
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
                 <RequestId>00000000-0000-4000-8000-{:012}</RequestId></ErrorResponse>",
                state.serial
            ),
        ),
    })
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("text/xml"));
    response
}

/// The access key in `Authorization: AWS4-HMAC-SHA256 Credential=KEY/...`.
fn signer(request: &Request<Incoming>) -> Option<String> {
    let header = request.headers().get("authorization")?.to_str().ok()?;
    Some(header.split_once("Credential=")?.1.split('/').next()?.to_owned())
}

fn fields(body: &[u8]) -> HashMap<String, String> {
    let body = String::from_utf8_lossy(body);
    body.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decoded(k), decoded(v))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                let digits = std::str::from_utf8(&digits).unwrap_or("00");
                u8::from_str_radix(digits, 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[derive(Default)]
struct User {
    path: String,
    boundary: Option<String>,
    tags: BTreeMap<String, String>,
    /// Id and whether it is active.
    keys: BTreeMap<String, bool>,
    attached: BTreeMap<String, String>,
    inline: Vec<String>,
}

#[derive(Default)]
struct State {
    serial: u64,
    counts: BTreeMap<String, u64>,
    users: HashMap<String, User>,
    /// Whose permanent key it is.
    owners: HashMap<String, String>,
}

type Failure = (StatusCode, &'static str, String);
type Outcome = Result<String, Failure>;

/// In the past, so that nothing is ever too young.
const CREATED: &str = "2020-01-01T00:00:00Z";

impl State {
    fn act(&mut self, action: &str, fields: &HashMap<String, String>, signer: &str) -> Outcome {
        self.serial += 1;
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        let named = field("UserName");
        match action {
            "GetCallerIdentity" => Ok(format!(
                "<Arn>{}</Arn><UserId>AIDASTUB</UserId><Account>{ACCOUNT}</Account>",
                self.identity(signer)
            )),
            "GetSessionToken" => {
                let name = self.owners.get(signer).cloned().unwrap_or_else(|| "root".to_owned());
                Ok(self.session(&format!("user/{name}"), field("DurationSeconds"), 43_200))
            }
            "AssumeRole" => {
                let role = field("RoleArn").rsplit(":role/").next().unwrap_or_default();
                let role = role.rsplit('/').next().unwrap_or_default();
                let session = field("RoleSessionName");
                let credentials =
                    self.session(&format!("assumed-role/{role}/{session}"), field("DurationSeconds"), 3_600);
                Ok(format!(
                    "<AssumedRoleUser><AssumedRoleId>AROASTUB:{session}</AssumedRoleId><Arn>arn:aws:sts::{ACCOUNT}:\
                     assumed-role/{role}/{session}</Arn></AssumedRoleUser>{credentials}<SourceIdentity>{}\
                     </SourceIdentity>",
                    field("SourceIdentity")
                ))
            }
            "CreateUser" => {
                if self.users.contains_key(named) {
                    return Err((StatusCode::CONFLICT, "EntityAlreadyExists", format!("User {named} exists")));
                }
                let path = if field("Path").is_empty() { "/" } else { field("Path") };
                let boundary = fields.get("PermissionsBoundary").cloned();
                let user = User { path: path.to_owned(), boundary, tags: tags(fields), ..User::default() };
                let shown = described(named, &user);
                self.users.insert(named.to_owned(), user);
                Ok(shown)
            }
            "CreateAccessKey" => {
                let serial = self.serial;
                let user = self.user(named)?;
                let id = format!("AKIASTUB{serial:012}");
                user.keys.insert(id.clone(), true);
                self.owners.insert(id.clone(), named.to_owned());
                Ok(format!(
                    "<AccessKey><UserName>{named}</UserName><AccessKeyId>{id}</AccessKeyId><Status>Active</Status>\
                     <SecretAccessKey>{SECRET}</SecretAccessKey><CreateDate>{CREATED}</CreateDate></AccessKey>"
                ))
            }
            "DeleteAccessKey" => {
                let id = field("AccessKeyId").to_owned();
                let owner = if named.is_empty() { self.owners.get(&id).cloned() } else { Some(named.to_owned()) };
                let user = self.user(&owner.unwrap_or_default())?;
                if user.keys.remove(&id).is_none() {
                    return Err(missing(&id));
                }
                self.owners.remove(&id);
                Ok(String::new())
            }
            "UpdateAccessKey" => {
                let active = field("Status") == "Active";
                let id = field("AccessKeyId").to_owned();
                *self.user(named)?.keys.get_mut(&id).ok_or_else(|| missing(&id))? = active;
                Ok(String::new())
            }
            "ListAccessKeys" => {
                let mut members = String::new();
                for (id, active) in &self.user(named)?.keys {
                    let status = if *active { "Active" } else { "Inactive" };
                    let _ = write!(
                        members,
                        "<member><UserName>{named}</UserName><AccessKeyId>{id}</AccessKeyId><Status>{status}</Status>\
                         <CreateDate>{CREATED}</CreateDate></member>"
                    );
                }
                Ok(list("AccessKeyMetadata", &members))
            }
            "GetAccessKeyLastUsed" => {
                let owner = self.owners.get(field("AccessKeyId")).cloned().unwrap_or_default();
                Ok(format!(
                    "<UserName>{owner}</UserName><AccessKeyLastUsed><ServiceName>N/A</ServiceName><Region>N/A</Region>\
                     </AccessKeyLastUsed>"
                ))
            }
            "DeleteUser" => {
                let user = self.user(named)?;
                if !(user.keys.is_empty() && user.attached.is_empty() && user.inline.is_empty()) {
                    let message = "Cannot delete entity, must remove attachments first.".to_owned();
                    return Err((StatusCode::CONFLICT, "DeleteConflict", message));
                }
                self.users.remove(named);
                Ok(String::new())
            }
            "GetUser" => {
                let name = named.to_owned();
                let user = self.user(&name)?;
                Ok(described(&name, user))
            }
            _ => self.attachments(action, fields, named),
        }
    }

    /// What hangs on a user.
    fn attachments(&mut self, action: &str, fields: &HashMap<String, String>, named: &str) -> Outcome {
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        let user = self.user(named)?;
        match action {
            "TagUser" => user.tags.extend(tags(fields)),
            "PutUserPermissionsBoundary" => user.boundary = fields.get("PermissionsBoundary").cloned(),
            "UpdateUser" => field("NewPath").clone_into(&mut user.path),
            "AttachUserPolicy" => {
                let arn = field("PolicyArn");
                let name = arn.rsplit('/').next().unwrap_or_default();
                user.attached.insert(arn.to_owned(), name.to_owned());
            }
            "DetachUserPolicy" => {
                user.attached.remove(field("PolicyArn")).ok_or_else(|| missing(field("PolicyArn")))?;
            }
            "PutUserPolicy" => user.inline.push(field("PolicyName").to_owned()),
            "DeleteUserPolicy" => user.inline.retain(|name| name != field("PolicyName")),
            "ListUserTags" => return Ok(list("Tags", &shown_tags(user))),
            "ListAttachedUserPolicies" => {
                let members: String = user
                    .attached
                    .iter()
                    .map(|(arn, name)| {
                        format!("<member><PolicyName>{name}</PolicyName><PolicyArn>{arn}</PolicyArn></member>")
                    })
                    .collect();
                return Ok(list("AttachedPolicies", &members));
            }
            "ListUserPolicies" => {
                let members: String = user.inline.iter().map(|name| format!("<member>{name}</member>")).collect();
                return Ok(list("PolicyNames", &members));
            }
            "ListGroupsForUser" => return Ok(list("Groups", "")),
            "ListMFADevices" => return Ok(list("MFADevices", "")),
            "ListSigningCertificates" => return Ok(list("Certificates", "")),
            "ListSSHPublicKeys" => return Ok(list("SSHPublicKeys", "")),
            "ListServiceSpecificCredentials" => return Ok(list("ServiceSpecificCredentials", "")),
            "DeleteLoginProfile" | "GetLoginProfile" => return Err(missing("the login profile")),
            _ => {
                let message = format!("{action} is not known to the stub");
                return Err((StatusCode::BAD_REQUEST, "InvalidAction", message));
            }
        }
        Ok(String::new())
    }

    fn user(&mut self, name: &str) -> Result<&mut User, Failure> {
        self.users.get_mut(name).ok_or_else(|| missing(name))
    }

    /// Session keys carry who they are, in hex, so that nothing has to be remembered for them.
    fn identity(&self, key: &str) -> String {
        if let Some(hex) = key.strip_prefix("ASIASTUB") {
            let name: Option<Vec<u8>> = hex
                .split('X')
                .next()
                .unwrap_or_default()
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
                .collect();
            let name = String::from_utf8(name.unwrap_or_default()).unwrap_or_default();
            let service = if name.starts_with("user/") { "iam" } else { "sts" };
            return format!("arn:aws:{service}::{ACCOUNT}:{}", self.with_path(&name));
        }
        let name = self.owners.get(key).map_or("service", String::as_str);
        format!("arn:aws:iam::{ACCOUNT}:{}", self.with_path(&format!("user/{name}")))
    }

    fn with_path(&self, name: &str) -> String {
        let user = name.strip_prefix("user/").and_then(|user| Some((user, self.users.get(user)?)));
        user.map_or_else(|| name.to_owned(), |(user, about)| format!("user{}{user}", about.path))
    }

    fn session(&self, name: &str, seconds: &str, default: u64) -> String {
        let mut hex = String::new();
        for byte in name.bytes() {
            let _ = write!(hex, "{byte:02x}");
        }
        let until = std::time::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs());
        let until = until + seconds.parse::<u64>().unwrap_or(default);
        format!(
            "<Credentials><AccessKeyId>ASIASTUB{hex}X{}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>\
             <SessionToken>{TOKEN}</SessionToken><Expiration>{}</Expiration></Credentials>",
            self.serial,
            iso_8601(until)
        )
    }
}

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// As long as the real ones are.
const TOKEN: &str = concat!(
    "IQoJb3JpZ2luX2VjEHoaCXVzLXdlc3QtMiJHMEUCIQ+/abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    "IQoJb3JpZ2luX2VjEHoaCXVzLXdlc3QtMiJHMEUCIQ+/abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    "IQoJb3JpZ2luX2VjEHoaCXVzLXdlc3QtMiJHMEUCIQ+/abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    "IQoJb3JpZ2luX2VjEHoaCXVzLXdlc3QtMiJHMEUCIQ+/abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789=",
);

fn tags(fields: &HashMap<String, String>) -> BTreeMap<String, String> {
    (1..=50)
        .map_while(|n| {
            let key = fields.get(&format!("Tags.member.{n}.Key"))?;
            Some((key.clone(), fields.get(&format!("Tags.member.{n}.Value")).cloned().unwrap_or_default()))
        })
        .collect()
}

fn shown_tags(user: &User) -> String {
    let member = |(key, value)| format!("<member><Key>{key}</Key><Value>{value}</Value></member>");
    user.tags.iter().map(member).collect()
}

fn described(name: &str, user: &User) -> String {
    let boundary = user.boundary.as_ref().map_or_else(String::new, |arn| {
        format!(
            "<PermissionsBoundary><PermissionsBoundaryType>Policy</PermissionsBoundaryType><PermissionsBoundaryArn>\
             {arn}</PermissionsBoundaryArn></PermissionsBoundary>"
        )
    });
    format!(
        "<User><Path>{path}</Path><UserName>{name}</UserName><UserId>AIDASTUB</UserId><Arn>arn:aws:iam::{ACCOUNT}:user\
         {path}{name}</Arn><CreateDate>{CREATED}</CreateDate>{boundary}<Tags>{tags}</Tags></User>",
        path = user.path,
        tags = shown_tags(user)
    )
}

fn list(name: &str, members: &str) -> String {
    format!("<{name}>{members}</{name}><IsTruncated>false</IsTruncated>")
}

fn missing(what: &str) -> Failure {
    (StatusCode::NOT_FOUND, "NoSuchEntity", format!("{what} cannot be found."))
}

/// Days to a date by Howard Hinnant's civil_from_days.
fn iso_8601(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

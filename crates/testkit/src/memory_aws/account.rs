//! An AWS account as a value: what STS and IAM answer to each action, at a time that is passed in. No network, no clock.
//!
//! It has the rules that matter to who makes users and keys: two keys a user, names without case, an inactive key signs
//! nothing, a key's last use. It checks no signature and no policy; ministack does that.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const ACCOUNT: &str = "123456789012";
pub(super) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// Whose key the service signs with.
pub(super) const SERVICE: &str = "AKIASERVICEEXAMPLE00";
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
    /// When it was made.
    pub created: OffsetDateTime,
    /// When it last signed something, and for which service.
    pub used: Option<(OffsetDateTime, String)>,
    /// From when on STS knows it.
    known_from: OffsetDateTime,
    /// From when on it is on the user's list.
    listed_from: OffsetDateTime,
}

/// A user that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryUser {
    /// Its name, as it was made.
    pub name: String,
    /// Its keys, oldest first; at most two.
    pub keys: Vec<MemoryKey>,
    /// ARNs of its policies.
    pub attached: Vec<String>,
    /// IAM's own id: another user of the same name has another one.
    pub id: String,
    /// Where it is.
    pub path: String,
    /// Its permissions boundary.
    pub boundary: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// From when on others than who made it see it.
    known_from: OffsetDateTime,
}

/// How long what is made stays unknown to other parts of AWS, which is eventually consistent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lag {
    /// A new key to STS.
    pub key_at_sts: Duration,
    /// A new key in the list of its user's keys.
    pub key_in_list: Duration,
    /// A new user.
    pub user: Duration,
}

/// What was asked for: the form fields of the request.
pub type Fields = BTreeMap<String, String>;
/// HTTP status, AWS's code, and its words.
pub type Failure = (u16, &'static str, String);
/// The content of the answer, in XML.
pub type Answer = Result<String, Failure>;

/// Users, keys, policies, roles and sessions.
#[derive(Debug, Default, Clone)]
pub struct IamAccount {
    /// By folded name.
    users: BTreeMap<String, MemoryUser>,
    /// Temporary credentials: whose ARN they speak for.
    sessions: HashMap<String, String>,
    serial: u64,
    /// Of what is made from here on.
    pub lag: Lag,
}

impl IamAccount {
    /// The key that the service signs with, and its secret.
    pub const SERVICE_KEY: (&str, &str) = (SERVICE, SECRET);

    /// An ARN in this account, such as of `policy/read` or `role/analysis`.
    pub fn arn(resource: &str) -> String {
        format!("arn:aws:iam::{ACCOUNT}:{resource}")
    }

    /// All users, by folded name.
    pub fn users(&self) -> &BTreeMap<String, MemoryUser> {
        &self.users
    }

    /// One user, whatever the case of the name.
    pub fn user(&self, name: &str) -> Option<&MemoryUser> {
        self.users.get(&name.to_ascii_lowercase())
    }

    /// The same, to be changed by hand.
    pub fn user_mut(&mut self, name: &str) -> Option<&mut MemoryUser> {
        self.users.get_mut(&name.to_ascii_lowercase())
    }

    /// Takes a user away with all that hangs on it.
    pub fn remove(&mut self, name: &str) -> Option<MemoryUser> {
        self.users.remove(&name.to_ascii_lowercase())
    }

    /// The key, and whose it is.
    pub fn key(&self, id: &str) -> Option<(&MemoryUser, &MemoryKey)> {
        self.users.values().find_map(|user| Some((user, user.keys.iter().find(|key| key.id == id)?)))
    }

    /// A key that is used for a service at a time.
    pub fn use_key(&mut self, id: &str, service: &str, now: OffsetDateTime) {
        let keys = self.users.values_mut().flat_map(|user| &mut user.keys);
        if let Some(key) = keys.into_iter().find(|key| key.id == id && key.active) {
            key.used = Some((now, service.to_owned()));
        }
    }

    /// A response to the action as HTTP carries it: status and body.
    pub fn render(action: &str, answer: Answer) -> (u16, String) {
        const META: &str = "<RequestId>00000000-0000-4000-8000-000000000000</RequestId>";
        match answer {
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
        }
    }

    /// A time as the `Date` header has it.
    pub fn http_date(now: OffsetDateTime) -> String {
        now.format(HTTP_DATE).unwrap_or_default()
    }

    /// Does what a request asks for, signed with the key `signer`.
    pub fn act(&mut self, action: &str, fields: &Fields, signer: &str, now: OffsetDateTime) -> Answer {
        self.serial += 1;
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        let named = field("UserName");
        match action {
            "GetCallerIdentity" => {
                let arn = self.identity(signer, now)?;
                Ok(format!("<Arn>{arn}</Arn><UserId>AIDAEXAMPLE</UserId><Account>{ACCOUNT}</Account>"))
            }
            "GetSessionToken" => {
                let arn = self.identity(signer, now)?;
                Ok(self.session(arn, field("DurationSeconds"), now))
            }
            "AssumeRole" => {
                let role = field("RoleArn").rsplit('/').next().unwrap_or_default().to_owned();
                let (session, person) = (field("RoleSessionName"), field("SourceIdentity"));
                let arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session}");
                let credentials = self.session(arn.clone(), field("DurationSeconds"), now);
                Ok(format!(
                    "<AssumedRoleUser><AssumedRoleId>AROAEXAMPLE:{session}</AssumedRoleId><Arn>{arn}</Arn>\
                     </AssumedRoleUser>{credentials}<SourceIdentity>{person}</SourceIdentity>"
                ))
            }
            "CreateUser" => self.make_user(named, fields, now),
            "CreateAccessKey" => {
                let id = self.make_key(named, now)?;
                let named = self.user(named).map_or(named, |user| &user.name);
                let date = now.format(ISO).unwrap_or_default();
                Ok(format!(
                    "<AccessKey><UserName>{named}</UserName><AccessKeyId>{id}</AccessKeyId><Status>Active</Status>\
                     <SecretAccessKey>{SECRET}</SecretAccessKey><CreateDate>{date}</CreateDate></AccessKey>"
                ))
            }
            "GetAccessKeyLastUsed" => self.last_used(field("AccessKeyId")),
            _ => self.of_user(action, fields, named, now),
        }
    }

    /// Makes a user.
    ///
    /// # Errors
    /// As IAM's CreateUser.
    pub fn make_user(&mut self, named: &str, fields: &Fields, now: OffsetDateTime) -> Answer {
        self.serial += 1;
        let folded = named.to_ascii_lowercase();
        if self.users.contains_key(&folded) {
            return Err((409, "EntityAlreadyExists", format!("User {named} exists")));
        }
        let user = MemoryUser {
            name: named.to_owned(),
            keys: Vec::new(),
            attached: Vec::new(),
            id: format!("AIDA{:016}", self.serial),
            path: fields.get("Path").cloned().unwrap_or_else(|| "/".to_owned()),
            boundary: fields.get("PermissionsBoundary").cloned(),
            tags: tags(fields),
            known_from: now + self.lag.user,
        };
        let shown = described(&user);
        self.users.insert(folded, user);
        Ok(shown)
    }

    /// Makes a key for a user; gives its id.
    ///
    /// # Errors
    /// As IAM's CreateAccessKey.
    pub fn make_key(&mut self, named: &str, now: OffsetDateTime) -> Answer {
        self.serial += 1;
        let (id, lag) = (format!("AKIA{:016}", self.serial), self.lag);
        let user = self.known(named, now)?;
        if user.keys.len() >= 2 {
            return Err((409, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2".to_owned()));
        }
        user.keys.push(MemoryKey {
            id: id.clone(),
            active: true,
            created: now,
            used: None,
            known_from: now + lag.key_at_sts,
            listed_from: now + lag.key_in_list,
        });
        Ok(id)
    }

    fn last_used(&mut self, id: &str) -> Answer {
        let Some((user, key)) = self.key(id) else { return Err(missing(id)) };
        let used = key.used.as_ref().and_then(|(at, service)| Some((at.format(ISO).ok()?, service)));
        let used = match used {
            Some((at, service)) => {
                format!("<LastUsedDate>{at}</LastUsedDate><ServiceName>{service}</ServiceName>")
            }
            None => "<ServiceName>N/A</ServiceName>".to_owned(),
        };
        Ok(format!(
            "<UserName>{}</UserName><AccessKeyLastUsed>{used}<Region>N/A</Region></AccessKeyLastUsed>",
            user.name
        ))
    }

    /// What is asked about a user that must be there.
    fn of_user(&mut self, action: &str, fields: &Fields, named: &str, now: OffsetDateTime) -> Answer {
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        let user = self.known(named, now)?;
        match action {
            "GetUser" => return Ok(described(user)),
            "DeleteUser" => {
                if !(user.keys.is_empty() && user.attached.is_empty()) {
                    return Err((409, "DeleteConflict", "Cannot delete entity".to_owned()));
                }
                self.remove(named);
            }
            "ListAccessKeys" => {
                let mut members = String::new();
                for key in user.keys.iter().filter(|key| key.listed_from <= now) {
                    let status = if key.active { "Active" } else { "Inactive" };
                    let created = key.created.format(ISO).unwrap_or_default();
                    let _ = write!(
                        members,
                        "<member><UserName>{}</UserName><AccessKeyId>{}</AccessKeyId><Status>{status}</Status>\
                         <CreateDate>{created}</CreateDate></member>",
                        user.name, key.id
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

    /// The user, where this part of AWS knows it by now.
    fn known(&mut self, name: &str, now: OffsetDateTime) -> Result<&mut MemoryUser, Failure> {
        let user = self.users.get_mut(&name.to_ascii_lowercase());
        user.filter(|user| user.known_from <= now).ok_or_else(|| missing(name))
    }

    /// Whose key it is; using a permanent one is noted.
    fn identity(&mut self, signer: &str, now: OffsetDateTime) -> Answer {
        if signer == SERVICE {
            return Ok(format!("arn:aws:iam::{ACCOUNT}:user/iam-sorryd"));
        }
        if let Some(arn) = self.sessions.get(signer) {
            return Ok(arn.clone());
        }
        for user in self.users.values_mut() {
            let mut keys = user.keys.iter_mut();
            if let Some(key) = keys.find(|key| key.id == signer && key.active && key.known_from <= now) {
                key.used = Some((now, "sts".to_owned()));
                return Ok(arn_of(user));
            }
        }
        Err((
            403,
            "InvalidClientTokenId",
            "The security token included in the request is invalid.".to_owned(),
        ))
    }

    fn session(&mut self, arn: String, seconds: &str, now: OffsetDateTime) -> String {
        let id = format!("ASIA{:016}", self.serial);
        self.sessions.insert(id.clone(), arn);
        let seconds = seconds.parse().unwrap_or(3600);
        let end = (now + Duration::from_secs(seconds)).format(ISO).unwrap_or_default();
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

fn arn_of(user: &MemoryUser) -> String {
    format!("arn:aws:iam::{ACCOUNT}:user{}{}", user.path, user.name)
}

fn described(user: &MemoryUser) -> String {
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
        "<User><Path>{}</Path><UserName>{}</UserName><UserId>{}</UserId><Arn>{}</Arn>\
         <CreateDate>2020-01-01T00:00:00Z</CreateDate>{boundary}<Tags>{tags}</Tags></User>",
        user.path,
        user.name,
        user.id,
        arn_of(user)
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

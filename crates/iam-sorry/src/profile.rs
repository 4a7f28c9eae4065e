//! What the two sections of a profile (credentials and config) mean together: its kind, its IAM user, its expiration.

use iam_sorry_core::aws_files::Document;
use iam_sorry_core::seal;
use iam_sorry_core::timestamp::Timestamp;

/// Fields that SDKs read.
pub const ID: &str = "aws_access_key_id";
pub const SECRET: &str = "aws_secret_access_key";
pub const TOKEN: &str = "aws_session_token";
/// Fields of the original tool: the IAM user that owns the credentials, and when they expire.
pub const OWNER: &str = "credentials_owner";
pub const EXPIRATION: &str = "expiration";
/// With credentials that a department service issued: the service's origin, and the role if they are a role's.
pub const SERVER: &str = "iam_sorry_server";
pub const ROLE: &str = "iam_sorry_role";
/// With a manager's key: the namespace that the manager was made for.
pub const NAMESPACE: &str = "iam_sorry_namespace";
/// A permanent key under names that SDKs don't read: sealed beside temporary credentials, or served through
/// credential_process.
pub const KEPT_ID: &str = "iam_sorry_access_key_id";
pub const KEPT_SECRET: &str = "iam_sorry_secret_access_key";
/// A setting of the config file.
pub const PROCESS: &str = "credential_process";

/// Every field that may hold a sealed value.
pub const SEALABLE: [&str; 5] = [ID, SECRET, TOKEN, KEPT_ID, KEPT_SECRET];

/// The kind of a profile, as `list` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileKind {
    /// Keys, permanent or temporary, that are sealed.
    Encrypted,
    /// Permanent keys in plain text.
    Permanent,
    /// Temporary credentials.
    Temporary,
    /// `role_arn` in the config file.
    Role,
    /// `credential_process` of another program.
    Process,
    /// IAM Identity Center, which AWS CLI handles.
    Sso,
    /// No credentials and no source of any.
    Empty,
}

impl ProfileKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encrypted => "encrypted",
            Self::Permanent => "permanent",
            Self::Temporary => "temporary",
            Self::Role => "role",
            Self::Process => "process",
            Self::Sso => "sso",
            Self::Empty => "empty",
        }
    }
}

/// A key as stored in the file: names and values of its fields, sealed or plain.
#[derive(Clone, Copy)]
pub struct StoredKey<'a> {
    pub id: (&'a str, &'a str),
    pub secret: (&'a str, &'a str),
    pub token: Option<(&'a str, &'a str)>,
}

impl<'a> StoredKey<'a> {
    /// Its fields, in the order ID, secret, token.
    pub fn fields(&self) -> Vec<(&'a str, &'a str)> {
        [Some(self.id), Some(self.secret), self.token].into_iter().flatten().collect()
    }

    pub fn is_sealed(&self) -> bool {
        self.fields().iter().any(|(_, value)| value.starts_with(seal::PREFIX))
    }
}

/// A copy of one profile's fields. Values may be secrets, so it has no Debug.
#[derive(Clone)]
pub struct Profile {
    pub name: String,
    credentials: Vec<(String, String)>,
    config: Vec<(String, String)>,
    /// Pairs of service and URL, from the `services` section that the profile names.
    endpoints: Vec<(&'static str, String)>,
}

impl Profile {
    /// The profile, or `None` if neither file has a section of that name.
    pub fn find(name: &str, credentials: &Document, config: &Document) -> Option<Self> {
        if !credentials.contains(name) && !config.contains(name) {
            return None;
        }
        let copy =
            |d: &Document| d.entries(name).into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let services = config.value(name, "services");
        let endpoint_of = |service| {
            let url = config.service_value(services?, service, "endpoint_url")?;
            Some((service, url.to_owned()))
        };
        Some(Self {
            name: name.to_owned(),
            credentials: copy(credentials),
            config: copy(config),
            endpoints: ["sts", "iam"].into_iter().filter_map(endpoint_of).collect(),
        })
    }

    /// The endpoint that its `services` section gives for `sts` or `iam`.
    pub fn service_endpoint(&self, service: &str) -> Option<&str> {
        let found = self.endpoints.iter().find(|(of, url)| *of == service && !url.is_empty());
        found.map(|(_, url)| url.as_str())
    }

    /// A field of the credentials section.
    pub fn field(&self, key: &str) -> Option<&str> {
        lookup(&self.credentials, key)
    }

    /// A setting of the config section, else of the credentials section, which SDKs read too.
    pub fn setting(&self, key: &str) -> Option<&str> {
        lookup(&self.config, key).or_else(|| self.field(key))
    }

    /// The key that SDKs use.
    pub fn active_key(&self) -> Option<StoredKey<'_>> {
        self.stored(ID, SECRET, self.pair(TOKEN))
    }

    /// The permanent key under iam-sorry's own field names.
    pub fn kept_key(&self) -> Option<StoredKey<'_>> {
        self.stored(KEPT_ID, KEPT_SECRET, None)
    }

    /// The user's permanent key, under whichever names it is stored.
    pub fn permanent_key(&self) -> Option<StoredKey<'_>> {
        self.kept_key().or_else(|| self.active_key().filter(|key| key.token.is_none()))
    }

    /// The key that iam-sorry hands out: the active key, else the kept one.
    pub fn usable_key(&self) -> Option<StoredKey<'_>> {
        self.active_key().or_else(|| self.kept_key())
    }

    /// Every sealed field, in the order of [`SEALABLE`].
    pub fn sealed_fields(&self) -> Vec<(&'static str, &str)> {
        SEALABLE
            .iter()
            .filter_map(|field| self.field(field).map(|value| (*field, value)))
            .filter(|(_, value)| value.starts_with(seal::PREFIX))
            .collect()
    }

    /// Whether its credentials come from AssumeRole: it names a role and the source of the credentials that assume it.
    pub fn is_assumable_role(&self) -> bool {
        let sources = ["source_profile", "credential_source"];
        self.setting("role_arn").is_some() && sources.iter().any(|key| self.setting(key).is_some())
    }

    pub fn kind(&self) -> ProfileKind {
        if let Some(key) = self.usable_key() {
            return match (key.is_sealed(), key.token) {
                (true, _) => ProfileKind::Encrypted,
                (false, Some(_)) => ProfileKind::Temporary,
                (false, None) => ProfileKind::Permanent,
            };
        }
        if self.setting("role_arn").is_some() {
            ProfileKind::Role
        } else if self.setting("sso_session").or_else(|| self.setting("sso_start_url")).is_some() {
            ProfileKind::Sso
        } else if self.setting(PROCESS).is_some() {
            ProfileKind::Process
        } else {
            ProfileKind::Empty
        }
    }

    /// The IAM user that was recorded when the credentials were made.
    pub fn owner(&self) -> Option<&str> {
        self.field(OWNER)
    }

    /// When the temporary credentials expire, if the file records it.
    pub fn expiration(&self) -> Option<Timestamp> {
        self.active_key()?.token?;
        Timestamp::parse(self.field(EXPIRATION)?).ok()
    }

    fn pair<'a>(&'a self, key: &'a str) -> Option<(&'a str, &'a str)> {
        self.field(key).map(|value| (key, value))
    }

    fn stored<'a>(
        &'a self,
        id: &'a str,
        secret: &'a str,
        token: Option<(&'a str, &'a str)>,
    ) -> Option<StoredKey<'a>> {
        Some(StoredKey { id: self.pair(id)?, secret: self.pair(secret)?, token })
    }
}

fn lookup<'a>(entries: &'a [(String, String)], key: &str) -> Option<&'a str> {
    entries.iter().find(|(k, v)| k == key && !v.is_empty()).map(|(_, v)| v.as_str())
}

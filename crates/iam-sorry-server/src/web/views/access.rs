//! Signing in, credentials, sessions, rules.

use askama::Template;
use zeroize::Zeroizing;

use super::frame::{Choice, ChoiceGroup, Frame, Link, Moment};
use crate::authz::authorize::RuleFacts;

/// `/sign-in`.
#[derive(Debug, Template)]
#[template(path = "sign_in.html")]
pub struct SignInPage {
    /// Around it.
    pub frame: Frame,
    /// Why the last try was refused.
    pub problem: Option<String>,
    /// The name that was tried.
    pub username: String,
    /// Where to go afterwards: a local address.
    pub next: String,
    /// How people may sign in, in order.
    pub offers: Vec<OfferCard>,
}

/// One way to sign in, on the page.
#[derive(Debug)]
pub struct OfferCard {
    /// Names it in the page.
    pub id: String,
    /// What it is called.
    pub label: String,
    /// What people do.
    pub step: OfferStep,
}

/// How a sign-in begins.
#[derive(Debug)]
pub enum OfferStep {
    /// A name and a password go into the form.
    Password,
    /// A command is typed on a machine without a browser.
    Command(String),
    /// A button leads to a provider, by way of this local address.
    Provider(String),
}

/// The one-time link of `serve --dev`: nothing happens before the button, so that a preview of the link uses nothing up.
#[derive(Template)]
#[template(path = "dev_sign_in.html")]
pub struct DevSignInPage {
    /// Around it.
    pub frame: Frame,
    /// From the link.
    pub token: Zeroizing<String>,
}

/// After signing out.
#[derive(Debug, Template)]
#[template(path = "signed_out.html")]
pub struct SignedOutPage {
    /// Around it.
    pub frame: Frame,
}

/// `/credentials`.
#[derive(Debug, Template)]
#[template(path = "credentials.html")]
pub struct CredentialsPage {
    /// Around it.
    pub frame: Frame,
    /// Users and roles to choose from.
    pub targets: Vec<ChoiceGroup>,
    /// Whether the person owns a namespace.
    pub has_namespace: bool,
    /// Durations to choose from.
    pub durations: Vec<Choice>,
    /// What was issued.
    pub grants: Vec<GrantRow>,
    /// Whether these are everybody's.
    pub everybody: bool,
    /// The next page's cursor.
    pub next: Option<String>,
}

/// One thing that was issued.
#[derive(Clone, Debug)]
pub struct GrantRow {
    /// User or role.
    pub resource: String,
    /// Who asked.
    pub person: String,
    /// `User session`, `Role session` or `Access key`.
    pub kind: &'static str,
    /// `ASIA...` or `AKIA...`.
    pub access_key_id: String,
    /// When.
    pub issued: Moment,
    /// `active`, `expired`, `deleted`.
    pub state: String,
    /// The state's colour.
    pub tone: &'static str,
    /// How long it lasts.
    pub left: String,
}

/// What was just made, with its secrets: shown once. No Debug.
#[derive(Template)]
#[template(path = "issued.html")]
pub struct IssuedPage {
    /// Around it.
    pub frame: Frame,
    /// Whose.
    pub resource: String,
    /// What to know about it.
    pub notes: Vec<String>,
    /// What allowed it.
    pub reasons: Vec<String>,
    /// The identity that AWS sees.
    pub arn: String,
    /// When it ends; none for permanent keys.
    pub expires: Option<Moment>,
    /// How long that is.
    pub left: String,
    /// The operation's id.
    pub operation: String,
    /// `export` lines.
    pub environment: Zeroizing<String>,
    /// A section of the credentials file.
    pub section: Zeroizing<String>,
    /// The key's id.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: Zeroizing<String>,
    /// The token of a session.
    pub session_token: Option<Zeroizing<String>>,
    /// After a rotation: the old key, which goes once the new one is confirmed.
    pub confirm: Option<ConfirmForm>,
    /// Where to go on.
    pub back: String,
}

/// The form that confirms a new key.
#[derive(Clone, Debug)]
pub struct ConfirmForm {
    /// Where it is sent.
    pub action: String,
    /// The old key.
    pub old_key: String,
    /// When the old key goes without it.
    pub until: Option<Moment>,
}

/// `/rules`.
#[derive(Debug, Template)]
#[template(path = "rules.html")]
pub struct RulesPage {
    /// Around it.
    pub frame: Frame,
    /// What was asked, answered.
    pub answer: Option<Answer>,
    /// What can be asked about.
    pub actions: Vec<Choice>,
    /// As it was asked.
    pub resource: String,
    /// Policies of the allow-list.
    pub policies: Vec<Choice>,
    /// Durations to choose from.
    pub durations: Vec<Choice>,
    /// Login name.
    pub name: String,
    /// `issuer/subject`.
    pub id: String,
    /// How they signed in.
    pub method: String,
    /// Their groups.
    pub groups: Vec<String>,
    /// Their namespaces.
    pub namespaces: Vec<String>,
    /// Rules in force, the first of them.
    pub rules: Vec<RuleFacts>,
    /// How many more there are.
    pub more_rules: usize,
}

/// The answer to a question about the rules.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Whether one may.
    pub allowed: bool,
    /// In a sentence.
    pub title: String,
    /// Which rules decided.
    pub reasons: Vec<String>,
    /// The longest duration.
    pub longest: Option<String>,
}

/// `/sessions`.
#[derive(Debug, Template)]
#[template(path = "sessions.html")]
pub struct SessionsPage {
    /// Around it.
    pub frame: Frame,
    /// Whether these are everybody's.
    pub everybody: bool,
    /// The sessions.
    pub sessions: Vec<SessionRow>,
    /// The next page's address.
    pub next: Option<String>,
    /// To everybody's, or back.
    pub switch: Option<Link>,
    /// Registered SSH keys.
    pub keys: Vec<SshKeyRow>,
    /// Whether the rules let the person register one.
    pub may_register: bool,
}

/// What an SSH key has to sign to be registered.
#[derive(Debug, Template)]
#[template(path = "register_key.html")]
pub struct RegisterKeyPage {
    /// Around it.
    pub frame: Frame,
    /// For a shell.
    pub command: String,
    /// Names the challenge.
    pub nonce: String,
    /// The key that is to sign.
    pub public_key: String,
    /// When the challenge stops being accepted.
    pub expires: Moment,
}

/// A session.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// Its id.
    pub id: String,
    /// Whose.
    pub name: String,
    /// From where.
    pub address: String,
    /// Whether it is the one that asks.
    pub current: bool,
    /// How it was opened.
    pub method: String,
    /// When it was opened.
    pub signed_in: Moment,
    /// Last used.
    pub last_used: Moment,
    /// When it ends at the latest.
    pub ends: Moment,
}

/// A registered SSH key.
#[derive(Clone, Debug)]
pub struct SshKeyRow {
    /// `SHA256:...`.
    pub fingerprint: String,
    /// Its comment.
    pub comment: String,
    /// When.
    pub registered: Moment,
    /// How the person had signed in; none where it has to be registered again.
    pub registered_by: Option<String>,
}

//! Namespaces, IAM users, their policies and keys.

use askama::Template;
use iam_sorry_core::api::NamespaceInfo;

use super::frame::{Frame, Moment, Policy};

/// `/namespace`.
#[derive(Debug, Template)]
#[template(path = "namespace.html")]
pub struct NamespacePage {
    /// Around it.
    pub frame: Frame,
    /// The person's.
    pub namespaces: Vec<NamespaceInfo>,
    /// Users in them.
    pub users: Vec<UserRow>,
    /// The next page's cursor.
    pub next: Option<String>,
    /// The allow-list.
    pub policies: Vec<Policy>,
}

/// A user.
#[derive(Clone, Debug)]
pub struct UserRow {
    /// As IAM spells it.
    pub name: String,
    /// Its page.
    pub href: String,
    /// Its namespace.
    pub namespace: String,
    /// Who made it.
    pub owner: String,
    /// Whether it was there before the service.
    pub adopted: bool,
    /// When it was made.
    pub created: Moment,
}

/// `/namespace/users/{name}`.
#[derive(Debug, Template)]
#[template(path = "user.html")]
pub struct UserPage {
    /// Around it.
    pub frame: Frame,
    /// As IAM spells it.
    pub name: String,
    /// This page's address.
    pub href: String,
    /// Its ARN.
    pub arn: String,
    /// Its namespace.
    pub namespace: String,
    /// Who made or adopted it.
    pub owner: String,
    /// Whether it was there before the service.
    pub adopted: bool,
    /// When.
    pub created: Moment,
    /// Its permissions boundary.
    pub boundary: Option<String>,
    /// What is attached.
    pub policies: Vec<Policy>,
    /// What could be.
    pub attachable: Vec<Policy>,
    /// Its permanent keys.
    pub keys: Vec<KeyRow>,
}

/// A permanent key.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// `AKIA...`.
    pub id: String,
    /// `Active` or `Inactive`.
    pub status: String,
    /// The status's colour.
    pub tone: &'static str,
    /// When it was made.
    pub created: Option<Moment>,
    /// When AWS last saw it.
    pub last_used: Option<Moment>,
    /// The new key of a rotation that nobody has confirmed: the old one.
    pub replaces: Option<String>,
    /// Whether it is the old key of such a rotation.
    pub replaced: bool,
    /// When the old key goes.
    pub deleted_after: Option<Moment>,
}

/// Before something goes for good.
#[derive(Debug, Template)]
#[template(path = "confirm.html")]
pub struct ConfirmPage {
    /// Around it.
    pub frame: Frame,
    /// `Delete dirk-lab?`
    pub question: String,
    /// What it means.
    pub explanation: String,
    /// What goes, a line each.
    pub goes: Vec<String>,
    /// Where the form is sent.
    pub action: String,
    /// What the button says.
    pub button: String,
    /// The way back.
    pub back: String,
}

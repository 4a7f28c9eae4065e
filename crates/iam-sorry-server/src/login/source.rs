//! What a sign-in method is to the rest of the service. Each method is an entry of the registry (`registry`): it says how people
//! sign in by it, looks its people up again, and has a dialogue of one of three shapes. What follows from a proof is the same
//! for all and is in `sessions/`: limits, audit record, session, the texts that people read.

use futures_util::future::BoxFuture;
use iam_sorry_core::group::Group;
use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_core::ssh::login::Origin;
use iam_sorry_core::timestamp::Timestamp;
use secrecy::SecretString;

use super::error::{LoginError, RejectReason};
use super::limits::CountedAs;

/// Where people come from, or how they prove that they are somebody who comes from elsewhere.
pub trait IdentitySource: Send + Sync {
    /// The first half of the id of everybody who comes from here (`corp/<uuid>`), by which they are looked up here again. None:
    /// it knows nobody itself, and whom it signs in comes from another source (a ticket leads to the directory).
    fn issuer(&self) -> Option<&str>;

    /// How people sign in here.
    fn offer(&self) -> Offer;

    /// The requests that are attempts to sign in here: they are limited as such.
    fn attempts(&self) -> Vec<AttemptRoute>;

    /// The steps of a sign-in.
    fn dialogue(&self) -> Dialogue<'_>;

    /// The person of a subject as they are here now. Only people whose issuer this is are looked up.
    ///
    /// # Errors
    /// [`LoginError::Refused`] if they may not sign in, or not go on, any more.
    fn lookup<'a>(&'a self, sought: Sought<'a>) -> BoxFuture<'a, Result<Identity, LoginError>>;
}

/// A way to sign in, as people and programs see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Names it in the registry, in addresses and in the store. No other has it, and it never changes.
    pub id: String,
    /// What it proves a person by.
    pub method: Method,
    /// What people read.
    pub label: String,
}

/// A route whose requests are attempts to sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRoute {
    /// The path, as it is requested.
    pub path: String,
    /// Which requests of it.
    pub counted: Counted,
}

/// Which requests of a route are attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// All of them, whatever their HTTP method: a provider sends people back by GET.
    All,
    /// Those that send something (POST): the same address also shows the form.
    Sent,
}

impl AttemptRoute {
    /// All requests of a path.
    pub fn all(path: &str) -> Self {
        Self { path: path.to_owned(), counted: Counted::All }
    }

    /// The requests of a path that send something.
    pub fn sent(path: &str) -> Self {
        Self { path: path.to_owned(), counted: Counted::Sent }
    }
}

/// The three shapes of a sign-in.
pub enum Dialogue<'a> {
    /// One step: a name and a password.
    Password(&'a dyn PasswordDialogue),
    /// Two steps by a program: what the service gave out comes back once, signed or as it is. The messages are the method's
    /// own, and so is its door in `sessions/`.
    Challenge {
        /// The arguments of `iam-sorry login ORIGIN` that begin it; none if it is begun elsewhere (a link on a terminal).
        arguments: Option<&'static str>,
    },
    /// Two steps by a browser: it is sent to a provider, and comes back with the provider's answer.
    Redirect {
        /// The service's own address where the browser begins.
        start: String,
        /// The origins that this leads to: the page's form may (Content-Security-Policy, form-action).
        leads_to: Vec<Origin>,
    },
}

/// A source that checks names and passwords.
pub trait PasswordDialogue: Send + Sync {
    /// Looks for the person of a login name. What it takes and how long says nothing about whether there is one.
    ///
    /// # Errors
    /// [`LoginError::Unavailable`]
    fn find<'a>(&'a self, typed: &'a str) -> BoxFuture<'a, Result<Candidate, LoginError>>;

    /// Proves the password, also of a candidate who is nobody: that takes as long.
    ///
    /// # Errors
    /// [`LoginError`]
    fn prove<'a>(
        &'a self,
        candidate: &'a Candidate,
        password: &'a SecretString,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Identity, LoginError>>;
}

/// Whom a login name may belong to. Whether there is such a person can't be seen from outside.
#[derive(Debug)]
pub struct Candidate {
    /// The source's own name for the person, such as a DN.
    pub(super) found: Result<String, RejectReason>,
    pub(super) counted_as: CountedAs,
    /// The login name, folded.
    pub(super) name: String,
}

impl Candidate {
    /// What failures are counted under.
    pub fn counted_as(&self) -> &CountedAs {
        &self.counted_as
    }

    /// The name if it is a person's: for the audit trail. What is nobody's name may be a password.
    pub fn known_as(&self) -> Option<&str> {
        self.found.is_ok().then_some(self.name.as_str())
    }
}

/// Whom to look up, and what for.
#[derive(Clone, Copy, Debug)]
pub struct Sought<'a> {
    /// The issuer's stable name for the person.
    pub subject: &'a str,
    /// How they prove, or have proved, who they are.
    pub method: Method,
    /// What for.
    pub purpose: Purpose,
    /// The time.
    pub now: Timestamp,
}

/// What a person is looked up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// They sign in.
    SignIn,
    /// They are signed in already. A lock is ignored: anybody's wrong passwords lock an account for a while, and that must
    /// neither end what its owner has open nor keep their groups as they were.
    Recheck,
}

/// Puts an identity together.
pub(super) fn identity(
    issuer: &str,
    subject: &str,
    name: &str,
    groups: impl IntoIterator<Item = Group>,
    method: Method,
) -> Identity {
    Identity {
        issuer: issuer.to_owned(),
        subject: subject.to_owned(),
        name: name.to_owned(),
        groups: groups.into_iter().collect(),
        method,
    }
}

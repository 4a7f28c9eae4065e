//! What signing in needs besides the store, and what it remembers between requests. What is done with it is in the files
//! beside this one: `door` is the one way to a session.

use iam_sorry_core::ssh::login;

use crate::login::limits::Limits;
use crate::login::{LimitSettings, LoginMethods};
use crate::sessions::people::People;
use crate::sessions::recent::Recent;
use crate::sessions::settings::SessionSettings;
use crate::sessions::typed_names::TypedNames;

/// What signing in needs besides the store.
pub struct SignIn {
    pub(super) name: String,
    origin: login::Origin,
    methods: LoginMethods,
    sessions: SessionSettings,
    pub(super) limits: Limits,
    pub(super) typed: TypedNames,
    pub(crate) recent: Recent,
    pub(crate) people: People,
}

impl SignIn {
    /// `name` is the department's for the service; `origin` where people reach it, as signatures are bound to it.
    pub fn new(
        name: &str,
        origin: login::Origin,
        methods: LoginMethods,
        sessions: SessionSettings,
        limits: LimitSettings,
    ) -> Self {
        Self {
            name: name.to_owned(),
            origin,
            methods,
            sessions,
            limits: Limits::new(limits),
            typed: TypedNames::new(),
            recent: Recent::default(),
            people: People::default(),
        }
    }

    /// One by which nobody signs in.
    ///
    /// # Errors
    /// None that can happen.
    pub fn closed() -> Result<Self, login::InvalidOrigin> {
        let origin = login::Origin::parse("http://localhost")?;
        Ok(Self::new(
            "closed",
            origin,
            LoginMethods::default(),
            SessionSettings::default(),
            LimitSettings::default(),
        ))
    }

    /// Where people reach the service.
    pub fn origin(&self) -> &login::Origin {
        &self.origin
    }

    /// How long sessions last.
    pub fn sessions(&self) -> &SessionSettings {
        &self.sessions
    }

    pub(crate) fn methods(&self) -> &LoginMethods {
        &self.methods
    }
}

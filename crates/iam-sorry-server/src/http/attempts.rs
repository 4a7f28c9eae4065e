//! Which requests are attempts to sign in. The routes say so, and not the HTTP method: a provider sends people back by GET.

use std::collections::HashMap;

use http::Method;
use iam_sorry_core::identity::Method as LoginMethod;

use crate::login::source::{AttemptRoute, Counted};

/// The routes of attempts, by path.
#[derive(Debug, Default)]
pub(super) struct Attempts(HashMap<String, (Counted, LoginMethod)>);

impl Attempts {
    pub(super) fn new(routes: Vec<(AttemptRoute, LoginMethod)>) -> Self {
        Self(routes.into_iter().map(|(route, method)| (route.path, (route.counted, method))).collect())
    }

    /// By which method a request tries to sign somebody in, if it does.
    pub(super) fn by(&self, method: &Method, path: &str) -> Option<LoginMethod> {
        let (counted, by) = self.0.get(path)?;
        match counted {
            Counted::All => Some(*by),
            Counted::Sent => (!matches!(*method, Method::GET | Method::HEAD)).then_some(*by),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_decides_and_not_the_method() {
        let routes = [AttemptRoute::sent("/sign-in"), AttemptRoute::all("/login/sso/callback")];
        let attempts = Attempts::new(routes.map(|route| (route, LoginMethod::Ldap)).into());
        for (method, path, is) in [
            (Method::GET, "/login/sso/callback", true),
            (Method::HEAD, "/login/sso/callback", true),
            (Method::POST, "/login/sso/callback", true),
            (Method::POST, "/sign-in", true),
            (Method::GET, "/sign-in", false),
            (Method::HEAD, "/sign-in", false),
            (Method::POST, "/sign-in/", false),
            (Method::POST, "/api/v1/users", false),
        ] {
            assert_eq!(attempts.by(&method, path), is.then_some(LoginMethod::Ldap), "{method} {path}");
        }
    }
}

//! What anybody may know before signing in.

use iam_sorry_core::api;

use crate::error::ServiceError;
use crate::login::LoginMethods;
use crate::service::Service;

impl Service {
    /// `GET /service`: what anybody may know.
    ///
    /// # Errors
    /// None so far; the faces are ready for one.
    pub fn service_info(&self) -> Result<api::ServiceInfo, ServiceError> {
        let sign_in = self.sign_in();
        Ok(api::ServiceInfo {
            name: sign_in.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            origin: sign_in.origin().to_string(),
            methods: sign_in.methods().methods(),
            time: self.clock().now().to_string(),
        })
    }

    /// The sign-in methods, for the faces.
    pub fn login_methods(&self) -> &LoginMethods {
        self.sign_in().methods()
    }
}

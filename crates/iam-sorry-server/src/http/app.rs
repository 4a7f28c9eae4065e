//! What the handlers of the API share.

use crate::service::Service;

/// What handlers work with.
#[derive(Clone)]
pub struct App {
    /// The services.
    pub service: Service,
}

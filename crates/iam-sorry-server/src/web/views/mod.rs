//! The pages as data: everything that a template shows, decided and formatted before it is rendered. Pure, so that the
//! pages are tested (and looked at) without a service. Askama escapes every value for HTML.

mod access;
mod frame;
mod records;
mod users;

pub use access::*;
pub use frame::*;
pub use records::*;
pub use users::*;

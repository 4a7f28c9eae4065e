//! Sign-in and what comes of it: one door to a session, and the people that sessions belong to.
//!
//! | file | what it is |
//! | --- | --- |
//! | `sign_in` | what signing in needs, and remembers |
//! | `door` | from a proof to a session, the same for all methods |
//! | `by_password`, `by_ssh_key`, `by_link` | what comes before the door, for each method |
//! | `flows` | what lies between the two steps of a dialogue |
//! | `session`, `recent` | whose token it is |
//! | `people`, `recheck` | who is signed in, as their source has them now |
//! | `group_names`, `settled_groups` | group names that several groups have |
//! | `key_holders`, `ssh_keys` | whose SSH key it is; the keys that people register |

mod by_link;
mod by_password;
mod by_ssh_key;
pub mod door;
mod flows;
pub mod group_names;
pub(crate) mod key_holders;
mod offers;
pub(crate) mod people;
pub(crate) mod recent;
mod recheck;
pub mod secrets;
pub mod session;
pub mod settings;
mod settled_groups;
pub mod sign_in;
pub(crate) mod sign_in_texts;
pub mod ssh_keys;
pub(crate) mod typed_names;

pub use door::NewSession;
pub use settings::SessionSettings;
pub use sign_in::SignIn;

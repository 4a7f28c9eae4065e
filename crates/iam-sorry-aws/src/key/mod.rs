//! The one life of an access key, for the command line and for the service: made, proved, handed over, replaced, deleted,
//! and found again if its maker died or did not hear AWS's answer.
//!
//! Each program writes down what it is about to do in a journal of its own ([`Journal`]): a file, or an operation in a
//! database. The intent is written before [`make`] is called. From there on:
//!
//! | step                          | written down before it     | written down after it            |
//! |-------------------------------|----------------------------|----------------------------------|
//! | [`make`]                      | the intent                 | the key's ID                     |
//! | [`first_session`], [`prove`]  | the ID, or at the same time ([`make_and_use`]) |              |
//! | the key is handed over        |                            | the end of the entry             |
//! | [`take_back`]                 | that it goes               | the end of the entry             |
//! | [`decide`], after a lost answer| which key fits             | that it is deactivated |
//!
//! # Whose key is it?
//!
//! A key is deleted only by an ID that the journal holds: AWS named it to nobody else. IAM lets nothing be tied to a key when
//! it is made (no tag, no token of the request), so a key that is *found* after a lost answer is never proved to be the
//! program's, however well it fits: the request may not have arrived, and an administrator may have made a key in the same
//! second. A key that fits is of this user, was made in the window of the intent by AWS's clock, was not there before, is
//! in nobody else's journal and in no grant, and was never used, since nobody has the secret of a key whose answer was
//! lost. If exactly one fits, it is deactivated, which its owner can take back; if several do, at most one is the
//! program's, and none is touched. Either way it is written down and shown until a person decides: by deleting it, or by
//! activating or using it, which shows that somebody has its secret. It stays one of the two keys that IAM allows, so
//! after two lost answers a person must decide; no rule could, since time proves nothing either.
//!
//! The rule itself is [`lost::fate`] and [`lost::standing`]: pure, and the same for both programs.

mod create;
mod delete;
mod find;
mod journal;
pub mod lost;
mod prove;
mod status;

pub use create::{MakeError, make, make_and_use};
pub use delete::{TakeBackError, delete_surely, take_back};
pub use find::{Decided, FoundKey, decide, look_again};
pub use journal::Journal;
pub use prove::{first_session, identity, prove};
pub use status::{is_active, retire, set_active};

pub(crate) use prove::while_unknown;

//! One suite, run on SQLite and on PostgreSQL: what the store promises, whichever engine is inside.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod accounts;
mod audit;
mod crowds;
mod grants;
mod instances;
mod lanes;
mod login_flows;
mod operations;
mod rig;
mod schema;
mod sessions;
mod side_by_side;
mod upgrade;
mod upgrade_from_2;

/// Makes each of the named async functions of a module two tests: `sqlite::NAME` and `postgres::NAME`.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[test] fn $name() { $crate::rig::block_on(super::$name(&$crate::rig::Rig::sqlite())); })+
        }
        mod postgres {
            $(#[test] fn $name() { $crate::rig::block_on(super::$name(&$crate::rig::Rig::postgres())); })+
        }
    };
}
pub(crate) use on_both;

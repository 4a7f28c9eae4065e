//! The schema and its numbered migrations, each in one transaction.

use std::time::Duration;

use crate::StoreError;
use crate::chain::Head;
use crate::engine::{self, Connection, Connector, DbError, Dialect, params};
use crate::settings::{Engine, Settings};

/// What this program works with.
pub(crate) const VERSION: u32 = 2;

/// A step from one version to the next.
struct Migration {
    name: &'static str,
    /// For both engines.
    both: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
    /// What SQL alone can't do.
    then: fn(&mut dyn Connection) -> Result<(), DbError>,
}

/// The first brings version 0 (nothing) to 1. Never edited once released: a change is a new one at the end.
const MIGRATIONS: [Migration; VERSION as usize] = [
    Migration {
        name: "0001_first",
        both: include_str!("migrations/0001_first.sql"),
        sqlite: include_str!("migrations/0001_append_only.sqlite.sql"),
        postgres: include_str!("migrations/0001_append_only.postgres.sql"),
        then: Head::create,
    },
    Migration {
        name: "0002_second",
        both: concat!(
            include_str!("migrations/0002_keys.sql"),
            include_str!("migrations/0002_trail.sql"),
            include_str!("migrations/0002_sign_in.sql"),
        ),
        sqlite: "",
        postgres: "",
        then: |_| Ok(()),
    },
];

/// What [`crate::Store::migrate`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrateReport {
    /// The version that was found; 0 where there was nothing.
    pub from: u32,
    /// The version now.
    pub to: u32,
    /// The steps that were taken.
    pub applied: Vec<&'static str>,
}

/// Brings the schema to [`VERSION`].
pub(crate) fn migrate(settings: &Settings) -> Result<MigrateReport, StoreError> {
    // A step over a large table takes its time.
    let settings = Settings { timeout: Duration::from_secs(600), ..settings.clone() };
    let connector = Connector::new(&settings, true)?;
    let _lock = connector.lock()?;
    let mut connection = connector.connect(true)?;
    let connection = connection.as_mut();
    connection.begin()?;
    let report = steps(connection).inspect_err(|_| connection.rollback())?;
    connection.commit()?;
    Ok(report)
}

/// Whether there is a database with a schema. Makes nothing.
pub(crate) fn exists(settings: &Settings) -> Result<bool, StoreError> {
    if let Engine::Sqlite { path } = &settings.engine
        && !path.exists()
    {
        return Ok(false);
    }
    let mut connection = Connector::new(settings, false)?.connect(false)?;
    Ok(version(connection.as_mut())? > 0)
}

pub(crate) fn steps(connection: &mut dyn Connection) -> Result<MigrateReport, StoreError> {
    if connection.dialect() == Dialect::Postgres {
        // Two that migrate at once: the second waits, and finds nothing to do. The number is "iamsorry" in ASCII.
        connection.query(
            "SELECT CAST(1 AS BIGINT) FROM (SELECT pg_advisory_xact_lock(7593471063085052537)) AS l",
            &[],
        )?;
    }
    let from = version(connection)?;
    if from > VERSION {
        return Err(newer(from));
    }
    if from == 0 {
        connection.script("CREATE TABLE schema_version (version @INT NOT NULL PRIMARY KEY, applied_ms @INT NOT NULL) @STRICT")?;
    }
    let mut applied = Vec::new();
    for (number, step) in (1_u32..).zip(&MIGRATIONS).filter(|(number, _)| *number > from) {
        connection.script(step.both)?;
        connection.script(match connection.dialect() {
            Dialect::Sqlite => step.sqlite,
            Dialect::Postgres => step.postgres,
        })?;
        (step.then)(connection)?;
        connection.execute(
            "INSERT INTO schema_version (version, applied_ms) VALUES (?1, @NOW)",
            params![i64::from(number)],
        )?;
        applied.push(step.name);
    }
    Ok(MigrateReport { from, to: VERSION, applied })
}

/// Refuses a schema that is not this program's.
pub(crate) fn check(connection: &mut dyn Connection) -> Result<(), StoreError> {
    const MIGRATE: &str = "Run: iam-sorryd migrate --config FILE";
    match version(connection)? {
        VERSION => Ok(()),
        0 => Err(StoreError::Schema(format!("The database is empty.\n{MIGRATE}"))),
        older if older < VERSION => Err(StoreError::Schema(format!(
            "The database has schema {older}; this program works with {VERSION}.\n{MIGRATE} (after a backup)"
        ))),
        found => Err(newer(found)),
    }
}

fn newer(found: u32) -> StoreError {
    StoreError::Schema(format!(
        "The database has schema {found}, made by a newer iam-sorryd; this one knows {VERSION}.\n\
         Install the newer program again; there is no way back to an older schema but a backup."
    ))
}

/// 0 where there is no schema yet.
fn version(connection: &mut dyn Connection) -> Result<u32, StoreError> {
    let tables = match connection.dialect() {
        Dialect::Sqlite => {
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'schema_version'"
        }
        Dialect::Postgres => {
            "SELECT count(*) FROM pg_class WHERE relname = 'schema_version' AND relnamespace = current_schema()::regnamespace"
        }
    };
    let count = |rows: Vec<engine::Row>| {
        rows.first().map_or_else(|| Err(DbError::Other("no answer to a count".into())), |row| row.int(0))
    };
    if count(connection.query(tables, &[])?)? == 0 {
        return Ok(0);
    }
    let found = count(connection.query("SELECT coalesce(max(version), 0) FROM schema_version", &[])?)?;
    u32::try_from(found).map_err(|_| StoreError::Corrupt(format!("schema version {found}")))
}

#[cfg(test)]
mod tests {
    use iam_sorry_core::digest::sha256_hex;

    use super::*;

    /// What released programs have run is run as it was for ever. A change of the schema is a new migration, and a released
    /// one gets its line here.
    #[test]
    fn released_migrations_are_never_edited() {
        const RELEASED: [(&str, &str); 1] =
            [("0001_first", "77135e3938788dc8f92120574231fa75287d1096bb750d63436689b573a2609e")];
        for (migration, (name, digest)) in MIGRATIONS.iter().zip(RELEASED) {
            let sql = [migration.both, migration.sqlite, migration.postgres].map(str::as_bytes);
            assert_eq!((migration.name, sha256_hex(&sql).as_str()), (name, digest));
        }
    }
}

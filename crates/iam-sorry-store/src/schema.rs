//! The schema and its numbered migrations, each in one transaction.

use std::time::Duration;

use crate::StoreError;
use crate::engine::{self, Connection, Connector, DbError, Dialect, params};
use crate::lanes::create_trail;
use crate::settings::{Engine, Settings};

/// The schema of this program.
pub(crate) const VERSION: u32 = 3;

/// A step from one version to the next.
#[derive(Clone, Copy)]
pub(crate) struct Migration {
    name: &'static str,
    /// For both engines.
    both: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
    /// What SQL alone can't do.
    then: fn(&mut dyn Connection) -> Result<(), DbError>,
    /// The oldest schema whose programs can work with what this step leaves: its own version where the step takes away or
    /// changes what they use; the version before, or an older one, where it only adds.
    min_binary: u32,
}

/// The first brings version 0 (nothing) to 1. A step that has landed is never edited (a test keeps its digest): a change is a
/// new step at the end, which adds first and takes away a release later, so that two versions can run side by side.
pub(crate) const MIGRATIONS: [Migration; VERSION as usize] = [
    Migration {
        name: "0001_first",
        both: include_str!("migrations/0001_first.sql"),
        sqlite: include_str!("migrations/0001_append_only.sqlite.sql"),
        postgres: include_str!("migrations/0001_append_only.postgres.sql"),
        then: create_trail,
        min_binary: 1,
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
        min_binary: 2,
    },
    Migration {
        name: "0003_third",
        both: concat!(
            include_str!("migrations/0003_versions.sql"),
            include_str!("migrations/0003_login.sql"),
            include_str!("migrations/0003_accounts.sql"),
            include_str!("migrations/0003_audit.sql"),
        ),
        sqlite: include_str!("migrations/0003_audit.sqlite.sql"),
        postgres: include_str!("migrations/0003_audit.postgres.sql"),
        then: |_| Ok(()),
        min_binary: 3,
    },
];

/// The first schema whose tables say which programs can work with it.
const FIRST_WITH_MIN_BINARY: u32 = 3;

/// How long an instance may be silent before it counts as stopped. It says that it lives every few seconds.
const SILENT_MS: i64 = 60_000;

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

/// Takes those of a program's steps that the database lacks. It goes on being used meanwhile by the instances that can work
/// with what comes out; while there are others, nothing is done.
pub(crate) fn migrate(settings: &Settings, program: &[Migration]) -> Result<MigrateReport, StoreError> {
    // A step over a large table takes its time.
    let settings = Settings { timeout: Duration::from_secs(600), ..settings.clone() };
    let connector = Connector::new(&settings, true)?;
    let _lock = connector.lock()?;
    let mut connection = connector.connect(true)?;
    let connection = connection.as_mut();
    connection.begin()?;
    let report = steps(connection, program).inspect_err(|_| connection.rollback())?;
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

pub(crate) fn steps(
    connection: &mut dyn Connection,
    program: &[Migration],
) -> Result<MigrateReport, StoreError> {
    if connection.dialect() == Dialect::Postgres {
        // Two that migrate at once: the second waits, and finds nothing to do. The number is "iamsorry" in ASCII.
        connection.query(
            "SELECT CAST(1 AS BIGINT) FROM (SELECT pg_advisory_xact_lock(7593471063085052537)) AS l",
            &[],
        )?;
    }
    let from = version(connection)?;
    let to = newest(program);
    if from > to {
        check_newer(connection, from, to)?;
        return Ok(MigrateReport { from, to: from, applied: Vec::new() });
    }
    refuse_while_older_run(connection, from, program)?;
    if from == 0 {
        connection.script("CREATE TABLE schema_version (version @INT NOT NULL PRIMARY KEY, applied_ms @INT NOT NULL) @STRICT")?;
    }
    let mut applied = Vec::new();
    for (number, step) in missing(from, program) {
        connection.script(step.both)?;
        connection.script(match connection.dialect() {
            Dialect::Sqlite => step.sqlite,
            Dialect::Postgres => step.postgres,
        })?;
        (step.then)(connection)?;
        note_applied(connection, number, step)?;
        applied.push(step.name);
    }
    Ok(MigrateReport { from, to, applied })
}

fn newest(program: &[Migration]) -> u32 {
    u32::try_from(program.len()).unwrap_or(u32::MAX)
}

/// The steps that bring version `from` to the program's, each with the version that it leads to.
fn missing(from: u32, program: &[Migration]) -> impl Iterator<Item = (u32, &Migration)> {
    (1_u32..).zip(program).filter(move |(number, _)| *number > from)
}

fn note_applied(connection: &mut dyn Connection, number: u32, step: &Migration) -> Result<(), DbError> {
    let (version, min_binary) = (i64::from(number), i64::from(step.min_binary));
    if number < FIRST_WITH_MIN_BINARY {
        let sql = "INSERT INTO schema_version (version, applied_ms) VALUES (?1, @NOW)";
        return connection.execute(sql, params![version]).map(drop);
    }
    let sql = "INSERT INTO schema_version (version, applied_ms, min_binary) VALUES (?1, @NOW, ?2)";
    connection.execute(sql, params![version, min_binary]).map(drop)
}

/// No step is taken under an instance that can't work with what comes out.
fn refuse_while_older_run(
    connection: &mut dyn Connection,
    from: u32,
    program: &[Migration],
) -> Result<(), StoreError> {
    let needed = missing(from, program).map(|(_, step)| step.min_binary).max().unwrap_or(0);
    // On SQLite the lock has shown that no instance runs; there may be a row of one that was killed.
    if from == 0 || connection.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    let which = if from < FIRST_WITH_MIN_BINARY { "0 < ?2" } else { "binary_version < ?2" };
    let sql = format!(
        "SELECT id, (@NOW - beat_ms) / 1000 FROM instances WHERE beat_ms > @NOW - ?1 AND {which} ORDER BY id LIMIT 100"
    );
    let rows = connection.query(&sql, params![SILENT_MS, i64::from(needed)])?;
    let older = rows
        .into_iter()
        .map(|mut row| Ok::<_, DbError>(format!("{} ({} s ago)", row.text(0)?, row.int(1)?.max(0))))
        .collect::<Result<Vec<_>, _>>()?;
    if older.is_empty() {
        return Ok(());
    }
    Err(StoreError::Taken(format!(
        "Instances run whose program can't work with the new schema {}; last heard of: {}\nStop them and migrate again. One \
         that was killed counts as stopped once it has been silent for a minute.",
        newest(program),
        older.join(", ")
    )))
}

/// Refuses a schema that a program can't work with.
pub(crate) fn check(connection: &mut dyn Connection, program: u32) -> Result<(), StoreError> {
    const MIGRATE: &str = "Run: iam-sorryd migrate --config FILE";
    match version(connection)? {
        0 => Err(StoreError::Schema(format!("The database is empty.\n{MIGRATE}"))),
        older if older < program => Err(StoreError::Schema(format!(
            "The database has schema {older}; this program works with {program}.\n{MIGRATE} (after a backup)"
        ))),
        same if same == program => Ok(()),
        newer => check_newer(connection, newer, program),
    }
}

/// A newer program's schema can be worked with if that program said so.
fn check_newer(connection: &mut dyn Connection, found: u32, program: u32) -> Result<(), StoreError> {
    let sql = "SELECT min_binary FROM schema_version ORDER BY version DESC LIMIT 1";
    let min_binary =
        connection.query(sql, &[])?.first().map(|row| row.optional_int(0)).transpose()?.flatten();
    match min_binary {
        Some(min_binary) if min_binary <= i64::from(program) => Ok(()),
        _ => Err(too_new(found, program)),
    }
}

/// What a program says to a schema that it can't work with.
fn too_new(found: u32, program: u32) -> StoreError {
    StoreError::Schema(format!(
        "The database has schema {found}, made by a newer iam-sorryd, which a program of schema {program} such as this one can't \
         work with.\nInstall the newer program again; there is no way back to an older schema but a backup."
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
    number(found)
}

fn number(found: i64) -> Result<u32, StoreError> {
    u32::try_from(found).map_err(|_| StoreError::Corrupt(format!("schema version {found}")))
}

/// The schema now, for an instance that has long begun: version, and the oldest whose programs can work with it. Part of a
/// SELECT.
pub(crate) const NOW: &str = "(SELECT max(version) FROM schema_version),
    (SELECT min_binary FROM schema_version ORDER BY version DESC LIMIT 1)";

/// Whether a program can go on with what [`NOW`] says.
pub(crate) fn check_now(found: i64, min_binary: Option<i64>, program: u32) -> Result<(), StoreError> {
    let program = i64::from(program);
    if found <= program || min_binary.is_some_and(|min_binary| min_binary <= program) {
        return Ok(());
    }
    Err(too_new(number(found)?, u32::try_from(program).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests;

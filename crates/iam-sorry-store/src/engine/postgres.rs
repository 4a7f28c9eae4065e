//! PostgreSQL, with a time limit on everything.
//!
//! tokio-postgres on a small runtime of the thread's own, rather than the `postgres` crate: that one is the same
//! client without a way to stop waiting for a server that has gone silent. A statement that takes too long costs the
//! connection; the server's own limits, set on each session, then free the locks that it held.
//!
//! Of several hosts in the URL the first that takes writes is used, whether or not `target_session_attrs` asks for it: the
//! service has no use for another. They are tried here, one by one, since tokio-postgres gives all of them together one
//! time limit, which a host that hangs uses up, and lets a session that is read-only by its own wish not through.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{join, join_all};
use iam_sorry_net::{TrustRoots, client_config};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Runtime;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};
use tokio_postgres::{CancelToken, Client, NoTls, SimpleQueryMessage, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Cell, Connection, DbError, Dialect, Limit, Param, Row};

/// How many prepared statements a connection keeps. Filters make a few dozen different ones.
const STATEMENTS: usize = 128;

/// How many statements travel together at most; `join_all` keeps the order of up to 30.
const PENDING: usize = 24;

/// How long the server may take to stop a statement that it was asked to stop.
const CANCEL: Duration = Duration::from_secs(1);

/// How long connecting may take, TLS and authentication included; shared by all hosts in the URL ...
const CONNECT: Duration = Duration::from_secs(5);
/// ... of which each has at least this.
const CONNECT_EACH: Duration = Duration::from_secs(1);

/// What a server is, and that a reader's session shall not write, in one round trip.
const STANDING: &str = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only');";
const NO_WRITES: &str = "SET default_transaction_read_only = on";

/// A connection with the runtime that drives it.
pub(super) struct Postgres {
    runtime: Runtime,
    client: Client,
    statements: HashMap<String, Statement>,
    /// Statements that travel with the next one that is waited for.
    pending: Vec<(Statement, Vec<Param<'static>>)>,
    timeout: Duration,
    limit: Option<Limit>,
    /// What a request to stop a statement is sent with; none where the server is reached without TLS.
    tls: Option<MakeRustlsConnect>,
    broken: bool,
}

impl Postgres {
    pub(super) fn open(
        url: &SecretString,
        ca_pem: Option<&[u8]>,
        timeout: Duration,
        writes: bool,
    ) -> Result<Self, DbError> {
        let mut config = parse(url).map_err(DbError::Lost)?;
        let hosts = u32::try_from(count_hosts(&config)).unwrap_or(u32::MAX);
        let connecting = (timeout.min(CONNECT) / hosts.max(1)).max(CONNECT_EACH);
        config.connect_timeout(connecting).keepalives(true).keepalives_idle(Duration::from_secs(10));
        config.tcp_user_timeout(timeout).application_name("iam-sorryd");
        let millis = timeout.as_millis();
        // Our transactions never pause: one that does has lost its client, and its locks are wanted by other instances.
        let idle = millis / 2;
        let limits = format!(
            "-c statement_timeout={millis} -c lock_timeout={millis} -c idle_in_transaction_session_timeout={idle} \
             -c tcp_user_timeout={millis} -c synchronous_commit=on"
        );
        let options = config.get_options().map_or(limits.clone(), |own| format!("{own} {limits}"));
        config.options(&options);

        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| DbError::Lost(error.to_string()))?;
        let tls = if is_local(&config) && config.get_ssl_mode() != SslMode::Require {
            None
        } else {
            config.ssl_mode(SslMode::Require);
            Some(tls(ca_pem)?)
        };
        let mut failures = Vec::new();
        for host in each_host(&config) {
            match runtime.block_on(within(connecting, connect(&host, tls.clone(), writes))) {
                Ok(client) => {
                    return Ok(Self {
                        runtime,
                        client,
                        statements: HashMap::new(),
                        pending: Vec::new(),
                        timeout,
                        limit: None,
                        tls,
                        broken: false,
                    });
                }
                Err(error) => failures.push((host, error)),
            }
        }
        Err(all_failed(failures))
    }

    fn prepare(&mut self, sql: &str) -> Result<Statement, DbError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let text = Dialect::Postgres.translate(sql);
        let statement = self
            .runtime
            .block_on(within(self.timeout, async { Ok(self.client.prepare(&text).await?) }))
            .inspect_err(|error| self.broken |= ends(error))?;
        if self.statements.len() >= STATEMENTS {
            self.statements.clear();
        }
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Sends what was put off and then `work`, without waiting in between: one round trip for all. The first error counts; after
    /// it the server refuses the rest of the transaction.
    fn wait<T>(
        &mut self,
        work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, DbError> {
        if self.limit.as_ref().is_some_and(Limit::is_over) {
            return Err(DbError::Stopped);
        }
        let Self { runtime, client, pending, timeout, limit, tls, .. } = self;
        let before = pending.iter().map(|(statement, params)| async {
            let params = borrowed(params);
            client.execute(statement, &params).await
        });
        let running = within(*timeout, async {
            // Polled in this order, so sent in this order: `join_all` of up to 30 goes through them one by one.
            let (before, last) = join(join_all(before), work(client)).await;
            before.into_iter().collect::<Result<Vec<_>, _>>()?;
            Ok(last?)
        });
        let result = runtime.block_on(async {
            match limit {
                Some(limit) => stopped_at(limit, client.cancel_token(), tls.as_ref(), running).await,
                None => running.await,
            }
        });
        pending.clear();
        // A request to stop may arrive late, and must not hit the next statement of this connection.
        self.broken |= result.as_ref().is_err_and(ends);
        result
    }
}

impl Connection for Postgres {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, DbError> {
        let statement = self.prepare(sql)?;
        let params = borrowed(params);
        self.wait(async |client| client.execute(&statement, &params).await)
    }

    fn deferred(&mut self, sql: &str, params: &[Param<'_>]) -> Result<(), DbError> {
        let statement = self.prepare(sql)?;
        self.pending.push((statement, params.iter().cloned().map(Param::into_owned).collect()));
        if self.pending.len() < PENDING { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), DbError> {
        if self.pending.is_empty() { Ok(()) } else { self.wait(async |_| Ok(())) }
    }

    fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DbError> {
        let statement = self.prepare(sql)?;
        let params = borrowed(params);
        let rows = self.wait(async |client| client.query(&statement, &params).await)?;
        rows.iter().map(row).collect()
    }

    fn script(&mut self, sql: &str) -> Result<(), DbError> {
        let text = Dialect::Postgres.translate(sql).into_owned();
        self.wait(async |client| client.batch_execute(&text).await)
    }

    fn begin(&mut self) -> Result<(), DbError> {
        self.deferred("BEGIN", &[])
    }

    fn commit(&mut self) -> Result<(), DbError> {
        // Behind a statement that failed, COMMIT rolls back; the error is that statement's.
        self.execute("COMMIT", &[]).map(drop).map_err(|error| match error {
            DbError::Lost(text) => DbError::Unknown(text),
            other => other,
        })
    }

    fn rollback(&mut self) {
        self.pending.clear();
        if !self.broken && self.script("ROLLBACK").is_err() {
            self.broken = true;
        }
    }

    fn limit(&mut self, limit: Option<Limit>) -> Result<(), DbError> {
        self.limit = limit;
        Ok(())
    }

    fn is_broken(&self) -> bool {
        self.broken || self.client.is_closed()
    }
}

/// Whether the connection is of no more use after it: one that became read-only is left for a host that takes writes.
fn ends(error: &DbError) -> bool {
    matches!(error, DbError::Lost(_) | DbError::ReadOnly(_) | DbError::Stopped)
}

/// Connects to the only host of `config`, where that is of use: a reader needs one that is no standby, since that may lag
/// behind what was written; a writer one that takes writes.
async fn connect(
    config: &tokio_postgres::Config,
    tls: Option<MakeRustlsConnect>,
    writes: bool,
) -> Result<Client, Failure> {
    let client = match tls {
        None => {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(connection);
            client
        }
        Some(tls) => {
            let (client, connection) = config.connect(tls).await?;
            tokio::spawn(connection);
            client
        }
    };
    let question = if writes { STANDING.to_owned() } else { format!("{STANDING} {NO_WRITES}") };
    let answer = client.simple_query(&question).await?;
    let standing = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((row.get(0) == Some("t"), row.get(1) == Some("on"))),
        _ => None,
    });
    match standing {
        Some((true, _)) => {
            Err(DbError::ReadOnly(format!("PostgreSQL: the server is a standby\n{WRITABLE}")).into())
        }
        Some((false, true)) if writes => {
            Err(DbError::ReadOnly(format!("PostgreSQL: the server is set to read-only\n{WRITABLE}")).into())
        }
        Some(_) => Ok(client),
        None => Err(DbError::Lost("PostgreSQL does not say whether it takes writes".into()).into()),
    }
}

/// The way out where a server takes no writes.
const WRITABLE: &str = "Name the primary in the URL, or all servers (HOST1,HOST2: the one that takes writes is used); or end its \
                        default_transaction_read_only.";

fn count_hosts(config: &tokio_postgres::Config) -> usize {
    config.get_hosts().len().max(config.get_hostaddrs().len())
}

/// The configuration for each host alone, in the URL's order.
fn each_host(config: &tokio_postgres::Config) -> impl Iterator<Item = tokio_postgres::Config> + '_ {
    (0..count_hosts(config)).map(|at| {
        let mut one = tokio_postgres::Config::new();
        match config.get_hosts().get(at) {
            Some(Host::Tcp(name)) => {
                one.host(name);
            }
            Some(Host::Unix(path)) => {
                one.host_path(path);
            }
            None => {}
        }
        if let Some(address) = config.get_hostaddrs().get(at) {
            one.hostaddr(*address);
        }
        let ports = config.get_ports();
        if let Some(port) = ports.get(at).or_else(|| ports.first()) {
            one.port(*port);
        }
        if let Some(user) = config.get_user() {
            one.user(user);
        }
        if let Some(name) = config.get_dbname() {
            one.dbname(name);
        }
        if let Some(options) = config.get_options() {
            one.options(options);
        }
        if let Some(name) = config.get_application_name() {
            one.application_name(name);
        }
        if let Some(password) = config.get_password() {
            one.password(password);
        }
        one.ssl_mode(config.get_ssl_mode())
            .ssl_negotiation(config.get_ssl_negotiation())
            .channel_binding(config.get_channel_binding())
            .load_balance_hosts(config.get_load_balance_hosts())
            .keepalives(config.get_keepalives())
            .keepalives_idle(config.get_keepalives_idle());
        if let Some(limit) = config.get_connect_timeout() {
            one.connect_timeout(*limit);
        }
        if let Some(limit) = config.get_tcp_user_timeout() {
            one.tcp_user_timeout(*limit);
        }
        one
    })
}

/// What to report when no host was of use: of several the error that an operator must act on, with the words of all.
fn all_failed(mut failures: Vec<(tokio_postgres::Config, DbError)>) -> DbError {
    if failures.len() <= 1 {
        let error = failures.pop().map(|(_, error)| error);
        return error.unwrap_or_else(|| DbError::Lost("the PostgreSQL URL names no host".into()));
    }
    let weight = |error: &DbError| match error {
        DbError::Denied(_) => 2,
        DbError::ReadOnly(_) => 1,
        _ => 0,
    };
    let worst = failures.iter().map(|(_, error)| weight(error)).max().unwrap_or(0);
    let texts: Vec<String> = failures
        .into_iter()
        .map(|(host, error)| format!("{}: {}", name_of(&host), error.into_text()))
        .collect();
    let text = texts.join("\n");
    match worst {
        2 => DbError::Denied(text),
        1 => DbError::ReadOnly(text),
        _ => DbError::Lost(text),
    }
}

fn name_of(host: &tokio_postgres::Config) -> String {
    let name = match (host.get_hosts().first(), host.get_hostaddrs().first()) {
        (Some(Host::Tcp(name)), _) => name.clone(),
        (Some(Host::Unix(path)), _) => path.display().to_string(),
        (None, Some(address)) => address.to_string(),
        (None, None) => String::new(),
    };
    match host.get_ports().first() {
        Some(port) => format!("{name} port {port}"),
        None => name,
    }
}

/// Whether every host is this machine, where TLS protects nothing.
fn is_local(config: &tokio_postgres::Config) -> bool {
    let by_name = config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    });
    // `hostaddr` is where it really goes.
    by_name && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

/// Reads the URL. The error never repeats it: it has a password in it.
fn parse(url: &SecretString) -> Result<tokio_postgres::Config, String> {
    const FORM: &str = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE";
    let config: tokio_postgres::Config = url.expose_secret().parse().map_err(|error| {
        // Of an option, its name alone is said, and the driver only has names that it knows itself.
        let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        match why.strip_prefix("invalid value for option ") {
            Some(option) => {
                format!("The PostgreSQL URL has an invalid value for {option}.\nCorrect it, or leave it out.")
            }
            None => format!("The PostgreSQL URL is not of the form {FORM}."),
        }
    })?;
    let (hosts, addresses) = (config.get_hosts().len(), config.get_hostaddrs().len());
    if hosts == 0 && addresses == 0 {
        return Err(format!("The PostgreSQL URL names no host: {FORM}."));
    }
    if hosts > 0 && addresses > 0 && hosts != addresses {
        return Err(
            "The PostgreSQL URL has another number of hosts than of hostaddr.\nGive each host one, or none."
                .into(),
        );
    }
    let ports = config.get_ports().len();
    if ports > 1 && ports != hosts.max(addresses) {
        return Err("The PostgreSQL URL has another number of ports than of hosts.\nGive each host one, or one for all.".into());
    }
    Ok(config)
}

/// What the settings check beforehand.
pub(super) fn check(url: &SecretString) -> Result<(), String> {
    let config = parse(url)?;
    if config.get_target_session_attrs() == TargetSessionAttrs::ReadOnly {
        return Err("The PostgreSQL URL has target_session_attrs=read-only, but the service writes.\nRemove it: of several hosts \
                    the one that takes writes is used.".into());
    }
    if !is_local(&config) && config.get_ssl_mode() == SslMode::Disable {
        return Err("The PostgreSQL URL has sslmode=disable, but the server is another machine.\nRemove it: TLS is always used there.".into());
    }
    Ok(())
}

/// Certificates are always checked, as libpq's `sslmode=verify-full` does: by the given authorities, else the system's.
fn tls(ca_pem: Option<&[u8]>) -> Result<MakeRustlsConnect, DbError> {
    let config = match ca_pem {
        Some(pem) => client_config(TrustRoots::Pem(pem)).map_err(|error| format!("the CA file: {error}")),
        None => client_config(TrustRoots::System).map_err(|error| error.to_string()),
    };
    config.map(MakeRustlsConnect::new).map_err(DbError::Lost)
}

/// The result of `running`, which the server is asked to stop when the limit is over.
async fn stopped_at<T>(
    limit: &Limit,
    cancel: CancelToken,
    tls: Option<&MakeRustlsConnect>,
    running: impl Future<Output = Result<T, DbError>>,
) -> Result<T, DbError> {
    let mut running = pin!(running);
    tokio::select! {
        biased;
        result = &mut running => return result,
        () = limit.over() => {}
    }
    let stop = async {
        let sent = match tls {
            Some(tls) => cancel.cancel_query(tls.clone()).await,
            None => cancel.cancel_query(NoTls).await,
        };
        // It has ended, by the request or by itself.
        if sent.is_ok() {
            let _ = running.await;
        }
        sent.is_ok()
    };
    match tokio::time::timeout(CANCEL, stop).await {
        Ok(true) => Err(DbError::Stopped),
        _ => Err(DbError::Lost("PostgreSQL does not answer".into())),
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, DbError> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result.map_err(|Failure(error)| error),
        Err(_) => Err(DbError::Lost(format!("PostgreSQL did not answer within {} s", limit.as_secs_f32()))),
    }
}

/// Both kinds of errors on the way, as ours.
struct Failure(DbError);

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        Self(error)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self(failed(&error))
    }
}

fn failed(error: &tokio_postgres::Error) -> DbError {
    let Some(server) = error.as_db_error() else {
        // Broken pipe, end of stream, refused, TLS: the cause has the words that help.
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        return DbError::Lost(format!("PostgreSQL: {error}{cause}"));
    };
    // `message` is the server's own sentence; `detail` may repeat a row's values and is left out.
    let text = format!("PostgreSQL: {} ({})", server.message(), server.code().code());
    let code = server.code();
    classified(code.code(), text)
}

/// What an error code of the server's means to us (PostgreSQL manual, appendix A). What another connection, or the same
/// one a moment later, may get done is `Lost` or `Busy`; what only the operator can change is called what it is.
fn classified(code: &str, text: String) -> DbError {
    let with = |way_out: &str| format!("{text}\n{way_out}");
    match code {
        "23505" => DbError::Duplicate(text),
        "25006" => DbError::ReadOnly(with(WRITABLE)),
        // Insufficient privilege.
        "42501" => DbError::Denied(with(
            "Give its role the rights to the service's tables: run iam-sorryd migrate and serve as the same role.",
        )),
        "28P01" => DbError::Denied(with("Correct the password in the URL.")),
        "28000" => {
            DbError::Denied(with("Correct the user in the URL, or let it in (CREATE ROLE, pg_hba.conf)."))
        }
        "3D000" => DbError::Denied(with("Create the database, or correct its name in the URL.")),
        "3F000" => DbError::Denied(with("Create the schema, or correct the search_path of its role.")),
        // Too many connections.
        "53300" => DbError::Lost(with("Raise max_connections, or lower readers in [store].")),
        "53100" => DbError::Full(text),
        // An I/O error: a full disk has a code of its own, the one before.
        "58030" => DbError::Unwritable(text),
        // Nobody knows whether it was committed.
        "08007" | "40003" => DbError::Unknown(text),
        // A time limit, a lock that somebody has, an object in use.
        "57014" | "55P03" | "55006" => DbError::Busy(text),
        _ => match code.get(..2) {
            // Serialisation failures and deadlocks.
            Some("40") => DbError::Busy(text),
            // The connection (08), the transaction's state (25), resources (53), the server's stop and start (57: 57P01
            // admin_shutdown, 57P03 cannot_connect_now), its system (58).
            Some("08" | "25" | "28" | "53" | "57" | "58") => DbError::Lost(text),
            _ => DbError::Other(text),
        },
    }
}

fn borrowed<'a>(params: &'a [Param<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|param| param as &(dyn ToSql + Sync)).collect()
}

impl ToSql for Param<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Param::Null => Ok(IsNull::Yes),
            Param::Int(number) if *ty == Type::INT4 => i32::try_from(*number)?.to_sql(ty, out),
            Param::Int(number) => number.to_sql(ty, out),
            Param::Text(text) => text.as_ref().to_sql(ty, out),
            Param::Blob(bytes) => bytes.as_ref().to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT8 | Type::INT4 | Type::TEXT | Type::VARCHAR | Type::BYTEA)
    }

    to_sql_checked!();
}

fn row(row: &tokio_postgres::Row) -> Result<Row, DbError> {
    let cells = row.columns().iter().enumerate().map(|(index, column)| {
        let cell = match *column.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(index).map(|value| value.map(Cell::Int)),
            Type::INT4 => {
                row.try_get::<_, Option<i32>>(index).map(|value| value.map(|n| Cell::Int(n.into())))
            }
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(index).map(|value| value.map(Cell::Blob)),
            _ => row.try_get::<_, Option<String>>(index).map(|value| value.map(Cell::Text)),
        };
        cell.map(|cell| cell.unwrap_or(Cell::Null)).map_err(|error| DbError::Other(error.to_string()))
    });
    cells.collect::<Result<_, _>>().map(Row)
}

#[cfg(test)]
mod tests;

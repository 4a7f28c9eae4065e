//! PostgreSQL, with a time limit on everything.
//!
//! tokio-postgres on a small runtime of the thread's own, rather than the `postgres` crate: that one is the same
//! client without a way to stop waiting for a server that has gone silent. A statement that takes too long costs the
//! connection; the server's own limits, set on each session, then free the locks that it held.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Runtime;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};
use tokio_postgres::{CancelToken, Client, NoTls, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Cell, Connection, DbError, Dialect, Limit, Param, Row};

/// How many prepared statements a connection keeps. Filters make a few dozen different ones.
const STATEMENTS: usize = 128;

/// How many statements travel together at most; `join_all` keeps the order of up to 30.
const PENDING: usize = 24;

/// How long the server may take to stop a statement that it was asked to stop.
const CANCEL: Duration = Duration::from_secs(1);

/// How long connecting may take, TLS and authentication included.
const CONNECT: Duration = Duration::from_secs(5);

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
        let connecting = timeout.min(CONNECT);
        config.connect_timeout(connecting).keepalives(true).keepalives_idle(Duration::from_secs(10));
        config.tcp_user_timeout(timeout).application_name("iam-sorryd");
        let millis = timeout.as_millis();
        // Our transactions never pause: one that does has lost its client, and its locks are wanted by other instances.
        let idle = millis / 2;
        let limits = format!(
            "-c statement_timeout={millis} -c lock_timeout={millis} -c idle_in_transaction_session_timeout={idle} \
             -c tcp_user_timeout={millis} -c default_transaction_read_only={} -c synchronous_commit=on",
            if writes { "off" } else { "on" }
        );
        let options = config.get_options().map_or(limits.clone(), |own| format!("{own} {limits}"));
        config.options(&options);

        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| DbError::Lost(error.to_string()))?;
        let plain = is_local(&config) && config.get_ssl_mode() != SslMode::Require;
        let tls = if plain { None } else { Some(tls(ca_pem)?) };
        let client = runtime.block_on(async {
            within(connecting, async {
                if let Some(tls) = tls.clone() {
                    config.ssl_mode(SslMode::Require);
                    let (client, connection) = config.connect(tls).await?;
                    tokio::spawn(connection);
                    Ok(client)
                } else {
                    let (client, connection) = config.connect(NoTls).await?;
                    tokio::spawn(connection);
                    Ok(client)
                }
            })
            .await
        })?;
        Ok(Self {
            runtime,
            client,
            statements: HashMap::new(),
            pending: Vec::new(),
            timeout,
            limit: None,
            tls,
            broken: false,
        })
    }

    fn prepare(&mut self, sql: &str) -> Result<Statement, DbError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let text = Dialect::Postgres.translate(sql);
        let statement = self
            .runtime
            .block_on(within(self.timeout, async { Ok(self.client.prepare(&text).await?) }))
            .inspect_err(|error| self.broken |= matches!(error, DbError::Lost(_)))?;
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
        if matches!(result, Err(DbError::Lost(_) | DbError::Stopped)) {
            self.broken = true;
        }
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

    fn later(&mut self, sql: &str, params: &[Param<'_>]) -> Result<(), DbError> {
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
        self.later("BEGIN", &[])
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
    let config: tokio_postgres::Config =
        url.expose_secret().parse().map_err(|_| format!("The PostgreSQL URL is not of the form {FORM}."))?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(format!("The PostgreSQL URL names no host: {FORM}."));
    }
    Ok(config)
}

/// What the settings check beforehand.
pub(super) fn check(url: &SecretString) -> Result<(), String> {
    let config = parse(url)?;
    if !is_local(&config) && config.get_ssl_mode() == SslMode::Disable {
        return Err("The PostgreSQL URL has sslmode=disable, but the server is another machine.\nRemove it: TLS is always used there.".into());
    }
    Ok(())
}

/// Certificates are always checked, as libpq's `sslmode=verify-full` does: by the given authorities, else the system's.
fn tls(ca_pem: Option<&[u8]>) -> Result<MakeRustlsConnect, DbError> {
    let mut roots = rustls::RootCertStore::empty();
    match ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate =
                    certificate.map_err(|error| DbError::Lost(format!("the CA file: {error}")))?;
                roots.add(certificate).map_err(|error| DbError::Lost(format!("the CA file: {error}")))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| DbError::Lost(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
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
    // Appendix A of the PostgreSQL manual: classes 08, 28, 3D and 57 are about the connection, 40 and 55 about others'
    // locks, 53 about resources.
    match code.code().get(..2) {
        _ if *code == SqlState::UNIQUE_VIOLATION => DbError::Duplicate(text),
        _ if *code == SqlState::QUERY_CANCELED || *code == SqlState::LOCK_NOT_AVAILABLE => {
            DbError::Busy(text)
        }
        _ if *code == SqlState::DISK_FULL || *code == SqlState::IO_ERROR => DbError::Full(text),
        _ if *code == SqlState::READ_ONLY_SQL_TRANSACTION => DbError::Full(text),
        Some("40" | "55") => DbError::Busy(text),
        Some("08" | "28" | "3D" | "53" | "57" | "25" | "58") => DbError::Lost(text),
        _ => DbError::Other(text),
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

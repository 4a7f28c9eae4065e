//! Connections to the directory: TLS that is never given up, fail-over, one shared connection that searches, and a new
//! one for each password, so that no answer of one person's bind can be taken for another's.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use iam_sorry_net::{TrustError, TrustRoots, client_config};
use ldap3::adapters::{Adapter, EntriesOnly, PagedResults};
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchEntry, SearchOptions, StdStream};
use rustls::ClientConfig;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;

use super::breaker::Breaker;
use super::failure::Failure;
use super::settings::{LdapSettings, Server, Transport};
use crate::login::error::SettingsError;
use crate::login::singleflight::Singleflight;

/// LDAP result codes (RFC 4511, appendix A) that a refused bind comes with; any other is a fault of the directory.
const CONSTRAINT_VIOLATION: u32 = 19;
const NO_SUCH_OBJECT: u32 = 32;
const INVALID_DN: u32 = 34;
const INAPPROPRIATE_AUTHENTICATION: u32 = 48;
const INVALID_CREDENTIALS: u32 = 49;
const INSUFFICIENT_ACCESS: u32 = 50;
const UNWILLING: u32 = 53;
/// More entries match than were asked for.
const SIZE_LIMIT: u32 = 4;

/// What the directory said to a name and a password.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bind {
    /// They are right.
    Accepted,
    /// They are not, with the code and text for the log.
    Refused { code: u32, text: String },
}

/// The entries and attributes to look for.
#[derive(Clone, Debug)]
pub(super) struct Query<'a> {
    pub base: &'a str,
    pub scope: Scope,
    pub filter: String,
    pub attributes: Vec<String>,
    /// More than this are [`Failure::TooMany`].
    pub limit: i32,
}

/// Cheap to clone. No lock is held while another machine is waited for.
#[derive(Clone)]
pub(super) struct Connections(Arc<Inner>);

struct Inner {
    servers: Vec<Server>,
    /// The one that answered last.
    preferred: AtomicUsize,
    /// None if every server is plain LDAP on this machine.
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
    searcher: Option<(String, SecretString)>,
    shared: Mutex<Option<Connection>>,
    opening: Singleflight<Result<Connection, Failure>>,
    opened: AtomicU64,
    breaker: Breaker,
}

/// A connection, and to which server.
#[derive(Clone)]
struct Connection {
    ldap: Ldap,
    server: usize,
    number: u64,
}

impl Connections {
    pub fn new(settings: &LdapSettings, password: Option<SecretString>) -> Result<Self, SettingsError> {
        let searcher = match (&settings.bind_dn, password) {
            (Some(dn), Some(password)) => Some((dn.clone(), password)),
            _ => None,
        };
        let servers = settings.servers()?;
        Ok(Self(Arc::new(Inner {
            tls: tls(settings, &servers)?.map(Arc::new),
            servers,
            preferred: AtomicUsize::new(0),
            timeout: settings.timeout(),
            searcher,
            shared: Mutex::new(None),
            opening: Singleflight::default(),
            opened: AtomicU64::new(0),
            breaker: Breaker::default(),
        })))
    }

    /// Why the directory is left alone now, if it is.
    pub fn problem(&self) -> Option<String> {
        self.0.breaker.problem()
    }

    /// Searches as the service's own account. A connection that broke meanwhile (a directory that was restarted) is made
    /// anew once.
    pub async fn search(&self, query: &Query<'_>) -> Result<Vec<SearchEntry>, Failure> {
        let pass = self.0.breaker.admit(Instant::now())?;
        let found = self.search_twice(query).await;
        pass.settle(&found, Instant::now());
        found
    }

    async fn search_twice(&self, query: &Query<'_>) -> Result<Vec<SearchEntry>, Failure> {
        let timeout = self.0.timeout;
        for last in [false, true] {
            let mut connection = self.searching().await?;
            let searching = guarded(search(&mut connection.ldap, query, timeout));
            let searched = tokio::time::timeout(timeout * 2, searching).await;
            match searched {
                Ok(Err(LdapError::LdapResult { result })) if result.rc == SIZE_LIMIT => {
                    return Err(Failure::TooMany);
                }
                // An entry that is gone. Where the base of all entries is, nobody would have any groups: that is a fault.
                Ok(Err(LdapError::LdapResult { result }))
                    if result.rc == NO_SUCH_OBJECT && query.scope == Scope::Base =>
                {
                    return Ok(Vec::new());
                }
                Ok(Err(LdapError::LdapResult { result })) => {
                    return Err(Failure::Answer(format!("the search was refused: {result}")));
                }
                Ok(Ok(entries)) => return Ok(entries),
                // Not tried again: whoever waits has waited long enough.
                Err(_) | Ok(Err(LdapError::Timeout { .. })) => {
                    self.hangs(&connection);
                    return Err(too_slow());
                }
                Ok(Err(error)) => {
                    self.forget(&connection);
                    if last {
                        return Err(Failure::Connection(error.to_string()));
                    }
                }
            }
        }
        Err(Failure::Connection("the connection broke twice".to_owned()))
    }

    /// Every entry that matches, in pages (RFC 2696).
    pub async fn search_all(&self, query: &Query<'_>) -> Result<Vec<SearchEntry>, Failure> {
        let pass = self.0.breaker.admit(Instant::now())?;
        let found = self.search_pages(query).await;
        pass.settle(&found, Instant::now());
        found
    }

    async fn search_pages(&self, query: &Query<'_>) -> Result<Vec<SearchEntry>, Failure> {
        let mut connection = self.searching().await?;
        let timeout = self.0.timeout;
        let paged: Vec<Box<dyn Adapter<'_, String, Vec<String>>>> =
            vec![Box::new(EntriesOnly::new()), Box::new(PagedResults::new(500))];
        let ldap = &mut connection.ldap;
        let all = async {
            let mut stream = ldap
                .with_timeout(timeout)
                .streaming_search_with(
                    paged,
                    query.base,
                    query.scope,
                    &query.filter,
                    query.attributes.clone(),
                )
                .await?;
            let mut entries = Vec::new();
            while let Some(entry) = stream.next().await? {
                entries.push(SearchEntry::construct(entry));
                if entries.len() > usize::try_from(query.limit).unwrap_or(0) {
                    return Ok(None);
                }
            }
            stream.finish().await.success()?;
            Ok::<_, LdapError>(Some(entries))
        };
        match tokio::time::timeout(timeout * 6, guarded(all)).await {
            Ok(Ok(Some(entries))) => Ok(entries),
            Ok(Ok(None)) => Err(Failure::TooMany),
            Ok(Err(LdapError::LdapResult { result })) => Err(Failure::Answer(result.to_string())),
            Err(_) | Ok(Err(LdapError::Timeout { .. })) => {
                self.hangs(&connection);
                Err(too_slow())
            }
            Ok(Err(error)) => {
                self.forget(&connection);
                Err(Failure::Connection(error.to_string()))
            }
        }
    }

    /// Tries a password on a connection of its own. An empty one never reaches the server: to many it is an anonymous
    /// bind, which succeeds (RFC 4513, section 5.1.2); nor does one with NUL, where some servers stop reading.
    pub async fn bind(&self, dn: &str, password: &SecretString) -> Result<Bind, Failure> {
        let secret = password.expose_secret();
        if dn.trim().is_empty() || secret.is_empty() || secret.contains('\0') {
            return Ok(Bind::Refused { code: UNWILLING, text: "not sent".to_owned() });
        }
        let pass = self.0.breaker.admit(Instant::now())?;
        let bound = self.bind_alone(dn, secret).await;
        pass.settle(&bound, Instant::now());
        bound
    }

    async fn bind_alone(&self, dn: &str, secret: &str) -> Result<Bind, Failure> {
        let mut connection = self.open().await?;
        let bound = bind(&mut connection.ldap, dn, secret, self.0.timeout).await;
        match &bound {
            // Nothing more to say to one that does not listen.
            Err(Failure::Connection(_) | Failure::Hangs(_)) => self.hangs(&connection),
            // The answer is there already; a directory that doesn't say goodbye changes nothing.
            _ => {
                let _ = connection.ldap.with_timeout(self.0.timeout).unbind().await;
            }
        }
        bound
    }

    /// The connection that searches, bound as the service's account. Who comes while it is being opened waits for that.
    async fn searching(&self) -> Result<Connection, Failure> {
        if let Some(connection) = self.kept() {
            return Ok(connection);
        }
        let connections = self.clone();
        let opened = self.0.opening.run(|| async move { connections.open_searching().await }).await;
        opened.unwrap_or_else(|| Err(Failure::Connection("it could not be connected to".to_owned())))
    }

    fn kept(&self) -> Option<Connection> {
        let mut shared = self.shared();
        let connection = shared.as_mut()?;
        (!connection.ldap.is_closed()).then(|| connection.clone())
    }

    async fn open_searching(&self) -> Result<Connection, Failure> {
        if let Some(connection) = self.kept() {
            return Ok(connection);
        }
        let mut connection = self.open().await?;
        if let Some((dn, password)) = &self.0.searcher {
            match bind(&mut connection.ldap, dn, password.expose_secret(), self.0.timeout).await {
                Ok(Bind::Accepted) => {}
                Ok(Bind::Refused { code, text }) => {
                    return Err(Failure::Answer(format!(
                        "the directory refuses the service's own account {dn} (code {code}: {text})"
                    )));
                }
                Err(failure) => {
                    self.hangs(&connection);
                    return Err(failure);
                }
            }
        }
        *self.shared() = Some(connection.clone());
        Ok(connection)
    }

    /// Opens the next one anew, if it is still this one that is kept.
    fn forget(&self, connection: &Connection) {
        let mut shared = self.shared();
        if shared.as_ref().is_some_and(|kept| kept.number == connection.number) {
            *shared = None;
        }
    }

    /// A server that takes connections and then says nothing would be chosen again and again: the next one has its turn.
    fn hangs(&self, connection: &Connection) {
        self.forget(connection);
        let next = (connection.server + 1) % self.0.servers.len().max(1);
        let _ =
            self.0.preferred.compare_exchange(connection.server, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn shared(&self) -> MutexGuard<'_, Option<Connection>> {
        self.0.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to the first server that answers, beginning with the one that did last time.
    async fn open(&self) -> Result<Connection, Failure> {
        let inner = &self.0;
        let first = inner.preferred.load(Ordering::Relaxed);
        let (mut failures, mut hangs) = (Vec::new(), false);
        for step in 0..inner.servers.len() {
            let index = (first + step) % inner.servers.len();
            let Some(server) = inner.servers.get(index) else { continue };
            match tokio::time::timeout(inner.timeout, guarded(inner.connect(server))).await {
                Ok(Ok(ldap)) => {
                    inner.preferred.store(index, Ordering::Relaxed);
                    let number = inner.opened.fetch_add(1, Ordering::Relaxed);
                    return Ok(Connection { ldap, server: index, number });
                }
                Ok(Err(error)) => failures.push(format!("{}:{}: {error}", server.host, server.port)),
                Err(_) => {
                    hangs = true;
                    failures.push(format!("{}:{}: no answer", server.host, server.port));
                }
            }
        }
        let failures = failures.join("; ");
        Err(if hangs { Failure::Hangs(failures) } else { Failure::Connection(failures) })
    }
}

fn too_slow() -> Failure {
    Failure::Hangs("the directory took too long".to_owned())
}

impl Inner {
    async fn connect(&self, server: &Server) -> Result<Ldap, LdapError> {
        let stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
        // The configuration allows plain connections to loopback by name; here is what the name really meant.
        if server.transport == Transport::Plain && !stream.peer_addr()?.ip().is_loopback() {
            return Err(LdapError::from(std::io::Error::other(
                "is not this machine: without TLS no password is sent there",
            )));
        }
        let host = match server.host.contains(':') {
            true => format!("[{}]", server.host),
            false => server.host.clone(),
        };
        let (scheme, start_tls) = match server.transport {
            Transport::Ldaps => ("ldaps", false),
            Transport::StartTls => ("ldap", true),
            Transport::Plain => ("ldap", false),
        };
        let mut settings = LdapConnSettings::new()
            .set_starttls(start_tls)
            .set_std_stream(StdStream::Tcp(stream.into_std()?));
        if let Some(tls) = &self.tls {
            settings = settings.set_config(Arc::clone(tls));
        }
        let url = format!("{scheme}://{host}:{}", server.port);
        let (connection, ldap) = LdapConnAsync::with_settings(settings, &url).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.drive().await {
                tracing::debug!(%error, "a connection to the directory ended");
            }
        });
        Ok(ldap)
    }
}

/// The LDAP library panics over some answers that no directory gives. A panic is no answer.
async fn guarded<T>(asking: impl Future<Output = Result<T, LdapError>>) -> Result<T, LdapError> {
    let caught = AssertUnwindSafe(asking).catch_unwind().await;
    caught.unwrap_or_else(|_| Err(std::io::Error::other("an answer that can't be read").into()))
}

async fn search(
    ldap: &mut Ldap,
    query: &Query<'_>,
    timeout: Duration,
) -> Result<Vec<SearchEntry>, LdapError> {
    let seconds = i32::try_from(timeout.as_secs()).unwrap_or(5);
    let options = SearchOptions::new().sizelimit(query.limit).timelimit(seconds);
    let (entries, _) = ldap
        .with_search_options(options)
        .with_timeout(timeout)
        .search(query.base, query.scope, &query.filter, query.attributes.clone())
        .await?
        .success()?;
    // References to other servers are not followed: they would be sent our search, and asked for their word.
    let entries = entries.into_iter().filter(|entry| !entry.is_ref() && !entry.is_intermediate());
    Ok(entries.map(SearchEntry::construct).collect())
}

async fn bind(ldap: &mut Ldap, dn: &str, password: &str, timeout: Duration) -> Result<Bind, Failure> {
    let answer =
        guarded(ldap.with_timeout(timeout).simple_bind(dn, password)).await.map_err(|error| match error {
            LdapError::Timeout { .. } => too_slow(),
            other => Failure::Connection(other.to_string()),
        })?;
    match answer.rc {
        0 => Ok(Bind::Accepted),
        CONSTRAINT_VIOLATION
        | NO_SUCH_OBJECT
        | INVALID_DN
        | INAPPROPRIATE_AUTHENTICATION
        | INVALID_CREDENTIALS
        | INSUFFICIENT_ACCESS
        | UNWILLING => Ok(Bind::Refused { code: answer.rc, text: answer.text }),
        _ => Err(Failure::Answer(format!("the bind was not answered: {answer}"))),
    }
}

/// A CA file is read even if nothing needs it: a mistake in it shows before the first server that does.
fn tls(settings: &LdapSettings, servers: &[Server]) -> Result<Option<ClientConfig>, SettingsError> {
    let wrong = |what: String| SettingsError::new("login.ldap.ca_file", &what);
    let Some(file) = &settings.ca_file else {
        let needed = servers.iter().any(|server| server.transport != Transport::Plain);
        let config = needed.then(|| client_config(TrustRoots::System)).transpose();
        return config.map_err(|error| wrong(error.to_string()));
    };
    let shown = file.display();
    let pem = std::fs::read(file).map_err(|error| wrong(format!("{shown} can't be read: {error}")))?;
    client_config(TrustRoots::Pem(&pem)).map(Some).map_err(|error| match error {
        TrustError::NoCertificate => wrong(format!("{shown} holds no certificate")),
        error => wrong(format!("{shown}: {error}")),
    })
}

//! The service's own AWS credentials, kept fresh: temporary ones are read again before they end, so that whatever
//! renews the file or answers the program is all that is needed.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use iam_sorry_core::aws_files::{Document, FileKind};
use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::process_json;
use iam_sorry_core::timestamp::Timestamp;
use rustix::fs::{Access, access};
use secrecy::SecretString;
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::accounts::settings::IdentitySource;
use crate::secret_ref::SecretRef;

/// Credentials that end within this time are read again first.
const EARLY: i64 = 5 * 60;

/// Credentials without an end that come from a file or a program are read again this often, since they may be rotated.
const RE_READ: i64 = 60;

/// A program that takes longer has failed.
const PROGRAM_TIME: Duration = Duration::from_secs(60);

/// No credentials are larger.
const LARGEST: u64 = 64 << 10;

/// Why the service has no AWS identity. Never shows a secret.
#[derive(Debug, thiserror::Error)]
#[error("The service's AWS identity can't be had: {0}")]
pub struct IdentityError(String);

/// Gives the credentials to act with.
#[derive(Debug)]
pub struct ServiceIdentity {
    source: IdentitySource,
    /// Variables that the program does not see.
    hidden: Vec<String>,
    current: ArcSwapOption<Held>,
    reading: Mutex<()>,
}

#[derive(Debug)]
struct Held {
    credentials: Arc<Credentials>,
    read_at: i64,
}

impl ServiceIdentity {
    /// Reads nothing yet.
    pub fn new(source: IdentitySource) -> Self {
        Self { source, hidden: Vec::new(), current: ArcSwapOption::empty(), reading: Mutex::new(()) }
    }

    /// The same, whose program does not see these variables: the service's other secrets are none of its business.
    #[must_use]
    pub fn hiding(self, variables: Vec<String>) -> Self {
        Self { hidden: variables, ..self }
    }

    /// The credentials as they are now. The same `Arc` until they change, so that a caller may keep what it made of them.
    ///
    /// # Errors
    /// [`IdentityError`] if they can't be read, or have ended. While older ones are still good, they are used instead.
    pub async fn current(&self, now: Timestamp) -> Result<Arc<Credentials>, IdentityError> {
        if let Some(held) = self.fresh(now) {
            return Ok(held);
        }
        // Nobody waits for the one who renews them while those at hand are still good.
        let _one_reads = match (self.reading.try_lock(), self.good(now)) {
            (Ok(reading), _) => reading,
            (Err(_), Some(held)) => return Ok(held),
            (Err(_), None) => self.reading.lock().await,
        };
        if let Some(held) = self.fresh(now) {
            return Ok(held);
        }
        match self.read().await {
            Ok(credentials) if credentials.seconds_left(now).is_none_or(|left| left > 0) => {
                let credentials = self.same_or_new(credentials);
                self.current
                    .store(Some(Arc::new(Held { credentials: credentials.clone(), read_at: now.unix() })));
                Ok(credentials)
            }
            failed => match self.good(now) {
                Some(held) => {
                    tracing::warn!(
                        error = failed.err().map_or("they have ended".to_owned(), |e| e.to_string()),
                        "the service's AWS identity can't be renewed; the one at hand is still good"
                    );
                    Ok(held)
                }
                None => {
                    Err(failed.err().unwrap_or_else(|| IdentityError("the credentials have ended".into())))
                }
            },
        }
    }

    /// Those at hand, if they have not ended.
    fn good(&self, now: Timestamp) -> Option<Arc<Credentials>> {
        let held = self.current.load_full()?;
        held.credentials.seconds_left(now).is_none_or(|left| left > 0).then(|| held.credentials.clone())
    }

    fn fresh(&self, now: Timestamp) -> Option<Arc<Credentials>> {
        let held = self.current.load();
        let held = held.as_ref()?;
        let good = match (held.credentials.seconds_left(now), &self.source) {
            (Some(left), _) => left > EARLY,
            (None, IdentitySource::AccessKey { .. } | IdentitySource::Environment) => true,
            (None, _) => (0..RE_READ).contains(&(now.unix() - held.read_at)),
        };
        good.then(|| held.credentials.clone())
    }

    fn same_or_new(&self, read: Credentials) -> Arc<Credentials> {
        match self.current.load_full() {
            Some(held) if held.credentials.access_key_id == read.access_key_id => held.credentials.clone(),
            _ => Arc::new(read),
        }
    }

    async fn read(&self) -> Result<Credentials, IdentityError> {
        match &self.source {
            IdentitySource::AccessKey { id, secret } => Ok(Credentials {
                access_key_id: id.clone(),
                secret_access_key: secret.read().map_err(|e| IdentityError(e.to_string()))?,
                session_token: None,
                expiration: None,
            }),
            IdentitySource::Environment => from_environment(),
            IdentitySource::Profile { file, name } => {
                let bytes = std::fs::read(file).map(Zeroizing::new);
                let bytes = bytes.map_err(|e| IdentityError(format!("{}: {e}", file.display())))?;
                from_profile(&bytes, name)
                    .map_err(|what| IdentityError(format!("profile {name} in {}: {what}", file.display())))
            }
            IdentitySource::Process(words) => from_process(words, &self.hidden).await,
        }
    }
}

fn from_environment() -> Result<Credentials, IdentityError> {
    let read =
        |name: &str| SecretRef::Variable(name.to_owned()).read().map_err(|e| IdentityError(e.to_string()));
    Ok(Credentials {
        access_key_id: std::env::var("AWS_ACCESS_KEY_ID")
            .map_err(|_| IdentityError("AWS_ACCESS_KEY_ID is not set".into()))?,
        secret_access_key: read("AWS_SECRET_ACCESS_KEY")?,
        session_token: read("AWS_SESSION_TOKEN").ok(),
        expiration: None,
    })
}

fn from_profile(bytes: &[u8], name: &str) -> Result<Credentials, String> {
    let document = Document::parse_for(bytes, FileKind::Credentials, name).map_err(|e| e.to_string())?;
    let value = |key: &str| document.value(name, key).filter(|value| !value.is_empty());
    let needed = |key: &str| value(key).ok_or_else(|| format!("it has no {key}"));
    let expiration = value("expiration").map(Timestamp::parse).transpose();
    Ok(Credentials {
        access_key_id: needed("aws_access_key_id")?.to_owned(),
        secret_access_key: SecretString::from(needed("aws_secret_access_key")?),
        session_token: value("aws_session_token").map(SecretString::from),
        expiration: expiration.map_err(|_| "its expiration is no ISO 8601 time".to_owned())?,
    })
}

async fn from_process(words: &[String], hidden: &[String]) -> Result<Credentials, IdentityError> {
    let program = words.first().ok_or_else(|| IdentityError("the program has no name".into()))?;
    let failed = |what: String| IdentityError(format!("{program} gave no credentials: {what}"));
    let mut command = tokio::process::Command::new(program);
    for variable in hidden {
        command.env_remove(variable);
    }
    let mut child = command
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    let out = child.stdout.take().ok_or_else(|| failed("no output".into()))?;
    let read = async {
        let mut output = Zeroizing::new(Vec::with_capacity(8192));
        out.take(LARGEST).read_to_end(&mut output).await.map_err(|e| failed(e.to_string()))?;
        let status = child.wait().await.map_err(|e| failed(e.to_string()))?;
        if !status.success() {
            return Err(failed(format!("it ended with {status}")));
        }
        process_json::read(&output).map_err(|e| failed(e.to_string()))
    };
    tokio::time::timeout(PROGRAM_TIME, read)
        .await
        .unwrap_or_else(|_| Err(failed(format!("it took more than {} s", PROGRAM_TIME.as_secs()))))
}

/// Whether the system would find a program of this name, as it is written in a configuration.
pub fn is_program(program: &str) -> bool {
    let runs = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    if program.contains('/') {
        return runs(Path::new(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    !program.is_empty() && std::env::split_paths(&path).any(|folder| runs(&folder.join(program)))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(1_800_000_000 + seconds).unwrap()
    }

    fn profile(folder: &tempfile::TempDir, text: &str) -> IdentitySource {
        let file = folder.path().join("credentials");
        std::fs::write(&file, text).unwrap();
        IdentitySource::Profile { file, name: "service".into() }
    }

    #[tokio::test]
    async fn a_profile_is_read_again_before_it_ends_and_kept_while_it_lasts() {
        let folder = tempfile::tempdir().unwrap();
        let with = |key: &str, end: i64| {
            format!(
                "[service]\naws_access_key_id = {key}\naws_secret_access_key = s-{key}\naws_session_token = t\n\
                 expiration = {}\n",
                at(end)
            )
        };
        let identity = ServiceIdentity::new(profile(&folder, &with("ASIAONE", 3600)));
        let first = identity.current(at(0)).await.unwrap();
        assert_eq!(first.secret_access_key.expose_secret(), "s-ASIAONE");
        profile(&folder, &with("ASIATWO", 7200));
        let same = identity.current(at(3600 - EARLY - 1)).await.unwrap();
        assert!(Arc::ptr_eq(&first, &same), "not read again before it is needed");
        let second = identity.current(at(3600 - EARLY)).await.unwrap();
        assert_eq!(second.access_key_id, "ASIATWO");
        // The file is gone when the next renewal is due: what is at hand serves to its end, and no longer.
        std::fs::remove_file(folder.path().join("credentials")).unwrap();
        assert_eq!(identity.current(at(7100)).await.unwrap().access_key_id, "ASIATWO");
        let error = identity.current(at(7200)).await.unwrap_err().to_string();
        assert!(error.contains("credentials") && !error.contains("s-ASIA"), "{error}");
    }

    #[tokio::test]
    async fn a_program_answers_without_a_shell() {
        let script = r#"printf '{"Version":1,"AccessKeyId":"AKIAX","SecretAccessKey":"%s"}' "$1""#;
        let words = ["sh", "-c", script, "sh", "$(id)"].map(String::from).to_vec();
        let identity = ServiceIdentity::new(IdentitySource::Process(words));
        assert_eq!(identity.current(at(0)).await.unwrap().secret_access_key.expose_secret(), "$(id)");
        for words in
            [vec![], vec!["false".to_owned()], vec!["/no/such/program".to_owned()], vec!["true".to_owned()]]
        {
            assert!(ServiceIdentity::new(IdentitySource::Process(words)).current(at(0)).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_program_that_hangs_holds_nobody_up_while_the_last_ones_are_good() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            r#"if mkdir "$1" 2>/dev/null; then printf '{{"Version":1,"AccessKeyId":"ASIAX","SecretAccessKey":"s",
            "SessionToken":"t","Expiration":"{}"}}'; else sleep 600; fi"#,
            at(3600)
        );
        let mark = folder.path().join("ran").display().to_string();
        let words = ["sh", "-c", &script, "sh", &mark].map(String::from).to_vec();
        let identity = Arc::new(ServiceIdentity::new(IdentitySource::Process(words)));
        identity.current(at(0)).await.unwrap();
        let renewing = identity.clone();
        let renewing = tokio::spawn(async move { renewing.current(at(3500)).await.map(drop) });
        while identity.reading.try_lock().is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(identity.current(at(3500)).await.unwrap().access_key_id, "ASIAX");
        assert!(!renewing.is_finished(), "the program still hangs");
        renewing.abort();
    }

    #[tokio::test]
    async fn what_has_ended_is_never_used() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[service]\naws_access_key_id = ASIA\naws_secret_access_key = s\nexpiration = {}\n",
            at(-1)
        );
        assert!(ServiceIdentity::new(profile(&folder, &text)).current(at(0)).await.is_err());
    }
}

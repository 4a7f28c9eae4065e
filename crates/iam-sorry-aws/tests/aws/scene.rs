//! The scene of most tests: a fresh account of a real emulator, the fault proxy in front of it, a manager, a user
//! `alice`, and a journal folder of its own.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use iam_sorry_aws::issue::{Issued, Issuer, Progress, issue_for_user};
use iam_sorry_aws::journal::{JournalFolder, Pending};
use iam_sorry_aws::recover::{Outcome, Stored, recover};
use iam_sorry_aws::{Aws, AwsError, Cancel, RetryPolicy, Settings};
use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::{SessionDuration, UserName};
use secrecy::{ExposeSecret, SecretString};
use testkit::{Account, Creds, FaultProxy, Ministack};

/// The user whose credentials are wanted.
pub const USER: &str = "alice";

/// See the module's text.
pub struct Scene {
    pub account: Account,
    pub proxy: Arc<FaultProxy>,
    pub aws: Aws,
    pub manager: Credentials,
    pub journal: JournalFolder,
    pub cancel: Cancel,
    pub retry: RetryPolicy,
    progress: Box<dyn Fn(&Progress) + Send + Sync>,
    heard: Arc<Mutex<Vec<Progress>>>,
    _folder: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        let account = Ministack::shared().account();
        let manager = ours(&account.manager("manager"));
        account.user(USER);
        Self::with_manager(account, manager)
    }

    pub fn with_manager(account: Account, manager: Credentials) -> Self {
        let proxy = Arc::new(FaultProxy::start(&account));
        let mut settings = Settings::new("us-east-1");
        settings.endpoint_iam = Some(proxy.endpoint());
        settings.endpoint_sts = Some(proxy.endpoint());
        settings.attempt_timeout = Duration::from_secs(5);
        let folder = tempfile::tempdir().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let progress = {
            let heard = heard.clone();
            Box::new(move |step: &Progress| heard.lock().unwrap().push(step.clone()))
        };
        Self {
            aws: Aws::new(&settings).unwrap(),
            journal: JournalFolder::new(folder.path().join("journal")),
            cancel: Cancel::new(),
            // Where a test waits for the end of one of these, it makes that short: the order of events is what is tested.
            retry: RetryPolicy { settle: Duration::from_secs(2), ..RetryPolicy::default() },
            account,
            proxy,
            manager,
            progress,
            heard,
            _folder: folder,
        }
    }

    pub fn issuer(&self) -> Issuer<'_> {
        Issuer {
            aws: &self.aws,
            manager: &self.manager,
            manager_profile: "manager",
            target_profile: USER,
            journal: &self.journal,
            progress: &*self.progress,
            cancel: &self.cancel,
            retry: &self.retry,
        }
    }

    pub fn issue(&self) -> Result<Issued, AwsError> {
        run(issue_for_user(&self.issuer(), &name(USER), hours(1), false))
    }

    pub fn issue_and_keep(&self) -> Result<Issued, AwsError> {
        run(issue_for_user(&self.issuer(), &name(USER), hours(1), true))
    }

    /// Starts to issue, and dies (the future is dropped, as the process would be) when the proxy's hook says so.
    pub fn issue_and_die(&self, keep: bool, die: &Arc<tokio::sync::Notify>) {
        run(async {
            let issuer = self.issuer();
            let alice = name(USER);
            tokio::select! {
                biased;
                () = die.notified() => {}
                result = issue_for_user(&issuer, &alice, hours(1), keep) => panic!("lived: {result:?}"),
            }
        });
    }

    pub fn entries(&self) -> Vec<Pending> {
        let listing = self.journal.pending().unwrap();
        assert!(listing.unreadable.is_empty(), "{:?}", listing.unreadable);
        listing.entries
    }

    /// The one entry there is, recovered.
    pub fn recover(&self, stored: Stored) -> Result<Outcome, AwsError> {
        let entries = self.entries();
        assert_eq!(entries.len(), 1, "{entries:?}");
        run(recover(&self.journal, &entries[0], &self.aws, &self.manager, &self.retry, &|_, _| stored))
    }

    pub fn heard(&self) -> Vec<Progress> {
        self.heard.lock().unwrap().clone()
    }

    /// Nothing that the program made is left: no key in IAM that was not there, no entry on disk.
    pub fn assert_clean(&self, keys: &[&str]) {
        assert_eq!(self.account.keys(USER), keys, "keys of {USER}");
        let entries = self.entries();
        assert!(entries.is_empty(), "{entries:?}");
    }

    pub fn whoami(&self, credentials: &Credentials) -> String {
        self.account.whoami(&theirs(credentials)).unwrap()
    }
}

pub fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

pub fn name(text: &str) -> UserName {
    UserName::parse(text).unwrap()
}

pub fn hours(n: u32) -> SessionDuration {
    SessionDuration::parse(&n.to_string()).unwrap()
}

pub fn ours(creds: &Creds) -> Credentials {
    Credentials {
        access_key_id: creds.key.clone(),
        secret_access_key: SecretString::from(creds.secret.clone()),
        session_token: creds.token.clone().map(SecretString::from),
        expiration: None,
    }
}

pub fn theirs(credentials: &Credentials) -> Creds {
    Creds {
        key: credentials.access_key_id.clone(),
        secret: credentials.secret_access_key.expose_secret().to_owned(),
        token: credentials.session_token.as_ref().map(|t| t.expose_secret().to_owned()),
    }
}

pub fn key(creds: &Creds) -> AccessKey {
    AccessKey { id: creds.key.clone(), secret: SecretString::from(creds.secret.clone()) }
}

//! What every command works with: settings, the two AWS files, the keyring, and the output.

use std::cell::{Cell, OnceCell, RefCell};
use std::path::Path;
use std::time::SystemTime;

use iam_sorry_core::aws_files::{Document, FileKind};
use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::names::SessionDuration;
use iam_sorry_core::seal::SealError;
use iam_sorry_core::timestamp::{Timestamp, human_duration};

use secrecy::ExposeSecret;

use crate::args::Global;
use crate::error::{Error, Result};
use crate::files::AwsFile;
use crate::keyring::{KeyError, KeyReport, Keyring, KeyringOptions, PassphrasePrompt};
use crate::output::Output;
use crate::profile::{Profile, ProfileKind, StoredKey};
use crate::settings::Settings;

/// The manager profile if none is named, as in the original since 0.2.
pub const DEFAULT_MANAGER: &str = "iam-sorry";

pub struct App {
    pub settings: Settings,
    pub global: Global,
    pub out: Output,
    pub credentials: AwsFile,
    pub config: AwsFile,
    default_manager_exists: OnceCell<bool>,
    keyring: RefCell<Keyring<'static>>,
    prompts: Cell<bool>,
}

impl App {
    pub fn new(settings: Settings, global: Global, out: Output) -> Result<Self> {
        let file =
            |path: &std::path::PathBuf, kind| AwsFile::new(path.to_owned(), kind, settings.lock_dir.clone());
        Ok(Self {
            credentials: file(&settings.credentials_file, FileKind::Credentials),
            config: file(&settings.config_file, FileKind::Config),
            prompts: Cell::new(true),
            keyring: RefCell::new(Keyring::new(keyring_options(&settings, &global), move |notice| {
                out.warn(notice)
            })),
            default_manager_exists: OnceCell::new(),
            settings,
            global,
            out,
        })
    }

    /// Runs `work` with the keyring.
    pub fn keyring<T, E>(
        &self,
        work: impl FnOnce(&mut Keyring<'static>) -> std::result::Result<T, E>,
    ) -> Result<T>
    where
        Error: From<E>,
    {
        Ok(work(&mut self.keyring.borrow_mut())?)
    }

    /// The current time. Only this function reads the clock.
    pub fn now(&self) -> Timestamp {
        let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        i64::try_from(seconds).ok().and_then(Timestamp::from_unix).unwrap_or(Timestamp::EPOCH)
    }

    /// The duration to request: `--duration`, else the settings file's, else 36 hours.
    ///
    /// # Errors
    /// Kind `Usage` if the text is no duration from 1 to 36 hours.
    pub fn duration(&self) -> Result<SessionDuration> {
        Ok(self.requested_duration()?.unwrap_or(SessionDuration::MAX))
    }

    /// As [`App::duration`], but `None` if neither flag nor settings file gives one: a department service then uses its
    /// own maximum.
    pub fn requested_duration(&self) -> Result<Option<SessionDuration>> {
        match self.global.duration.as_ref().or(self.settings.duration.as_ref()) {
            Some(text) => Ok(Some(SessionDuration::parse(text)?)),
            None => Ok(None),
        }
    }

    /// The manager profile's name if one is given, else [`DEFAULT_MANAGER`] if that profile exists.
    pub fn manager_name(&self) -> Option<&str> {
        self.named_manager().or_else(|| {
            let look =
                || self.credentials.load().is_ok_and(|loaded| loaded.document.contains(DEFAULT_MANAGER));
            self.default_manager_exists.get_or_init(look).then_some(DEFAULT_MANAGER)
        })
    }

    /// The manager profile's name from the flag, the variable or the settings file.
    pub fn named_manager(&self) -> Option<&str> {
        self.global.profile.as_deref().or(self.settings.profile.as_deref())
    }

    /// The current contents of both files.
    pub fn documents(&self) -> Result<(Document, Document)> {
        Ok((self.load(&self.credentials)?, self.load(&self.config)?))
    }

    /// The current contents of one file. Warnings about the file go to stderr.
    pub fn load(&self, file: &AwsFile) -> Result<Document> {
        let loaded = file.load()?;
        self.show_notices(&loaded.notices);
        Ok(loaded.document)
    }

    /// Edits one of the files under its lock; an error from `edit` changes nothing.
    pub fn update<T>(&self, file: &AwsFile, edit: impl FnMut(&mut Document) -> Result<T>) -> Result<T> {
        let (value, notices) = file.update(edit)?;
        self.show_notices(&notices);
        Ok(value)
    }

    pub fn show_notices(&self, notices: &[crate::files::Notice]) {
        for notice in notices {
            self.out.warn(notice.to_string());
        }
    }

    /// The profile, or kind `Profile` if neither file has it.
    pub fn profile(&self, name: &str) -> Result<Profile> {
        let credentials = self.credentials.load_for(name)?;
        self.show_notices(&credentials.notices);
        let (credentials, config) = (credentials.document, self.load(&self.config)?);
        Profile::find(name, &credentials, &config).ok_or_else(|| self.not_found("Profile", name))
    }

    /// An error for a profile that does not exist. `what` is "Profile" or "Manager profile", the original's words.
    pub fn not_found(&self, what: &str, name: &str) -> Error {
        let file = self.settings.credentials_file.display();
        Error::profile(format!("{what} '{name}' not found in credentials file {file}"))
            .hint("See what is there: iam-sorry list")
    }

    /// Decrypts a stored key: sealed values through the agent or the key file; plain values are returned unchanged.
    pub fn open(&self, profile: &Profile, key: StoredKey<'_>) -> Result<Credentials> {
        let keyring = &mut self.keyring.borrow_mut();
        match open_with(keyring, profile, key) {
            // Again, with the names that the value may have been moved from. Reading them costs time, and only a
            // failure needs them.
            Err(KeyError::Value { source, .. })
                if matches!(*source, SealError::TamperedOrMoved { sealed_as: None, .. }) =>
            {
                let names = self.load(&self.credentials)?;
                keyring.add_known_profiles(names.profiles().into_iter().map(str::to_owned));
                Ok(open_with(keyring, profile, key)?)
            }
            opened => Ok(opened?),
        }
    }

    /// A second keyring with another key file, for values that the person's own key can't open.
    pub fn keyring_with(&self, ssh_key: &Path) -> Keyring<'static> {
        let mut options = keyring_options(&self.settings, &self.global);
        options.ssh_key = Some(ssh_key.to_owned());
        let out = self.out;
        Keyring::new(options, move |notice| out.warn(notice))
    }

    /// As [`App::open`], but without prompting for a passphrase.
    pub fn open_without_prompt(&self, profile: &Profile, key: StoredKey<'_>) -> Result<Credentials> {
        let mut options = keyring_options(&self.settings, &self.global);
        options.passphrase_prompt = PassphrasePrompt::default();
        let mut keyring = Keyring::new(options, |_: &str| {});
        Ok(open_with(&mut keyring, profile, key)?)
    }

    /// Forgets every opened key and prompts for nothing from now on: what the agent no longer holds stays closed.
    pub fn disable_prompts(&self) {
        self.prompts.set(false);
        let mut options = keyring_options(&self.settings, &self.global);
        options.passphrase_prompt = PassphrasePrompt::default();
        *self.keyring.borrow_mut() = Keyring::new(options, |_: &str| {});
    }

    /// Reverses [`App::disable_prompts`].
    pub fn enable_prompts(&self) {
        self.prompts.set(true);
        let out = self.out;
        let options = keyring_options(&self.settings, &self.global);
        *self.keyring.borrow_mut() = Keyring::new(options, move |notice| out.warn(notice));
    }

    /// Whether this process may prompt at the terminal.
    pub fn prompts_enabled(&self) -> bool {
        self.prompts.get()
    }

    /// The state of the key and the agent, for `doctor`.
    pub fn key_report(&self) -> KeyReport {
        self.keyring.borrow_mut().describe_default_key()
    }

    /// The credentials that the profile holds, ready to hand out; never an expired set.
    pub fn usable_credentials(&self, profile: &Profile) -> Result<Credentials> {
        let name = &profile.name;
        let key = profile.usable_key().ok_or_else(|| match profile.kind() {
            ProfileKind::Empty => Error::profile(format!("Profile '{name}' missing credentials"))
                .hint(format!("Put keys into it (aws configure --profile {name}), or make temporary ones:"))
                .hint(format!("iam-sorry --profile MANAGER {name}")),
            kind => {
                Error::profile(format!("Profile '{name}' is a {} profile and holds no keys", kind.as_str()))
                    .hint(format!("AWS tools use it directly: aws --profile {name} ..."))
            }
        })?;
        let now = self.now();
        if let Some(at) = profile.expiration().filter(|at| key.token.is_some() && at.seconds_after(now) <= 0)
        {
            let ago = human_duration(-at.seconds_after(now));
            return Err(Error::profile(format!(
                "The credentials of profile '{name}' expired {ago} ago, at {at}"
            ))
            .hint(format!(
                "Refresh them: iam-sorry --profile {} {name}",
                self.manager_name().unwrap_or("MANAGER")
            )));
        }
        self.open(profile, key)
    }

    /// The region for requests about `profile`: the flag, else the variable, else the profile.
    pub fn region_of<'a>(&'a self, profile: &'a Profile) -> Option<&'a str> {
        self.global
            .region
            .as_deref()
            .or(self.settings.region.as_deref())
            .or_else(|| profile.setting("region"))
    }
}

fn open_with(
    keyring: &mut Keyring<'_>,
    profile: &Profile,
    key: StoredKey<'_>,
) -> std::result::Result<Credentials, KeyError> {
    let fields = key.fields();
    let mut values = keyring.open_fields(&profile.name, &fields)?.into_iter();
    let mut next = || values.next().unwrap_or_default();
    Ok(Credentials {
        access_key_id: next().expose_secret().to_owned(),
        secret_access_key: next(),
        session_token: key.token.map(|_| next()),
        expiration: key.token.and_then(|_| profile.expiration()),
    })
}

/// The options of the settings, overridden by the flags.
fn keyring_options(settings: &Settings, global: &Global) -> KeyringOptions {
    let mut options = settings.keys.clone();
    options.ssh_key = global.ssh_key.clone().or(options.ssh_key);
    options.allow_agent_only = global.allow_agent_only;
    options
}

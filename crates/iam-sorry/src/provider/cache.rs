//! Cached sessions of roles and of `--session`.
//!
//! Plain JSON, 0600, in a folder of the user's, as AWS CLI keeps its own (~/.aws/cli/cache). They are temporary, and
//! sealing them would cost each call a signature. The permanent keys behind them stay sealed.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::process_json;
use iam_sorry_core::timestamp::Timestamp;
use zeroize::Zeroizing;

use super::cache_path::{CacheKey, CachePaths};
use crate::files::{self, FileError, replace_atomically};

/// Credentials with fewer seconds left are refreshed first: AWS CLI asks again 15 minutes before the end, so with a
/// smaller margin it would ask twice for one command.
pub const REFRESH_MARGIN: i64 = 20 * 60;

/// Longer than any session lasts (36 h).
const FORGOTTEN: Duration = Duration::from_secs(48 * 3600);

/// One entry of the cache.
pub struct CacheEntry {
    path: PathBuf,
}

struct Kept {
    credentials: Credentials,
    issued: Timestamp,
    expires: Timestamp,
}

impl CacheEntry {
    pub fn new(paths: &CachePaths, key: &CacheKey) -> Self {
        Self { path: paths.entry(key) }
    }

    /// The cached credentials, if enough of their time is left: 20 minutes, or a third for sessions shorter than an
    /// hour.
    pub fn fresh(&self, now: Timestamp) -> Option<Credentials> {
        let kept = self.read()?;
        let margin = REFRESH_MARGIN.min(kept.expires.seconds_after(kept.issued) / 3);
        (kept.expires.seconds_after(now) >= margin.max(1)).then_some(kept.credentials)
    }

    /// The cached credentials, if they have not expired.
    pub fn valid(&self, now: Timestamp) -> Option<Credentials> {
        self.read().filter(|kept| kept.expires.seconds_after(now) > 0).map(|kept| kept.credentials)
    }

    /// Caches credentials that expire, and removes files that nobody can use any more.
    pub fn write(&self, credentials: &Credentials, now: Timestamp) -> Result<(), FileError> {
        let mut text = Zeroizing::new(String::with_capacity(4096));
        text.push_str(&credentials.to_process_json());
        text.push_str(&format!("\n{now}\n"));
        replace_atomically(&self.path, text.as_bytes(), files::FileMode::Private)?;
        if let Some(folder) = self.path.parent() {
            forget_old(folder);
        }
        Ok(())
    }

    /// `None` if there is no entry, or if it can't be parsed.
    fn read(&self) -> Option<Kept> {
        let bytes = Zeroizing::new(std::fs::read(&self.path).ok()?);
        let split = bytes.iter().position(|byte| *byte == b'\n')?;
        let credentials = process_json::read(&bytes[..split]).ok()?;
        let issued = Timestamp::parse(std::str::from_utf8(&bytes[split + 1..]).ok()?).ok()?;
        Some(Kept { issued, expires: credentials.expiration?, credentials })
    }
}

/// Removes old entries and failure notes. Lock files stay, since others may wait on them.
fn forget_old(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let ours = path.extension().is_some_and(|e| e == "json" || e == "failed");
        let age = entry.metadata().and_then(|m| m.modified()).ok();
        let old = age.and_then(|at| SystemTime::now().duration_since(at).ok()).is_some_and(|a| a > FORGOTTEN);
        if ours && old {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_is_not_the_same_as_valid() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CacheEntry { path: folder.path().join("x.json") };
        let at = |seconds: i64| Timestamp::from_unix(1_700_000_000 + seconds).unwrap();
        let until = |seconds| Credentials {
            access_key_id: "ASIA".into(),
            secret_access_key: "s".into(),
            session_token: Some("t".into()),
            expiration: Some(at(seconds)),
        };
        let state = |now| (cache.fresh(at(now)).is_some(), cache.valid(at(now)).is_some());
        assert_eq!(state(0), (false, false));

        cache.write(&until(3600), at(0)).unwrap();
        assert_eq!(state(2400), (true, true));
        assert_eq!(state(2401), (false, true));
        assert_eq!(state(3599), (false, true));
        assert_eq!(state(3600), (false, false));

        // 15 minutes, the minimum of AssumeRole: never 20 minutes left, and yet worth caching.
        cache.write(&until(900), at(0)).unwrap();
        assert_eq!(state(600), (true, true));
        assert_eq!(state(601), (false, true));

        std::fs::write(&cache.path, "{\"Version\":1").unwrap();
        assert_eq!(state(0), (false, false));
    }
}

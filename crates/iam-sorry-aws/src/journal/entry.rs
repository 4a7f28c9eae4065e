//! An entry as the journal of a key's life.

use std::time::Duration;

use tokio::time::Instant;

use crate::errors::AwsError;
use crate::journal::file::OpenEntry;
use crate::journal::folder::{JournalFolder, Pending, State};
use crate::journal::record::Fact;
use crate::key::Journal;
use crate::key::lost::Suspect;

/// How often a sign of life is written while CreateAccessKey is under way.
const BEAT: Duration = Duration::from_millis(100);

/// How long another run may take between its request for a key and writing down the ID; more is an entry that hangs.
const MAKING: Duration = Duration::from_secs(30);

/// An entry that this process holds, in its folder.
pub(crate) struct Entry<'a> {
    pub folder: &'a JournalFolder,
    pub open: &'a OpenEntry,
    /// The user whom the entry's key is for.
    pub user: &'a str,
}

impl Journal for Entry<'_> {
    type Error = AwsError;

    async fn while_making<T: Send>(&self, request: impl Future<Output = T> + Send) -> T {
        tokio::pin!(request);
        let mut beats: u32 = 0;
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut request => break answer,
                () = tokio::time::sleep(BEAT) => {
                    beats += 1;
                    // Flushed once a second: after a power cut the time on disk is what counts.
                    let beat = self.open.heartbeat(beats.is_multiple_of(10));
                    drop(beat); // the request is under way; a missed beat only narrows the window
                }
            }
        };
        drop(self.open.heartbeat(false));
        answer
    }

    async fn note_made(&self, key_id: &str) -> Result<(), AwsError> {
        self.open.note(&Fact::KeyId(key_id.to_owned()))
    }

    /// The ID, which is written down, says it already.
    async fn note_deleting(&self, _: &str) -> Result<(), AwsError> {
        Ok(())
    }

    async fn note_found(&self, suspects: &[Suspect]) -> Result<(), AwsError> {
        let record = self.open.reread()?;
        let ids: Vec<String> = suspects.iter().map(|suspect| suspect.key_id.clone()).collect();
        if ids.iter().all(|id| record.found.contains(id)) {
            return Ok(());
        }
        // Whatever is written from here on touches the file, whose time said until then when its owner died.
        self.open.note(&Fact::LastSign(record.last_sign_ms))?;
        self.open.note(&Fact::Found(ids))
    }

    /// What other entries noted. A key that another run is making right now is waited for.
    async fn accounted_for(&self, key_ids: &[String]) -> Result<Vec<String>, AwsError> {
        let start = Instant::now();
        loop {
            let entries = self.folder.pending()?.entries;
            let others =
                || entries.iter().filter(|e| e.path != self.open.path() && e.record.intent.user == self.user);
            let in_the_making = |e: &Pending| {
                e.state != State::Dead && e.record.key_id.is_none() && e.record.found.is_empty()
            };
            let unborn = others().any(in_the_making);
            if !unborn || start.elapsed() > MAKING {
                let noted = others().filter_map(|e| e.record.key_id.clone());
                return Ok(noted.filter(|id| key_ids.contains(id)).collect());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

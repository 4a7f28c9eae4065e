//! What a program writes down about one key, and when.

use crate::errors::AwsError;
use crate::key::lost::Suspect;

/// The journal's entry about one attempt to make an access key: a file of the command line, or an operation of the
/// service. Its intent is on disk before the entry is handed to [`crate::key`].
///
/// When a method returns `Ok`, what it was given is on disk, whatever happens to the process or the machine.
pub trait Journal: Sync {
    /// Why something could not be written down, or AWS's refusal.
    type Error: From<AwsError> + Send;

    /// Runs the request that makes the key. A journal whose owner leaves no other sign of its death writes down signs of
    /// life meanwhile: the last one ends the window in which the key was made.
    fn while_making<T: Send>(
        &self,
        request: impl Future<Output = T> + Send,
    ) -> impl Future<Output = T> + Send {
        request
    }

    /// AWS's answer named this key. From here on nothing else can be meant.
    fn note_made(&self, key_id: &str) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The key, which this entry made, is about to be deleted.
    fn note_deleting(&self, key_id: &str) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// These keys fit. One that is to be deactivated is about to be.
    fn note_found(&self, suspects: &[Suspect]) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Which of these keys another entry, operation or grant accounts for. The question is put after the keys were listed,
    /// so that whoever has a key on the list has had the time to write it down.
    fn accounted_for(
        &self,
        key_ids: &[String],
    ) -> impl Future<Output = Result<Vec<String>, Self::Error>> + Send;
}

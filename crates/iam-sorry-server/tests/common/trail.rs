//! The whole audit trail of a store, for several tests.

use iam_sorry_core::audit::Record;
use iam_sorry_store::{Store, TrailPosition};

/// All records, in the order of an export.
pub async fn whole_trail(store: &Store) -> Vec<Record> {
    let (mut position, mut records) = (TrailPosition::default(), Vec::new());
    loop {
        let part = store.read_trail(&position, None, 2_000).await.expect("a part of the trail");
        position = part.start;
        if part.records.is_empty() {
            return records;
        }
        for record in part.records {
            position.pass(&record);
            records.push(record.record);
        }
    }
}

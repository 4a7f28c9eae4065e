//! A disk that fills up: writes are refused as `Full`, reading goes on, and room is all it takes to go on writing.

use std::path::Path;
use std::process::{Command, Stdio};

use iam_sorry_core::audit::{Event, Phase};
use iam_sorry_store::{AuditFilter, Begun, Settings, Store, StoreError};

use crate::again;
use crate::rig::{block_on, event, operation, page, patient, whole_trail};

const DISK: &str = "IAM_SORRY_TEST_DISK";
const MEGABYTE: usize = 1024 * 1024;

#[test]
fn a_full_disk_refuses_writes_and_nothing_else() {
    if let Ok(disk) = std::env::var(DISK) {
        return block_on(on_the_small_disk(Path::new(&disk)));
    }
    // A mount namespace of its own: the small disk is gone when the process is, however that ends.
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().to_str().unwrap();
    let inner = again("disk_full::a_full_disk_refuses_writes_and_nothing_else", DISK, disk);
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=48m tmpfs \"$0\" && exec \"$@\"")
        .arg(disk)
        .arg(inner.get_program())
        .args(inner.get_args())
        .env(DISK, disk)
        .stdin(Stdio::null())
        .output()
        .expect("unshare (util-linux) starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("1 passed"), "{text}");
}

fn big() -> Event {
    let mut big = event(Phase::Event, "alice", "sign-in", "");
    big.details.insert("ballast".into(), "x".repeat(20_000));
    big
}

async fn on_the_small_disk(disk: &Path) {
    let settings = patient(Settings::sqlite(disk.join("store.db")));
    Store::migrate(&settings).unwrap();
    let store = Store::open(&settings, "one").unwrap();
    std::fs::write(disk.join("ballast"), vec![1; 24 * MEGABYTE]).unwrap();

    let mut written = 0;
    let error = loop {
        match store.record(vec![big()]).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 5_000, "48 MB hold no 100");
    };
    assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    assert!(written > 50, "{written}");

    // Nothing new begins: an intent that can't be written is no intent.
    let (mut new, intent) = operation("lab-anna");
    new.plan = "x".repeat(200_000);
    let refused = store.begin(new.clone(), intent.clone()).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    assert!(store.operation(&new.id).await.unwrap().is_none());

    // Reading goes on.
    assert_eq!(store.count_records().await.unwrap(), written);
    assert_eq!(store.audit_page(AuditFilter::default(), page(None, 5)).await.unwrap().items.len(), 5);
    assert_eq!(whole_trail(&store).await.len() as u64, written);

    // Room is made; the same store goes on.
    std::fs::remove_file(disk.join("ballast")).unwrap();
    assert!(matches!(store.begin(new, intent).await.unwrap(), Begun::New));
    store.record(vec![big()]).await.unwrap();
    assert_eq!(whole_trail(&store).await.len() as u64, written + 2);
    store.close().await;
    assert_eq!(whole_trail(&Store::open(&settings, "two").unwrap()).await.len() as u64, written + 2);
}

//! PostgreSQL on several hosts, of which one takes writes; servers that take none; and other refusals: each is called what
//! it is.

use std::time::{Duration, Instant};

use iam_sorry_core::audit::Phase;
use iam_sorry_store::{Settings, Store, StoreError};
use testkit::Postgres;

use crate::rig::{block_on, event, patient, whole_trail};

fn settings(url: &str) -> Settings {
    patient(Settings::postgres(url.to_owned().into(), None).unwrap())
}

async fn write_and_read(store: &Store) {
    store.record(vec![event(Phase::Event, "alice", "sign-in", "")]).await.unwrap();
    store.count_records().await.unwrap();
}

#[test]
fn a_url_that_wants_a_writable_server_works() {
    let url = Postgres::shared().database();
    for attributes in ["", "?target_session_attrs=read-write", "?target_session_attrs=any"] {
        let settings = settings(&format!("{url}{attributes}"));
        Store::migrate(&settings).unwrap();
        block_on(async {
            let store = Store::open(&settings, "one").unwrap();
            write_and_read(&store).await;
            store.close().await;
        });
    }
}

/// A primary and its streaming standby, in either order, and then the other way round.
#[test]
fn of_several_hosts_the_one_that_takes_writes_is_used() {
    let primary = Postgres::start();
    let url = primary.database();
    let database = url.rsplit('/').next().unwrap();
    Store::migrate(&settings(&url)).unwrap();
    let standby = primary.standby();
    for attributes in ["", "?target_session_attrs=read-write"] {
        for order in [[&standby, &primary], [&primary, &standby]] {
            let settings = settings(&format!("{}{attributes}", Postgres::url_of_all(&order, database)));
            block_on(async {
                let store = Store::open(&settings, "one").unwrap();
                write_and_read(&store).await;
                // Also what is read is read there: a standby may not have it yet.
                store.beat().await.unwrap();
                assert_eq!(whole_trail(&store).await.len() as u64, store.count_records().await.unwrap());
                store.close().await;
            });
        }
    }
    // The standby alone can be read, but not served from; and that is what is said.
    let error = Store::open(&settings(&standby.url(database)), "two").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("standby") && !text.contains("Make room"), "{text}");
    // The primary ends; the standby is promoted: the same store goes on there.
    block_on(async {
        let store =
            Store::open(&settings(&Postgres::url_of_all(&[&primary, &standby], database)), "three").unwrap();
        write_and_read(&store).await;
        let before = store.count_records().await.unwrap();
        let there = || standby.sql(database, "SELECT count(*) FROM audit") == before.to_string();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !tokio::task::block_in_place(there) {
            assert!(Instant::now() < deadline, "the standby never has it all");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::task::block_in_place(|| primary.kill());
        tokio::task::block_in_place(|| standby.promote());
        let deadline = Instant::now() + Duration::from_secs(60);
        while store.beat().await.is_err() {
            assert!(Instant::now() < deadline, "it goes on with the other one");
        }
        write_and_read(&store).await;
        assert_eq!(whole_trail(&store).await.len() as u64, before + 1);
    });
}

#[test]
fn a_database_that_is_set_to_read_only_is_called_so_and_is_back_at_once() {
    let url = Postgres::shared().database();
    let name = url.rsplit('/').next().unwrap().to_owned();
    let settings = settings(&url);
    Store::migrate(&settings).unwrap();
    block_on(async {
        let store = Store::open(&settings, "one").unwrap();
        write_and_read(&store).await;
        let postgres = Postgres::shared();
        let set = |to: &str| {
            tokio::task::block_in_place(|| {
                postgres.sql(
                    "postgres",
                    &format!("ALTER DATABASE {name} SET default_transaction_read_only = {to}"),
                );
                let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ";
                postgres.sql("postgres", &format!("{end}'{name}'"));
            });
        };
        set("on");
        let error = store.record(vec![event(Phase::Event, "alice", "sign-in", "")]).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("read-only") && !text.contains("Make room"), "{text}");
        assert!(text.contains("default_transaction_read_only"), "the way out: {text}");
        // Reading goes on.
        assert_eq!(store.count_records().await.unwrap(), 1);
        set("off");
        write_and_read(&store).await;
        store.beat().await.unwrap();
    });
}

/// What only the operator can set right is not called damage, and not waited for.
#[test]
fn each_refusal_of_the_server_is_called_what_it_is() {
    let postgres = Postgres::shared();
    let url = postgres.database();
    let name = url.rsplit('/').next().unwrap().to_owned();
    Store::migrate(&settings(&url)).unwrap();
    let text = |url: &str| Store::open(&settings(url), "one").map(drop).unwrap_err().to_string();

    let missing = text(&url.replace(&name, "nowhere"));
    assert!(missing.contains("3D000") && missing.contains("Create the database"), "{missing}");
    let nobody = text(&url.replace("iam_sorry@", "nobody@"));
    assert!(nobody.contains("28000"), "{nobody}");
    assert!(nobody.contains("user"), "{nobody}");
    postgres.sql("postgres", "CREATE ROLE guest LOGIN; ");
    let guest = text(&url.replace("iam_sorry@", "guest@"));
    assert!(guest.contains("42501") && guest.contains("rights"), "{guest}");
    for text in [missing, nobody, guest] {
        assert!(!text.contains("unexpected") && !text.contains("Make room"), "{text}");
    }
}

/// The first host takes connections and never answers, as one does that hangs: the second is reached all the same.
#[test]
fn a_host_that_hangs_does_not_hide_the_others() {
    let postgres = Postgres::shared();
    let url = postgres.database();
    let name = url.rsplit('/').next().unwrap().to_owned();
    Store::migrate(&settings(&url)).unwrap();
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let wire = postgres.cutter();
    let good = wire.url(&name);
    let port = good.split(':').next_back().unwrap().split('/').next().unwrap();
    let both = format!(
        "postgresql://iam_sorry@127.0.0.1:{},127.0.0.1:{port}/{name}",
        hung.local_addr().unwrap().port()
    );
    block_on(async {
        let store = Store::open(&settings(&both), "one").unwrap();
        write_and_read(&store).await;
        store.close().await;
    });
    assert!(matches!(Store::open(&settings(&url), "two").map(drop), Ok(()) | Err(StoreError::Taken(_))));
}

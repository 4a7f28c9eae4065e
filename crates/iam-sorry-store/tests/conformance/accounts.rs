//! The same name in two accounts is two users, two resources, and the keys of each are its own.

use iam_sorry_core::audit::Phase;
use iam_sorry_core::ids::AccountName;
use iam_sorry_store::{
    Begun, Finish, ManagedUser, NewGrant, NewRotation, RotationChange, Store, StoreError, UnaccountedKey,
};

use crate::on_both;
use crate::rig::{Rig, event, finish, grant, operation, page, user_ref};

on_both! {
    an_operation_holds_its_resource_in_its_account_only,
    users_of_the_same_name_are_two,
    a_user_that_is_gone_leaves_its_namesake_alone,
    lists_are_by_name_then_account_and_go_on_anywhere,
    a_key_id_that_two_accounts_share_is_two_keys,
}

fn archive() -> AccountName {
    AccountName::parse("archive").unwrap()
}

fn managed(user: &str) -> ManagedUser {
    let user = user_ref(user);
    ManagedUser {
        arn: format!("arn:aws:iam::{}:user/{}", user.account, user.name),
        user,
        namespace: "lab".into(),
        owner: "corp/uuid-alice".into(),
        created_ms: 5,
        adopted: false,
    }
}

/// Does one operation on a user (`NAME` or `ACCOUNT/NAME`).
async fn done(store: &Store, user: &str, edit: impl FnOnce(&mut Finish)) -> String {
    let user = user_ref(user);
    let (mut new, intent) = operation(&user.name.folded());
    new.account = user.account;
    assert!(matches!(store.begin(new.clone(), intent).await.unwrap(), Begun::New));
    let mut end = finish(&new);
    edit(&mut end);
    store.finish(end).await.unwrap();
    new.id
}

async fn an_operation_holds_its_resource_in_its_account_only(rig: &Rig) {
    let store = rig.open("one");
    let begin = async |account: &AccountName| {
        let (mut new, intent) = operation("lab-anna");
        new.account = account.clone();
        (new.id.clone(), store.begin(new, intent).await.unwrap())
    };
    let (first, begun) = begin(&AccountName::default()).await;
    assert!(matches!(begun, Begun::New));
    let (second, begun) = begin(&archive()).await;
    assert!(matches!(begun, Begun::New), "another account's user of that name is free");
    for (account, holder) in [(AccountName::default(), &first), (archive(), &second)] {
        let (_, Begun::Busy(busy)) = begin(&account).await else { panic!() };
        assert_eq!(&busy, holder);
        assert_eq!(store.operation(holder).await.unwrap().unwrap().new.account, account);
    }
}

async fn users_of_the_same_name_are_two(rig: &Rig) {
    let store = rig.open("one");
    for name in ["lab-Anna", "archive/Lab-ANNA"] {
        done(&store, name, |end| end.user = Some(managed(name))).await;
    }
    assert_eq!(store.user(&user_ref("LAB-anna")).await.unwrap(), Some(managed("lab-Anna")));
    assert_eq!(store.user(&user_ref("archive/lab-anna")).await.unwrap(), Some(managed("archive/Lab-ANNA")));
    assert_eq!(store.user(&user_ref("physics/lab-anna")).await.unwrap(), None);
}

async fn a_user_that_is_gone_leaves_its_namesake_alone(rig: &Rig) {
    let store = rig.open("one");
    for (name, key) in [("lab-anna", "AKIA1"), ("archive/lab-anna", "AKIA2")] {
        let user = user_ref(name);
        let id = done(&store, name, |end| {
            end.user = Some(managed(name));
            end.grants = vec![NewGrant { account: user.account.clone(), ..grant(key, 1) }];
            end.rotation = Some(RotationChange::Begun(NewRotation {
                user: user.clone(),
                old_key: format!("{key}OLD"),
                new_key: key.into(),
                old_was_active: true,
                since: 7,
                delete_after_ms: None,
            }));
            end.unaccounted = vec![UnaccountedKey {
                access_key_id: format!("{key}LOST"),
                user: user.clone(),
                operation: end.operation.clone(),
                found_ms: 5,
                deactivated: true,
            }];
        })
        .await;
        assert_eq!(store.rotations_of(&user).await.unwrap()[0].operation, id);
    }
    done(&store, "archive/lab-anna", |end| end.deleted_user = Some(user_ref("archive/LAB-ANNA"))).await;
    assert_eq!(store.user(&user_ref("archive/lab-anna")).await.unwrap(), None);
    assert!(store.rotations_of(&user_ref("archive/lab-anna")).await.unwrap().is_empty());
    assert!(store.grant_of_key("AKIA2").await.unwrap().unwrap().deleted);

    assert_eq!(store.user(&user_ref("lab-anna")).await.unwrap(), Some(managed("lab-anna")));
    assert_eq!(store.rotations_of(&user_ref("lab-anna")).await.unwrap().len(), 1);
    assert!(!store.grant_of_key("AKIA1").await.unwrap().unwrap().deleted);
    let lost = store.unaccounted_keys().await.unwrap();
    assert_eq!(lost.iter().map(|key| key.user.to_string()).collect::<Vec<_>>(), ["default/lab-anna"]);
}

async fn lists_are_by_name_then_account_and_go_on_anywhere(rig: &Rig) {
    let store = rig.open("one");
    for name in ["lab-b", "archive/lab-a", "lab-a", "archive/lab-b", "a-2/lab-b"] {
        done(&store, name, |end| end.user = Some(managed(name))).await;
    }
    let all = ["archive/lab-a", "default/lab-a", "a-2/lab-b", "archive/lab-b", "default/lab-b"];
    for limit in [1, 2, 5] {
        for account in [None, Some(archive())] {
            let (mut names, mut cursor) = (Vec::new(), None);
            loop {
                let namespaces = ["lab".to_owned()];
                let part =
                    store.list_users(account.as_ref(), Some(&namespaces), page(cursor, limit)).await.unwrap();
                // The cursor of a row is the same whoever makes it.
                if let (Some(next), Some(last)) = (&part.next, part.items.last()) {
                    assert_eq!(next, &Store::after_user(&last.user));
                }
                names.extend(part.items.into_iter().map(|row| row.user.to_string()));
                cursor = part.next;
                if cursor.is_none() {
                    break;
                }
            }
            let expected: Vec<_> = match account {
                None => all.to_vec(),
                Some(_) => all.into_iter().filter(|name| name.starts_with("archive/")).collect(),
            };
            assert_eq!(names, expected);
        }
    }
}

/// AWS never gives the same id twice; an emulator may.
async fn a_key_id_that_two_accounts_share_is_two_keys(rig: &Rig) {
    let store = rig.open("one");
    for name in ["lab-anna", "archive/lab-anna"] {
        let account = user_ref(name).account;
        done(&store, name, |end| end.grants = vec![NewGrant { account, ..grant("AKIA1", 1) }]).await;
    }
    done(&store, "archive/lab-anna", |end| end.deleted_keys = vec!["AKIA1".into()]).await;
    let grants = store.list_grants(None, page(None, 10)).await.unwrap().items;
    let mut deleted: Vec<_> = grants.iter().map(|one| (one.new.account.as_str(), one.deleted)).collect();
    deleted.sort();
    assert_eq!(deleted, [("archive", true), ("default", false)]);
}

/// A damaged row is said to be one.
#[test]
fn an_account_that_can_be_none_is_reported_as_damage() {
    let rig = Rig::sqlite();
    crate::rig::block_on(async {
        let store = rig.open("one");
        done(&store, "lab-anna", |end| end.user = Some(managed("lab-anna"))).await;
        let iam_sorry_store::Engine::Sqlite { path } = &rig.settings.engine else { unreachable!() };
        rusqlite::Connection::open(path).unwrap().execute("UPDATE users SET account = 'A B'", []).unwrap();
        let error = store.list_users(None, None, page(None, 10)).await.unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt(text) if text.contains("A B")), "{error}");
        // The rest goes on.
        store.record(vec![event(Phase::Event, "alice", "sign-in", "")]).await.unwrap();
    });
}

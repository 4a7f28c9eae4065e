//! Users and grants.

use iam_sorry_core::audit::Phase;
use iam_sorry_core::ids::AccountName;
use iam_sorry_store::{Finish, ManagedUser, NewRotation, RotationChange, Store};

use crate::on_both;
use crate::rig::{Rig, event, finish, grant, operation, page, user_ref};

on_both! {
    users_are_listed_by_namespace,
    a_user_that_is_gone_takes_its_grants_along,
    deleted_keys_mark_their_grants,
    grants_are_listed_newest_first,
    a_rotation_waits_for_its_confirmation,
    after_a_break_no_old_key_goes_by_time,
}

fn user(name: &str, namespace: &str) -> ManagedUser {
    ManagedUser {
        user: user_ref(name),
        arn: format!("arn:aws:iam::1:user/iam-sorry/{name}"),
        namespace: namespace.into(),
        owner: "corp/uuid-alice".into(),
        created_ms: 5,
        adopted: true,
    }
}

/// Does one operation whose end is what `edit` makes of it.
async fn done(store: &Store, resource: &str, edit: impl FnOnce(&mut Finish)) -> String {
    let (new, intent) = operation(resource);
    store.begin(new.clone(), intent).await.unwrap();
    let mut end = finish(&new);
    edit(&mut end);
    store.finish(end).await.unwrap();
    new.id
}

async fn names(store: &Store, namespaces: Option<&[String]>, limit: u32) -> Vec<String> {
    names_in(store, None, namespaces, limit).await
}

async fn names_in(
    store: &Store,
    account: Option<&AccountName>,
    namespaces: Option<&[String]>,
    limit: u32,
) -> Vec<String> {
    let (mut names, mut cursor) = (Vec::new(), None);
    loop {
        let part = store.list_users(account, namespaces, page(cursor, limit)).await.unwrap();
        names.extend(part.items.into_iter().map(|row| row.user.short(&AccountName::default())));
        cursor = part.next;
        if cursor.is_none() {
            return names;
        }
    }
}

async fn users_are_listed_by_namespace(rig: &Rig) {
    let store = rig.open("one");
    for (name, namespace) in
        [("lab-b", "lab"), ("Lab-A", "lab"), ("dirk", "dirk"), ("lab-c", "lab"), ("web_1", "web")]
    {
        done(&store, name, |end| end.user = Some(user(name, namespace))).await;
    }
    for limit in [1, 2, 50] {
        assert_eq!(names(&store, None, limit).await, ["dirk", "Lab-A", "lab-b", "lab-c", "web_1"]);
        assert_eq!(names(&store, Some(&["lab".into()]), limit).await, ["Lab-A", "lab-b", "lab-c"]);
        let two = ["web".to_owned(), "dirk".to_owned()];
        assert_eq!(names(&store, Some(&two), limit).await, ["dirk", "web_1"]);
    }
    assert!(names(&store, Some(&[]), 5).await.is_empty());
    assert!(names(&store, Some(&["%".into()]), 5).await.is_empty());

    // Adopting again, in other letters, changes the row and makes no second one.
    done(&store, "lab-a", |end| end.user = Some(user("lab-a", "lab"))).await;
    assert_eq!(names(&store, Some(&["lab".into()]), 9).await, ["lab-a", "lab-b", "lab-c"]);
}

async fn a_user_that_is_gone_takes_its_grants_along(rig: &Rig) {
    let store = rig.open("one");
    done(&store, "lab-anna", |end| {
        end.user = Some(user("Lab-Anna", "lab"));
        let mut role = grant("ASIAROLE", 3);
        role.kind = "role".into();
        role.resource = "lab-anna".into();
        end.grants = vec![grant("AKIA1", 1), grant("ASIA2", 2), role];
    })
    .await;
    done(&store, "lab-anna", |end| end.deleted_user = Some(user_ref("LAB-ANNA"))).await;
    assert_eq!(store.user(&user_ref("lab-anna")).await.unwrap(), None);
    let grants = store.list_grants(None, page(None, 10)).await.unwrap().items;
    let deleted: Vec<_> = grants.iter().map(|one| (one.new.access_key_id.as_str(), one.deleted)).collect();
    assert_eq!(deleted, [("ASIAROLE", false), ("ASIA2", true), ("AKIA1", true)]);
}

async fn deleted_keys_mark_their_grants(rig: &Rig) {
    let store = rig.open("one");
    let made = done(&store, "lab-anna", |end| end.grants = vec![grant("AKIA1", 1), grant("AKIA2", 2)]).await;
    done(&store, "lab-anna", |end| end.deleted_keys = vec!["AKIA1".into(), "AKIA9".into()]).await;
    let first = store.grant_of_key("AKIA1").await.unwrap().unwrap();
    assert!(first.deleted);
    assert_eq!((first.operation, first.new), (made, grant("AKIA1", 1)));
    assert!(!store.grant_of_key("AKIA2").await.unwrap().unwrap().deleted);
    assert_eq!(store.grant_of_key("AKIA9").await.unwrap(), None);
}

async fn grants_are_listed_newest_first(rig: &Rig) {
    let store = rig.open("one");
    for operation in 0..3 {
        done(&store, "lab-anna", |end| {
            end.grants = (0..4).map(|key| grant(&format!("ASIA{operation}{key}"), 10 + key % 2)).collect();
        })
        .await;
    }
    let all = store.list_grants(None, page(None, 50)).await.unwrap().items;
    assert_eq!(all.len(), 12);
    assert!(all.iter().map(|one| one.new.issued_ms).is_sorted_by(|a, b| a >= b));
    for limit in [1, 5] {
        let (mut parts, mut cursor) = (Vec::new(), None);
        loop {
            let part = store.list_grants(Some("corp/uuid-alice"), page(cursor, limit)).await.unwrap();
            parts.extend(part.items);
            cursor = part.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(parts, all);
    }
    assert!(store.list_grants(Some("corp/nobody"), page(None, 5)).await.unwrap().items.is_empty());
}

fn rotation(user: &str, old: &str, new: &str, delete_after_ms: Option<i64>) -> RotationChange {
    RotationChange::Begun(NewRotation {
        user: user_ref(user),
        old_key: old.into(),
        new_key: new.into(),
        old_was_active: true,
        since: 7,
        delete_after_ms,
    })
}

/// The old keys of a user's rotations, with the time at which they go.
async fn waiting(store: &Store, user: &str) -> Vec<(String, Option<i64>)> {
    let found = store.rotations_of(&user_ref(user)).await.unwrap();
    found.into_iter().map(|found| (found.new.old_key, found.new.delete_after_ms)).collect()
}

async fn a_rotation_waits_for_its_confirmation(rig: &Rig) {
    let store = rig.open("one");
    let id =
        done(&store, "Dirk-A", |end| end.rotation = Some(rotation("Dirk-A", "OLD", "NEW", Some(50)))).await;
    done(&store, "dirk-b", |end| end.rotation = Some(rotation("dirk-b", "B1", "B2", Some(40)))).await;
    done(&store, "dirk-c", |end| end.rotation = Some(rotation("dirk-c", "C1", "C2", None))).await;
    let found = store.rotations_of(&user_ref("DIRK-a")).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].operation.as_str(), found[0].person.as_str()), (id.as_str(), "corp/uuid-alice"));
    assert_eq!((&found[0].new.user, found[0].new.since), (&user_ref("dirk-a"), 7));
    let due = async |now| {
        let due = store.due_rotations(now, 10).await.unwrap();
        due.into_iter().map(|found| found.new.old_key).collect::<Vec<_>>()
    };
    assert!(due(39).await.is_empty());
    assert_eq!(due(40).await, ["B1"]);
    assert_eq!(due(50).await, ["B1", "OLD"]);
    // The new key is gone: the old one may be all that the user has.
    done(&store, "dirk-b", |end| end.deleted_keys = vec!["B2".into()]).await;
    assert_eq!(waiting(&store, "dirk-b").await, [("B1".to_owned(), None)]);
    // Rotated once more, and the old key is gone; the rotation is over; the user is gone.
    done(&store, "dirk-b", |end| end.rotation = Some(rotation("dirk-b", "B1", "B3", Some(60)))).await;
    assert_eq!(waiting(&store, "dirk-b").await, [("B1".to_owned(), Some(60))]);
    done(&store, "dirk-b", |end| end.deleted_keys = vec!["B1".into()]).await;
    assert!(waiting(&store, "dirk-b").await.is_empty());
    let over = RotationChange::Ended { old_key: "OLD".into() };
    done(&store, "dirk-a", |end| end.rotation = Some(over)).await;
    assert!(waiting(&store, "dirk-a").await.is_empty());
    done(&store, "dirk-c", |end| end.deleted_user = Some(user_ref("dirk-c"))).await;
    assert!(waiting(&store, "dirk-c").await.is_empty());
}

/// What the copy says of time is from before, and who waits for which key since then is not in it.
async fn after_a_break_no_old_key_goes_by_time(rig: &Rig) {
    let store = rig.open("one");
    done(&store, "dirk-a", |end| end.rotation = Some(rotation("dirk-a", "OLD", "NEW", Some(50)))).await;
    store.continue_after_break(event(Phase::Event, "root", "audit-restored", "")).await.unwrap();
    assert!(store.due_rotations(i64::MAX, 10).await.unwrap().is_empty());
    assert_eq!(waiting(&store, "dirk-a").await, [("OLD".to_owned(), None)], "a person still ends it");
}

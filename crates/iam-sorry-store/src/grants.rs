//! What was handed out, and the IAM users that the service looks after.

use iam_sorry_core::ids::{AccountName, UserRef};

use crate::cursor::{Cursor, List, Window};
use crate::engine::{DbError, Row, params};
use crate::query::Query;
use crate::rotations;
use crate::writer::Tx;
use crate::{Finish, Grant, ManagedUser, NewGrant, PageOf, PageRequest, Store, StoreError};

/// The part of [`Finish`] that is about grants and users. `account` and `person` are the operation's.
pub(crate) fn apply(
    tx: &mut Tx<'_>,
    account: &AccountName,
    person: &str,
    finish: &Finish,
) -> Result<(), DbError> {
    for (n, grant) in (0_i64..).zip(&finish.grants) {
        tx.deferred(
            "INSERT INTO grants (operation, n, person, kind, account, resource, folded, access_key_id, issued_ms, expires_ms,
                 deleted)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0)",
            params![
                &finish.operation,
                n,
                person,
                &grant.kind,
                &grant.account,
                &grant.resource,
                &fold(&grant.resource),
                &grant.access_key_id,
                grant.issued_ms,
                grant.expires_ms,
            ],
        )?;
    }
    for key in &finish.deleted_keys {
        tx.deferred(
            "UPDATE grants SET deleted = 1 WHERE access_key_id = ?1 AND account = ?2",
            params![key, account],
        )?;
        rotations::deleted(tx, key)?;
    }
    if let Some(user) = &finish.user {
        tx.deferred(
            "INSERT INTO users (account, folded, name, arn, namespace, owner, created_ms, adopted)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (account, folded) DO UPDATE SET name = excluded.name, arn = excluded.arn, namespace = excluded.namespace,
                 owner = excluded.owner, created_ms = excluded.created_ms, adopted = excluded.adopted",
            params![
                &user.user.account,
                &user.user.name.folded(),
                user.user.name.as_str(),
                &user.arn,
                &user.namespace,
                &user.owner,
                user.created_ms,
                user.adopted,
            ],
        )?;
    }
    if let Some(user) = &finish.deleted_user {
        let (account, folded) = (&user.account, user.name.folded());
        tx.deferred("DELETE FROM users WHERE account = ?1 AND folded = ?2", params![account, &folded])?;
        // A session of a deleted user is worth nothing; a role of that name is something else.
        tx.deferred(
            "UPDATE grants SET deleted = 1 WHERE account = ?1 AND folded = ?2 AND kind <> 'role'",
            params![account, &folded],
        )?;
        tx.deferred("DELETE FROM rotations WHERE account = ?1 AND folded = ?2", params![account, &folded])?;
    }
    match &finish.rotation {
        Some(change) => rotations::change(tx, &finish.operation, person, change),
        None => Ok(()),
    }
}

const USER: &str = "SELECT account, name, arn, namespace, owner, created_ms, adopted FROM users";
const GRANT: &str = "SELECT operation, n, person, kind, account, resource, access_key_id, issued_ms, expires_ms, deleted FROM grants";

impl Store {
    /// A user that the service made or adopted; names are compared without regard to case, as IAM does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn user(&self, user: &UserRef) -> Result<Option<ManagedUser>, StoreError> {
        let (account, folded) = (user.account.clone(), user.name.folded());
        self.read(move |connection| {
            let sql = format!("{USER} WHERE account = ?1 AND folded = ?2");
            let rows = connection.query(&sql, params![&account, &folded])?;
            Ok(rows.into_iter().next().map(managed_user).transpose()?)
        })
        .await
    }

    /// Users by name, then account; those of some namespaces, or all; of one account, or all.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`] and others.
    pub async fn list_users(
        &self,
        account: Option<&AccountName>,
        namespaces: Option<&[String]>,
        page: PageRequest,
    ) -> Result<PageOf<ManagedUser>, StoreError> {
        let window = Window::new(List::Users, &page)?;
        let account = account.cloned();
        // The cursor's text is "folded account".
        let after = window.after.as_ref().map(|after| {
            let (folded, account) = after.text.split_once(' ').ok_or(StoreError::BadCursor)?;
            Ok::<_, StoreError>((folded.to_owned(), account.to_owned()))
        });
        let after = after.transpose()?;
        let namespaces = namespaces.map(<[String]>::to_vec);
        if namespaces.as_ref().is_some_and(Vec::is_empty) {
            return Ok(PageOf { items: Vec::new(), next: None });
        }
        self.read(move |connection| {
            let mut query = Query::new(USER);
            if let Some(names) = &namespaces {
                let marks: Vec<_> = names.iter().map(|name| query.mark(name)).collect();
                query.and(&format!("namespace IN ({})", marks.join(", ")));
            }
            if let Some(account) = &account {
                query.and_equal("account", account);
            }
            if let Some((folded, account)) = &after {
                let marks = [query.mark(folded), query.mark(account)];
                query.and(&format!("(folded, account) > ({})", marks.join(", ")));
            }
            let rows = query.run(connection, "folded, account", window.rows())?;
            let users = rows.into_iter().map(managed_user).collect::<Result<Vec<_>, _>>()?;
            Ok(window.page(users, |row| place_of(&row.user)))
        })
        .await
    }

    /// The cursor behind a user: for who leaves out some of a page, since a cursor names the row before it.
    pub fn after_user(user: &UserRef) -> String {
        place_of(user).encode(List::Users)
    }

    /// What was handed out, newest first; to one person or to all.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`] and others.
    pub async fn list_grants(
        &self,
        person: Option<&str>,
        page: PageRequest,
    ) -> Result<PageOf<Grant>, StoreError> {
        let window = Window::new(List::Grants, &page)?;
        let person = person.map(str::to_owned);
        // The cursor's text is "n operation".
        let after = window.after.as_ref().map(|after| {
            let (n, operation) = after.text.split_once(' ').ok_or(StoreError::BadCursor)?;
            Ok::<_, StoreError>((
                after.number,
                operation.to_owned(),
                n.parse::<i64>().map_err(|_| StoreError::BadCursor)?,
            ))
        });
        let after = after.transpose()?;
        self.read(move |connection| {
            let mut query = Query::new(GRANT);
            if let Some(person) = &person {
                query.and_equal("person", person);
            }
            if let Some((issued, operation, n)) = &after {
                let marks = [query.mark(*issued), query.mark(operation), query.mark(*n)];
                query.and(&format!("(issued_ms, operation, n) < ({})", marks.join(", ")));
            }
            let rows = query.run(connection, "issued_ms DESC, operation DESC, n DESC", window.rows())?;
            let grants = rows.into_iter().map(grant).collect::<Result<Vec<_>, _>>()?;
            let page = window.page(grants, |(n, grant)| {
                Cursor::new(grant.new.issued_ms, format!("{n} {}", grant.operation))
            });
            Ok(PageOf { items: page.items.into_iter().map(|(_, grant)| grant).collect(), next: page.next })
        })
        .await
    }

    /// The permanent access keys of a user that were handed out, or brought along, and are not known to be deleted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keys_of_user(&self, user: &UserRef) -> Result<Vec<String>, StoreError> {
        let (account, folded) = (user.account.clone(), user.name.folded());
        self.read(move |connection| {
            let sql = "SELECT access_key_id FROM grants WHERE account = ?1 AND folded = ?2 AND kind = 'access-key' AND deleted = 0 \
                       ORDER BY access_key_id LIMIT 1000";
            let rows = connection.query(sql, params![&account, &folded])?;
            Ok(rows.into_iter().map(|mut row| row.text(0)).collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The grant that handed out an access key, the newest where an endpoint gives the same id twice.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn grant_of_key(&self, access_key_id: &str) -> Result<Option<Grant>, StoreError> {
        let key = access_key_id.to_owned();
        self.read(move |connection| {
            let sql = format!("{GRANT} WHERE access_key_id = ?1 ORDER BY issued_ms DESC LIMIT 1");
            let rows = connection.query(&sql, params![&key])?;
            Ok(rows.into_iter().next().map(grant).transpose()?.map(|(_, grant)| grant))
        })
        .await
    }
}

/// A user's place in the list; neither half has a space.
fn place_of(user: &UserRef) -> Cursor {
    Cursor::new(0, format!("{} {}", user.name.folded(), user.account))
}

/// IAM names are ASCII and unique without regard to case; ARNs are folded the same way only to be compared.
fn fold(name: &str) -> String {
    name.to_ascii_lowercase()
}

fn managed_user(mut row: Row) -> Result<ManagedUser, DbError> {
    Ok(ManagedUser {
        user: UserRef::new(row.parsed(0)?, row.parsed(1)?),
        arn: row.text(2)?,
        namespace: row.text(3)?,
        owner: row.text(4)?,
        created_ms: row.int(5)?,
        adopted: row.bool(6)?,
    })
}

/// The grant, and its number within its operation.
fn grant(mut row: Row) -> Result<(i64, Grant), DbError> {
    let grant = Grant {
        operation: row.text(0)?,
        person: row.text(2)?,
        new: NewGrant {
            kind: row.text(3)?,
            account: row.parsed(4)?,
            resource: row.text(5)?,
            access_key_id: row.text(6)?,
            issued_ms: row.int(7)?,
            expires_ms: row.optional_int(8)?,
        },
        deleted: row.bool(9)?,
    };
    Ok((row.int(1)?, grant))
}

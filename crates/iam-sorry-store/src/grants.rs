//! What was handed out, and the IAM users that the service looks after.

use crate::cursor::{Cursor, List, Window};
use crate::engine::{DbError, Row, params};
use crate::query::Query;
use crate::rotations;
use crate::writer::Tx;
use crate::{Finish, Grant, ManagedUser, NewGrant, PageOf, PageRequest, Store, StoreError};

/// The part of [`Finish`] that is about grants and users. `person` is who the operation is for.
pub(crate) fn apply(tx: &mut Tx<'_>, person: &str, finish: &Finish) -> Result<(), DbError> {
    for (n, grant) in (0_i64..).zip(&finish.grants) {
        tx.deferred(
            "INSERT INTO grants (operation, n, person, kind, resource, folded, access_key_id, issued_ms, expires_ms, deleted)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0)",
            params![
                &finish.operation,
                n,
                person,
                &grant.kind,
                &grant.resource,
                &fold(&grant.resource),
                &grant.access_key_id,
                grant.issued_ms,
                grant.expires_ms,
            ],
        )?;
    }
    for key in &finish.deleted_keys {
        tx.deferred("UPDATE grants SET deleted = 1 WHERE access_key_id = ?1", params![key])?;
        rotations::deleted(tx, key)?;
    }
    if let Some(user) = &finish.user {
        tx.deferred(
            "INSERT INTO users (folded, name, arn, namespace, owner, created_ms, adopted)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (folded) DO UPDATE SET name = excluded.name, arn = excluded.arn, namespace = excluded.namespace,
                 owner = excluded.owner, created_ms = excluded.created_ms, adopted = excluded.adopted",
            params![
                &fold(&user.name),
                &user.name,
                &user.arn,
                &user.namespace,
                &user.owner,
                user.created_ms,
                user.adopted,
            ],
        )?;
    }
    if let Some(name) = &finish.deleted_user {
        let folded = fold(name);
        tx.deferred("DELETE FROM users WHERE folded = ?1", params![&folded])?;
        // A session of a deleted user is worth nothing; a role of that name is something else.
        tx.deferred("UPDATE grants SET deleted = 1 WHERE folded = ?1 AND kind <> 'role'", params![&folded])?;
        tx.deferred("DELETE FROM rotations WHERE folded = ?1", params![&folded])?;
    }
    match &finish.rotation {
        Some(change) => rotations::change(tx, &finish.operation, person, change),
        None => Ok(()),
    }
}

const USER: &str = "SELECT folded, name, arn, namespace, owner, created_ms, adopted FROM users";
const GRANT: &str =
    "SELECT operation, n, person, kind, resource, access_key_id, issued_ms, expires_ms, deleted FROM grants";

impl Store {
    /// A user that the service made or adopted; names are compared without regard to case, as IAM does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn user(&self, name: &str) -> Result<Option<ManagedUser>, StoreError> {
        let folded = fold(name);
        self.read(move |connection| {
            let rows = connection.query(&format!("{USER} WHERE folded = ?1"), params![&folded])?;
            Ok(rows.into_iter().next().map(user).transpose()?)
        })
        .await
    }

    /// Users by name; those of some namespaces, or all.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`] and others.
    pub async fn list_users(
        &self,
        namespaces: Option<&[String]>,
        page: PageRequest,
    ) -> Result<PageOf<ManagedUser>, StoreError> {
        let window = Window::new(List::Users, &page)?;
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
            if let Some(after) = &window.after {
                let mark = query.mark(&after.text);
                query.and(&format!("folded > {mark}"));
            }
            let rows = query.run(connection, "folded", window.rows())?;
            let users = rows.into_iter().map(user).collect::<Result<Vec<_>, _>>()?;
            Ok(window.page(users, |user| Cursor::new(0, fold(&user.name))))
        })
        .await
    }

    /// The cursor behind a user: for who leaves out some of a page, since a cursor names the row before it.
    pub fn after_user(name: &str) -> String {
        Cursor::new(0, fold(name)).encode(List::Users)
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

/// IAM names are ASCII and unique without regard to case; ARNs are folded the same way only to be compared.
pub(crate) fn fold(name: &str) -> String {
    name.to_ascii_lowercase()
}

fn user(mut row: Row) -> Result<ManagedUser, DbError> {
    Ok(ManagedUser {
        name: row.text(1)?,
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
            resource: row.text(4)?,
            access_key_id: row.text(5)?,
            issued_ms: row.int(6)?,
            expires_ms: row.optional_int(7)?,
        },
        deleted: row.bool(8)?,
    };
    Ok((row.int(1)?, grant))
}

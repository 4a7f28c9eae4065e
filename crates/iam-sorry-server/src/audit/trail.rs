//! Reading the audit trail: one's own without asking, everybody's where the rules allow it. Reading is itself recorded.
//!
//! What a query costs depends on what is asked for, so a person has one at a time, over all of their sessions: list, chart,
//! or a part of an export.

use std::time::Duration;

use iam_sorry_core::api::{AuditQuery, AuditRecord, Page, ProblemCode};
use iam_sorry_core::audit::{Outcome, RecordId};
use iam_sorry_core::timestamp::Timestamp;
use iam_sorry_rules::{Action, Resource};
use iam_sorry_store::{
    AuditCount, AuditEntry, AuditFilter, PageRequest, StoreError, TrailPart, TrailPosition,
};

use crate::authz::authorize::{Authorized, AuthzRequest};
use crate::caller::Caller;
use crate::error::ServiceError;
use crate::operations::queue::Turn;
use crate::service::Service;

/// Records that are read from the database at once.
const CHUNK: u32 = 500;
/// How long a query waits for another one of the same person.
const TURN: Duration = Duration::from_secs(3);

/// How often something happened on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionCount {
    /// Midnight UTC at which the day began, milliseconds since 1970.
    pub day_ms: i64,
    /// Such as `create-user`.
    pub action: String,
    /// How often.
    pub count: u64,
}

impl Service {
    /// `GET /audit`, newest first.
    ///
    /// # Errors
    /// [`ServiceError`]: not allowed; bad-request for a time or cursor that can't be read; store.
    pub async fn read_audit(
        &self,
        caller: &Caller,
        query: AuditQuery,
    ) -> Result<Page<AuditRecord>, ServiceError> {
        let _turn = self.audit_turn(caller).await?;
        let filter = self.may_read(caller, "read-audit", &query).await?;
        let page = PageRequest { cursor: query.cursor, limit: limit(query.limit)? };
        let found = self.store().audit_page(filter, page).await?;
        let items = found.items.iter().map(readable_record).collect::<Result<_, _>>()?;
        Ok(Page { items, next: found.next })
    }

    /// `GET /audit/export`, to be read chunk by chunk. Without filters, and for those who may read everything, it is the
    /// chain itself, oldest first, which `audit verify` can verify; with one, what fits, newest first.
    ///
    /// # Errors
    /// As [`Service::read_audit`].
    pub async fn export_audit(
        &self,
        caller: &Caller,
        query: AuditQuery,
    ) -> Result<AuditExport, ServiceError> {
        let filter = self.may_read(caller, "export-audit", &query).await?;
        let whole = query.all && filter == AuditFilter::default();
        Ok(AuditExport {
            service: self.clone(),
            person: caller.identity.id(),
            source: match whole {
                true => Source::Trail(WholeTrail::default()),
                false => Source::Filtered(filter, None),
            },
            ended: false,
        })
    }

    /// How often what happened, by day and action: of the records that the same query gives. Not recorded: whoever draws
    /// this reads the records as well.
    ///
    /// # Errors
    /// As [`Service::read_audit`].
    pub async fn count_audit(
        &self,
        caller: &Caller,
        query: &AuditQuery,
    ) -> Result<Vec<ActionCount>, ServiceError> {
        let _turn = self.audit_turn(caller).await?;
        let (filter, _) = self.readable(caller, query).await?;
        let counts = self.store().audit_counts(filter).await?.into_iter();
        Ok(counts.map(|AuditCount { day_ms, action, count }| ActionCount { day_ms, action, count }).collect())
    }

    /// One record by its name: one's own, or anybody's where the rules allow that.
    ///
    /// # Errors
    /// [`ServiceError`]: not-found, also for what one may not see; store.
    pub async fn audit_record(&self, caller: &Caller, id: RecordId) -> Result<AuditRecord, ServiceError> {
        let missing = || {
            ServiceError::new(ProblemCode::NotFound, "There is no such record, or none that you may read.")
        };
        let entry = self.store().audit_entry(id).await?.ok_or_else(missing)?;
        let record = readable_record(&entry)?;
        let mut event = self.event(caller, "read-audit", "record");
        event.outcome = Some(Outcome::Success);
        event.details.insert("record".to_owned(), id.to_string());
        if record.event.person.id == caller.identity.id() {
            self.record_bounded(event).await?;
            return Ok(record);
        }
        let evaluated = self.evaluate(caller, &AuthzRequest::about(Action::ReadAudit, Resource::Audit), None);
        if !evaluated.decision.allowed {
            return Err(missing());
        }
        evaluated.note_in(&mut event);
        self.store().record(vec![event]).await?;
        Ok(record)
    }

    async fn audit_turn(&self, caller: &Caller) -> Result<Turn, ServiceError> {
        let turn = self.inner.audit_turns.turn_within(&caller.identity.id(), TURN).await;
        turn.ok_or_else(|| ServiceError {
            retry_after: Some(5),
            ..ServiceError::new(
                ProblemCode::TooManyRequests,
                "Another query of yours is still reading the audit trail; a person has one at a time.\nTry again when it has \
                 ended.",
            )
        })
    }

    async fn may_read(
        &self,
        caller: &Caller,
        action: &str,
        query: &AuditQuery,
    ) -> Result<AuditFilter, ServiceError> {
        let (filter, allowed) = self.readable(caller, query).await?;
        let mut event = self.event(caller, action, if query.all { "all" } else { "mine" });
        if let Some(allowed) = allowed {
            allowed.note_in(&mut event);
        }
        event.outcome = Some(Outcome::Success);
        let asked = [
            ("person", &query.person),
            ("action", &query.action),
            ("resource", &query.resource),
            ("from", &query.from),
            ("to", &query.to),
        ];
        for (name, value) in asked {
            if let Some(value) = value {
                // A filter is free text: only so much of it goes into the trail.
                event.details.insert(name.to_owned(), value.chars().take(200).collect());
            }
        }
        if query.all {
            self.store().record(vec![event]).await?;
        } else {
            self.record_bounded(event).await?;
        }
        Ok(filter)
    }

    /// What a query may see: all of it, where the rules allow that, or the caller's own.
    async fn readable(
        &self,
        caller: &Caller,
        query: &AuditQuery,
    ) -> Result<(AuditFilter, Option<Authorized>), ServiceError> {
        let mut filter = AuditFilter {
            action: query.action.clone(),
            resource: query.resource.as_ref().map(|resource| resource.to_ascii_lowercase()),
            from_ms: query.from.as_deref().map(time).transpose()?,
            to_ms: query.to.as_deref().map(time).transpose()?,
            ..AuditFilter::default()
        };
        if query.all {
            let allowed =
                self.authorize(caller, &AuthzRequest::about(Action::ReadAudit, Resource::Audit)).await?;
            match query.person.as_deref() {
                // Issuers have no slash, and login names of directories none either.
                Some(person) if person.contains('/') => filter.person = Some(person.to_owned()),
                Some(name) => filter.name = Some(iam_sorry_rules::fold(name)),
                None => {}
            }
            Ok((filter, Some(allowed)))
        } else {
            if query.person.as_ref().is_some_and(|p| *p != caller.identity.id() && *p != caller.identity.name)
            {
                return Err(ServiceError::new(
                    ProblemCode::BadRequest,
                    "Somebody else's records are seen by auditors only, who ask with all=true.",
                ));
            }
            filter.person = Some(caller.identity.id());
            Ok((filter, None))
        }
    }
}

fn readable_record(entry: &AuditEntry) -> Result<AuditRecord, ServiceError> {
    let record = &entry.record;
    let event = entry.event().map_err(|error| {
        tracing::error!(%error, "an audit record can't be read");
        ServiceError::new(ProblemCode::Internal, "A record of the audit trail can't be read.")
    })?;
    Ok(AuditRecord { lane: record.lane.to_string(), seq: record.seq, hash: record.hash_hex(), event })
}

/// An export under way.
pub struct AuditExport {
    service: Service,
    /// Whose turn each part takes.
    person: String,
    source: Source,
    ended: bool,
}

enum Source {
    Trail(WholeTrail),
    /// What fits, from a cursor on.
    Filtered(AuditFilter, Option<String>),
}

/// The trail as it is when it is first asked for.
#[derive(Default)]
struct WholeTrail {
    position: TrailPosition,
    end: Option<TrailPosition>,
}

/// A part of an export.
pub(crate) enum ExportPart {
    /// Of the trail.
    Trail(TrailPart),
    /// What fits a filter.
    Filtered(Vec<AuditEntry>),
}

impl AuditExport {
    /// Whose trail it is.
    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    /// Whether it is a part of the trail only, which can't be verified as a chain.
    pub fn is_filtered(&self) -> bool {
        matches!(self.source, Source::Filtered(..))
    }

    /// The next records; none at the end.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn next(&mut self) -> Result<Option<ExportPart>, ServiceError> {
        while !self.ended {
            // An export waits, however long: it has promised everything, and its client can hang up.
            let turns = &self.service.inner.audit_turns;
            let _turn = turns.turn_within(&self.person, Duration::MAX).await;
            match self.part().await {
                Err(StoreError::Crowded) => {}
                part => return Ok(part?),
            }
        }
        Ok(None)
    }

    async fn part(&mut self) -> Result<Option<ExportPart>, StoreError> {
        let store = self.service.store();
        match &mut self.source {
            Source::Trail(trail) => {
                let end = match &trail.end {
                    Some(end) => end,
                    None => trail.end.insert(store.trail_state().await?.end),
                };
                let part = store.export_trail(&trail.position, Some(end), CHUNK).await?;
                trail.position = part.start.clone();
                part.records.iter().for_each(|record| trail.position.pass(record));
                self.ended = part.records.is_empty();
                Ok((!self.ended).then_some(ExportPart::Trail(part)))
            }
            Source::Filtered(filter, cursor) => {
                let page = PageRequest { cursor: cursor.clone(), limit: CHUNK };
                let page = store.audit_page(filter.clone(), page).await?;
                self.ended = page.next.is_none();
                *cursor = page.next;
                Ok((!page.items.is_empty()).then_some(ExportPart::Filtered(page.items)))
            }
        }
    }
}

/// The length of a page: 1 to 500, 100 where nothing is said.
pub(crate) fn limit(asked: Option<u32>) -> Result<u32, ServiceError> {
    match asked.unwrap_or(100) {
        limit @ 1..=500 => Ok(limit),
        _ => Err(ServiceError::new(ProblemCode::BadRequest, "The limit of a page is 1 to 500.")),
    }
}

fn time(text: &str) -> Result<i64, ServiceError> {
    let time =
        Timestamp::parse(text).map_err(|e| ServiceError::new(ProblemCode::BadRequest, e.to_string()))?;
    Ok(time.unix().saturating_mul(1000))
}

//! The audit trail: the list with its filter, counts over time, and single records.

use std::collections::BTreeSet;

use axum::extract::{Path, Query};
use iam_sorry_core::api::{AuditQuery, AuditRecord, ProblemCode};
use iam_sorry_core::audit::{Decision, Event, Outcome, Phase, RecordId};
use serde::Deserialize;
use time::{Date, Duration};

use super::chart::{Chart, Count};
use super::context::SignedIn;
use super::responses::{self, Answer};
use super::time_format::now_ms;
use super::time_format::{self, day};
use super::urls;
use super::views::{
    AuditPage, Choice, Fact, FactGroup, FilterForm, Link, Moment, RecordPage, RecordRow, Section,
};
use crate::audit::trail::ActionCount;
use crate::authz::authorize::action_names;
use crate::error::ServiceError;

/// How many days the chart shows when nothing is asked.
const DAYS: i64 = 30;

/// What is recorded besides what rules decide about.
const MORE_ACTIONS: [&str; 23] = [
    "lane-closed",
    "sign-in",
    "sign-in-refused",
    "sign-out",
    "end-session",
    "register-ssh-key", // in records of before it became an action of the rules
    "remove-ssh-key",
    "end-sessions",
    "export-audit",
    "explain",
    "read-grants",
    "read-sessions",
    "list-keys",
    "requests-counted",
    "rules-changed",
    "configuration-changed",
    "audit-key-changed",
    "certificate-changed",
    "aws-identity-changed",
    "aws-access-key-changed",
    "service-started",
    "service-stopped",
    "service-lost",
];

/// The query of the list: all as text, since a form sends its empty fields too.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct FilterQuery {
    cursor: String,
    person: String,
    action: String,
    resource: String,
    from: String,
    to: String,
}

impl FilterQuery {
    /// As the service is asked. `to` is a day that is still included.
    fn asked(&self, auditor: bool) -> Result<AuditQuery, ServiceError> {
        let filled = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let date = |text: &str| match text.trim() {
            "" => Ok(None),
            text => day(text).map(Some).ok_or_else(|| {
                ServiceError::new(ProblemCode::BadRequest, "A day is written like 2026-11-22.")
            }),
        };
        let after = |day: Date| day.next_day().map(time_format::start_of);
        Ok(AuditQuery {
            cursor: filled(&self.cursor),
            limit: Some(50),
            all: auditor,
            person: filled(&self.person).filter(|_| auditor),
            action: filled(&self.action),
            resource: filled(&self.resource),
            from: date(&self.from)?.map(time_format::start_of),
            to: date(&self.to)?.and_then(after),
        })
    }

    /// The address of the page behind this one.
    fn older(&self, cursor: &str) -> String {
        let mut place = "/audit?".to_owned();
        let fields = [
            ("person", &self.person),
            ("action", &self.action),
            ("resource", &self.resource),
            ("from", &self.from),
            ("to", &self.to),
        ];
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            place.push_str(&format!("{name}={}&", urls::encode(value)));
        }
        place + "cursor=" + &urls::encode(cursor)
    }

    /// The days that the chart covers.
    fn days(&self) -> Option<(Date, Date)> {
        let last = day(self.to.trim()).or_else(|| time_format::day_of(now_ms()))?;
        let first = day(self.from.trim()).or_else(|| last.checked_sub(Duration::days(DAYS - 1)))?;
        (first <= last).then_some((first, last))
    }
}

/// `GET /audit`.
pub(super) async fn show(signed: SignedIn, Query(filter): Query<FilterQuery>) -> Answer {
    let (service, caller) = (signed.context.service(), &signed.caller);
    let auditor = service.me(caller).await?.auditor;
    let query = filter.asked(auditor)?;
    let mut too_broad = false;
    let chart = match filter.days() {
        Some((first, last)) if query.cursor.is_none() => {
            let mut counted = query.clone();
            counted.from = Some(time_format::start_of(first));
            let counts = match service.count_audit(caller, &counted).await {
                // The list is cheaper than the chart: its newest records are enough.
                Err(refusal) if refusal.code == ProblemCode::QueryTooBroad => {
                    too_broad = true;
                    Vec::new()
                }
                counts => counts?,
            };
            let count = |counted: ActionCount| {
                let day = time_format::day_of(counted.day_ms)?;
                Some(Count { day, action: counted.action, count: counted.count })
            };
            Chart::draw(&counts.into_iter().filter_map(count).collect::<Vec<_>>(), first, last)
        }
        _ => None,
    };
    let page = service.read_audit(caller, query).await?;
    let records = page.items.iter().map(RecordRow::from).collect();
    responses::page(&AuditPage {
        frame: signed.context.frame("Audit", Section::Audit)?,
        auditor,
        actions: actions(&filter.action),
        chart,
        too_broad,
        records,
        older: page.next.map(|cursor| filter.older(&cursor)),
        filter: FilterForm {
            person: filter.person,
            resource: filter.resource,
            from: filter.from,
            to: filter.to,
        },
    })
}

/// `GET /audit/{record}`.
pub(super) async fn record(signed: SignedIn, Path(id): Path<String>) -> Answer {
    let record = match RecordId::parse(&id) {
        Some(id) => signed.context.service().audit_record(&signed.caller, id).await?,
        None => {
            let detail = "A record is named LANE:SEQ, such as 18a9842ac3304823:7.";
            return Err(ServiceError::new(ProblemCode::BadRequest, detail));
        }
    };
    let id = record.id();
    let row = RecordRow::from(&record);
    let event = &record.event;
    let mut related = Vec::new();
    if !event.resource.is_empty() {
        related.push(Link {
            href: format!("/audit?resource={}", urls::encode(&event.resource)),
            label: format!("All of {}", event.resource),
        });
    }
    responses::page(&RecordPage {
        frame: signed.context.frame(format!("Record {id}"), Section::Audit)?,
        id,
        action: event.action.clone(),
        time: row.time,
        result: row.result,
        tone: row.tone,
        groups: facts(&record),
        related,
    })
}

fn actions(chosen: &str) -> Vec<Choice> {
    let mut names: BTreeSet<&str> = action_names().collect();
    names.extend(MORE_ACTIONS);
    if !chosen.is_empty() {
        names.insert(chosen);
    }
    let choice =
        |name: &str| Choice { value: name.to_owned(), label: name.to_owned(), selected: name == chosen };
    names.into_iter().map(choice).collect()
}

impl From<&AuditRecord> for RecordRow {
    fn from(record: &AuditRecord) -> Self {
        let event = &record.event;
        let (result, tone) = result(event);
        Self {
            label: short(&record.id()),
            id: record.id(),
            time: Moment::from_ms(event.time_ms),
            person: if event.person.name.is_empty() {
                event.person.id.clone()
            } else {
                event.person.name.clone()
            },
            action: event.action.clone(),
            resource: event.resource.clone(),
            result,
            tone,
        }
    }
}

/// The first digits of a lane's name tell it from those that are written to at the same time.
fn short(id: &str) -> String {
    match id.split_once(':') {
        Some((lane, seq)) => format!("{}:{seq}", lane.get(..4).unwrap_or(lane)),
        None => id.to_owned(),
    }
}

fn result(event: &Event) -> (&'static str, &'static str) {
    match (event.phase, event.outcome, event.decision) {
        (Phase::Intent, ..) => ("begun", ""),
        (_, Some(Outcome::Success), _) => ("done", "good"),
        (_, Some(Outcome::Reconciled), _) => ("put in order", "warn"),
        (_, _, Some(Decision::Deny)) => ("not allowed", "bad"),
        (_, Some(Outcome::Failure), _) => ("failed", "bad"),
        (_, None, _) => ("noted", ""),
    }
}

fn facts(record: &AuditRecord) -> Vec<FactGroup> {
    let event = &record.event;
    let plain = |name: &str, value: &str| Fact { name: name.into(), value: value.into(), code: false };
    let code = |name: &str, value: &str| Fact { name: name.into(), value: value.into(), code: true };
    let mut who = vec![plain("Name", &event.person.name), code("Identity", &event.person.id)];
    if let Some(method) = event.person.method {
        who.push(plain("Signed in by", method.as_str()));
    }
    who.push(plain("Groups", &event.person.groups.join(", ")));
    who.push(plain("Session", event.via.as_deref().unwrap_or_default()));
    who.push(code("Address", &event.address));
    let mut what = vec![code("Action", &event.action), code("On", &event.resource)];
    what.extend(event.account.as_deref().map(|account| code("In account", account)));
    what.extend(event.details.iter().map(|(name, value)| code(name, value)));
    let mut decided = Vec::new();
    if let Some(decision) = event.decision {
        decided.push(plain("Decision", if decision == Decision::Allow { "allowed" } else { "denied" }));
        decided.push(plain("Decided by", &event.rules.join("; ")));
    }
    decided.extend(event.rules_digest.as_deref().map(|digest| code("Rules in force", digest)));
    decided.extend(event.approval.as_ref().map(|approval| code("Approval", &approval.request)));
    decided
        .extend(event.signature.as_ref().map(|signature| code("Signed by the person with", &signature.key)));
    let mut traced = vec![plain(
        "Phase",
        match event.phase {
            Phase::Intent => "intent: written before AWS was asked",
            Phase::Outcome => "outcome of an intent",
            Phase::Event => "stands alone",
        },
    )];
    traced.extend(event.operation.as_deref().map(|id| code("Operation", id)));
    traced.push(code("Request", &event.request_id));
    traced.push(code("AWS requests", &event.aws_request_ids.join(", ")));
    traced.push(code("Instance", &event.instance));
    let chain =
        vec![code("Lane", &record.lane), code("Number", &record.seq.to_string()), code("Hash", &record.hash)];
    let groups = [
        ("Who", who),
        ("What", what),
        ("Decision", decided),
        ("Where it belongs", traced),
        ("In the chain", chain),
    ];
    let filled =
        |facts: Vec<Fact>| facts.into_iter().filter(|fact| !fact.value.is_empty()).collect::<Vec<_>>();
    groups
        .into_iter()
        .map(|(title, facts)| FactGroup { title, facts: filled(facts) })
        .filter(|group| !group.facts.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(from: &str, to: &str) -> FilterQuery {
        FilterQuery { from: from.into(), to: to.into(), person: " dirk ".into(), ..FilterQuery::default() }
    }

    #[test]
    fn days_are_whole_and_the_last_is_included() {
        let query = filter("2026-11-01", "2026-11-30").asked(true).unwrap();
        assert_eq!(query.from.as_deref(), Some("2026-11-01T00:00:00Z"));
        assert_eq!(query.to.as_deref(), Some("2026-12-01T00:00:00Z"));
        assert_eq!(query.person.as_deref(), Some("dirk"));
        assert!(filter("yesterday", "").asked(true).is_err());
    }

    #[test]
    fn who_is_no_auditor_asks_for_their_own_only() {
        let query = filter("", "").asked(false).unwrap();
        assert!(!query.all && query.person.is_none());
    }

    #[test]
    fn the_way_to_older_records_keeps_the_filter() {
        let mut filter = filter("2026-11-01", "");
        filter.resource = "a&b=c".into();
        assert_eq!(
            filter.older("x/y"),
            "/audit?person=%20dirk%20&resource=a%26b%3Dc&from=2026-11-01&cursor=x%2Fy"
        );
        assert_eq!(urls::local(&filter.older("x")), filter.older("x"));
    }

    #[test]
    fn a_chart_from_later_to_earlier_is_none() {
        assert_eq!(filter("2026-11-02", "2026-11-01").days(), None);
        let (first, last) = filter("", "2026-11-30").days().unwrap();
        assert_eq!((first.to_string().as_str(), last.to_string().as_str()), ("2026-11-01", "2026-11-30"));
    }
}

//! A record in the words of the Open Cybersecurity Schema Framework 1.5 (schema.ocsf.io), for what collects logs.
//!
//! Sign-ins and sign-outs are Authentication (3002); users made, deleted, given or stripped of policies are Account
//! Change (3001); everything else is API Activity (6003). An OCSF export is for reading: the chain is verified in the
//! trail's own format.

use serde_json::{Map, Value, json};

use super::event::{Decision, Event, Outcome, Phase};
use super::record::{InvalidRecord, Record};
use crate::identity::Method;

/// The class and activity of an action.
struct Class {
    category: u32,
    class: u32,
    activity: u32,
    name: &'static str,
}

impl Class {
    fn of(action: &str) -> Self {
        let (class, activity, name) = match action {
            "sign-in" | "sign-in-refused" => (3002, 1, "Logon"),
            "sign-out" | "end-session" | "end-sessions" => (3002, 2, "Logoff"),
            "create-user" => (3001, 1, "Create"),
            "delete-user" => (3001, 6, "Delete"),
            "attach-policy" => (3001, 7, "Attach Policy"),
            "detach-policy" => (3001, 8, "Detach Policy"),
            _ => match action.split('-').next().unwrap_or_default() {
                "create" | "issue" | "add" | "register" | "adopt" | "assume" => (6003, 1, "Create"),
                "read" | "list" | "show" | "explain" | "export" => (6003, 2, "Read"),
                "rotate" | "update" | "change" | "confirm" | "restore" => (6003, 3, "Update"),
                "delete" | "remove" | "end" | "retire" => (6003, 4, "Delete"),
                _ => (6003, 99, "Other"),
            },
        };
        Self { category: class / 1000, class, activity, name }
    }
}

/// One OCSF event. `groups`: the list that the record names by its digest, where it does.
///
/// # Errors
/// [`InvalidRecord`] where the record holds no event that this program knows.
pub fn to_ocsf(record: &Record, groups: Option<&[String]>) -> Result<Value, InvalidRecord> {
    let mut event = record.event()?;
    if let Some(groups) = groups {
        event.person.groups = groups.to_vec();
    }
    let class = Class::of(&event.action);
    let mut out = json!({
        "activity_id": class.activity,
        "activity_name": class.name,
        "category_uid": class.category,
        "class_uid": class.class,
        "type_uid": class.class * 100 + class.activity,
        "time": event.time_ms,
        "severity_id": if event.decision == Some(Decision::Deny) { 2 } else { 1 },
        "metadata": metadata(record, &event),
        "actor": actor(&event),
        "api": {
            "operation": event.action,
            "request": { "uid": event.request_id },
            "service": { "name": "iam-sorryd" },
        },
        "cloud": cloud(&event),
        "unmapped": unmapped(record, &event),
    });
    let Value::Object(fields) = &mut out else { return Ok(out) };
    if !event.address.is_empty() {
        fields.insert("src_endpoint".into(), json!({ "ip": event.address }));
    } else if class.class == 6003 {
        // Required there: what the service does by itself comes from the service.
        fields.insert("src_endpoint".into(), json!({ "name": event.instance }));
    }
    status(fields, &event);
    // A record of many: `count` of the base event.
    if let Some(count) = event.details.get("count").and_then(|count| count.parse::<u64>().ok()) {
        fields.insert("count".into(), json!(count));
    }
    match class.class {
        3002 => authentication(fields, &event),
        3001 => account_change(fields, &event),
        _ if !event.resource.is_empty() => {
            fields.insert("resources".into(), json!([resource(&event.resource)]));
        }
        _ => {}
    }
    Ok(out)
}

fn metadata(record: &Record, event: &Event) -> Value {
    let mut metadata = json!({
        "version": "1.5.0",
        "product": { "name": "iam-sorryd", "vendor_name": "iam-sorry" },
        "profiles": ["cloud"],
        "log_name": "audit",
        "uid": record.hash_hex(),
        "sequence": record.seq,
    });
    if let (Some(operation), Value::Object(fields)) = (&event.operation, &mut metadata) {
        fields.insert("correlation_uid".into(), json!(operation));
    }
    metadata
}

fn cloud(event: &Event) -> Value {
    match &event.account {
        Some(account) => json!({ "provider": "AWS", "account": { "name": account } }),
        None => json!({ "provider": "AWS" }),
    }
}

fn user(event: &Event) -> Value {
    let groups: Vec<Value> = event.person.groups.iter().map(|group| json!({ "name": group })).collect();
    json!({ "name": event.person.name, "uid": event.person.id, "type_id": 1, "groups": groups })
}

fn actor(event: &Event) -> Value {
    let mut actor = json!({ "user": user(event) });
    if let (Some(decision), Value::Object(fields)) = (event.decision, &mut actor) {
        let decision = decision.as_str();
        let by = |rule: &String| match &event.rules_digest {
            Some(digest) => {
                json!({ "decision": decision, "policy": { "name": rule, "version": digest } })
            }
            None => json!({ "decision": decision, "policy": { "name": rule } }),
        };
        let mut decided: Vec<Value> = event.rules.iter().map(by).collect();
        if decided.is_empty() {
            decided.push(json!({ "decision": decision }));
        }
        fields.insert("authorizations".into(), Value::Array(decided));
    }
    actor
}

fn status(fields: &mut Map<String, Value>, event: &Event) {
    let (id, text) = match (event.outcome, event.decision) {
        (Some(Outcome::Success), _) => (1, "Success"),
        (Some(Outcome::Failure), _) | (None, Some(Decision::Deny)) => (2, "Failure"),
        (Some(Outcome::Reconciled), _) => (99, "Reconciled"),
        (None, _) => (0, "Unknown"),
    };
    if event.phase == Phase::Intent {
        fields.insert("status_detail".into(), json!("written before it was begun"));
    }
    fields.insert("status_id".into(), json!(id));
    fields.insert("status".into(), json!(text));
    if let Some(code) = event.details.get("error").or_else(|| event.details.get("code")) {
        fields.insert("status_code".into(), json!(code));
    }
}

fn authentication(fields: &mut Map<String, Value>, event: &Event) {
    fields.insert("user".into(), user(event));
    fields.insert("is_remote".into(), json!(true));
    fields.insert("service".into(), json!({ "name": "iam-sorryd" }));
    if let Some(method) = event.person.method {
        let name = match method {
            Method::SshKey => "SSH key",
            Method::Ldap => "LDAP",
            Method::DevLink => "one-time link",
        };
        fields.insert("auth_protocol_id".into(), json!(99));
        fields.insert("auth_protocol".into(), json!(name));
    }
}

fn account_change(fields: &mut Map<String, Value>, event: &Event) {
    fields.insert("user".into(), json!({ "name": event.resource, "type_id": 1 }));
    if let Some(arn) = event.details.get("policy_arn").or_else(|| event.details.get("policy")) {
        fields.insert("policy".into(), json!({ "uid": arn }));
    }
}

fn resource(name: &str) -> Value {
    match name.strip_prefix("arn:") {
        Some(_) => json!({ "uid": name, "type": "AWS::IAM::Role" }),
        None => json!({ "name": name, "type": "AWS::IAM::User" }),
    }
}

fn unmapped(record: &Record, event: &Event) -> Value {
    json!({
        "phase": event.phase.as_str(),
        "instance": event.instance,
        "lane": record.lane.to_string(),
        "via": event.via,
        "aws_request_ids": event.aws_request_ids,
        "rules": event.rules,
        "rules_digest": event.rules_digest,
        "signature": event.signature,
        "approval": event.approval,
        "details": event.details,
    })
}

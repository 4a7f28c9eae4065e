//! What an action did, as data; and the one place that makes sentences of it, for the command line, the pages, the API and the
//! audit trail.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::timestamp::human_duration;

/// One thing that an action did, found done, or did not do although it was to be expected. Of a dry run: would do.
///
/// Scripts read these; people read the sentences that [`sentences`] makes of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Change {
    /// An IAM user was made.
    UserCreated {
        /// Its name.
        user: String,
    },
    /// An IAM user was deleted.
    UserDeleted {
        /// Its name.
        user: String,
    },
    /// An IAM user was taken over.
    UserAdopted {
        /// Its name.
        user: String,
    },
    /// The IAM user was gone already: deleted without the service.
    UserGone {
        /// Its name.
        user: String,
    },
    /// Something that was attached to a user was taken away together with the user.
    TakenAway {
        /// What.
        part: UserPart,
    },
    /// The user got the configured permissions boundary.
    BoundarySet {
        /// The boundary.
        policy_arn: String,
    },
    /// The user was moved to the path of its namespace.
    UserMoved {
        /// The path that it had.
        from: String,
        /// The path that it has.
        to: String,
    },
    /// A managed policy was attached, or was attached already.
    PolicyAttached {
        /// The policy.
        policy_arn: String,
    },
    /// A managed policy was detached.
    PolicyDetached {
        /// The policy.
        policy_arn: String,
    },
    /// The policy that was to be detached was not attached.
    PolicyNotAttached {
        /// The policy.
        policy_arn: String,
    },
    /// A permanent access key was made.
    KeyCreated {
        /// The key; none of a dry run.
        access_key_id: Option<String>,
    },
    /// A permanent access key was deleted.
    KeyDeleted {
        /// The key.
        access_key_id: String,
        /// Its part in a rotation that ends with it, if any.
        #[serde(default)]
        rotation: Option<RotationKey>,
    },
    /// The key that was to be deleted was gone already.
    KeyGone {
        /// The key.
        access_key_id: String,
    },
    /// A permanent access key was activated or deactivated.
    KeyStatusSet {
        /// The key.
        access_key_id: String,
        /// Whether it is active now.
        active: bool,
    },
    /// The old key of a rotation is active again.
    KeyReactivated {
        /// The old key.
        access_key_id: String,
    },
    /// The old key of a rotation is inactive, until it is deleted.
    KeySetAside {
        /// The old key.
        access_key_id: String,
        /// Whether it was active before.
        was_active: bool,
        /// How long it is kept unless somebody confirms the new key before, hours.
        kept_hours: u32,
        /// Until when that is, RFC 3339; none of a dry run.
        deleted_after: Option<String>,
    },
    /// A key of a rotation stays as it is.
    KeyKept {
        /// Whose key it is.
        user: String,
        /// The key.
        access_key_id: String,
        /// Which key of the rotation it is.
        rotation: RotationKey,
        /// Whether it is active.
        active: bool,
        /// Why it stays.
        reason: KeptReason,
        /// Until when it stays, RFC 3339; none if it stays until somebody deletes it.
        #[serde(default)]
        until: Option<String>,
    },
    /// No rotation of the key waits for anything: there was nothing to do.
    RotationOver {
        /// The key.
        access_key_id: String,
    },
    /// Temporary credentials were issued.
    CredentialsIssued {
        /// For how long.
        duration_seconds: u32,
    },
    /// Temporary credentials last shorter than was requested.
    DurationCut {
        /// What was requested.
        requested_seconds: u32,
        /// What they last.
        duration_seconds: u32,
        /// What the limit comes from.
        limit: DurationLimit,
    },
}

/// Something that is attached to an IAM user, and that IAM wants gone before the user is deleted (IAM API reference, DeleteUser).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum UserPart {
    /// An access key.
    AccessKey {
        /// `AKIA...`.
        access_key_id: String,
    },
    /// The password for the console. A dry run can't know whether there is one.
    LoginProfile,
    /// A second factor.
    MfaDevice {
        /// Its serial number, or the ARN of a virtual one.
        serial: String,
    },
    /// An X.509 signing certificate.
    SigningCertificate {
        /// Its id.
        id: String,
    },
    /// An SSH key for CodeCommit.
    SshPublicKey {
        /// Its id.
        id: String,
    },
    /// A password or API key for one service.
    ServiceCredential {
        /// Its id.
        id: String,
    },
    /// A policy of the user's own.
    InlinePolicy {
        /// Its name.
        name: String,
    },
    /// A managed policy.
    AttachedPolicy {
        /// Its ARN.
        policy_arn: String,
    },
    /// Membership in a group.
    Group {
        /// The group's name.
        name: String,
    },
}

/// Which key of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RotationKey {
    /// The key that is replaced.
    Old,
    /// The key in its place.
    New,
}

/// Why a key of a rotation stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum KeptReason {
    /// It was used lately.
    LastUsed {
        /// When, RFC 3339.
        at: String,
        /// For which AWS service.
        service: String,
    },
    /// AWS does not say when it was last used.
    UseUnknown,
    /// The old key was used after the rotation.
    UsedSinceRotation {
        /// When, RFC 3339.
        at: String,
    },
    /// The old key is active: somebody activated it again, or it never was inactive.
    Active,
    /// The new key is not there any more.
    NewKeyGone {
        /// The new key.
        access_key_id: String,
    },
    /// The new key is inactive.
    NewKeyInactive {
        /// The new key.
        access_key_id: String,
    },
    /// The old key is not there any more.
    OldKeyGone {
        /// The old key.
        access_key_id: String,
    },
    /// The service could not write down that the key is deactivated.
    NotWritten,
    /// The service lost touch with its database.
    DatabaseLost,
    /// AWS did not confirm that the key is inactive.
    NotConfirmed,
}

/// What cut a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DurationLimit {
    /// The rules.
    Rules,
    /// The role's own maximum in AWS, or that the service itself is a role there.
    Role,
}

/// The sentences that people read, in order. What an answer says anyway (its action, the key that it shows) has none.
pub fn sentences(changes: &[Change], dry_run: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if dry_run {
        lines.push("A dry run: nothing was changed.".to_owned());
    }
    lines.extend(changes.iter().flat_map(|change| change.lines(dry_run)));
    lines
}

impl Change {
    fn lines(&self, dry_run: bool) -> Vec<String> {
        let either = |did: String, would: String| vec![if dry_run { would } else { did }];
        match self {
            Self::UserCreated { .. }
            | Self::UserDeleted { .. }
            | Self::UserAdopted { .. }
            | Self::KeyCreated { .. } => Vec::new(),
            Self::UserGone { user } => {
                vec![format!("IAM knows no user {user} any more: it was deleted without this service.")]
            }
            Self::TakenAway { part } => match part {
                UserPart::LoginProfile if dry_run => {
                    vec!["would take away login profile, if there is one".to_owned()]
                }
                part => either(format!("took away {part}"), format!("would take away {part}")),
            },
            Self::BoundarySet { policy_arn: arn } => either(
                format!("set the permissions boundary {arn}"),
                format!("would set the permissions boundary {arn}"),
            ),
            Self::UserMoved { from, to } => either(
                format!("moved from path {from} to {to}"),
                format!("would move from path {from} to {to}"),
            ),
            Self::PolicyAttached { policy_arn: arn } => {
                either(format!("attached {arn}"), format!("would attach {arn}"))
            }
            Self::PolicyDetached { policy_arn: arn } => {
                either(format!("detached {arn}"), format!("would detach {arn}"))
            }
            Self::PolicyNotAttached { policy_arn } => vec![format!("{policy_arn} was not attached")],
            Self::KeyDeleted { access_key_id: id, rotation: None } => {
                either(format!("deleted access key {id}"), format!("would delete access key {id}"))
            }
            Self::KeyDeleted { access_key_id: id, rotation: Some(which) } => either(
                format!("the {which} key {id} was deleted"),
                format!("{id} would be deleted, unless it is in use"),
            ),
            Self::KeyGone { access_key_id } => vec![format!("the old key {access_key_id} was gone already")],
            Self::KeyStatusSet { access_key_id: id, active: true } => {
                either(format!("activated access key {id}"), format!("would activate access key {id}"))
            }
            Self::KeyStatusSet { access_key_id: id, active: false } => either(
                format!("deactivated access key {id}: whoever uses it fails"),
                format!("would deactivate access key {id}: whoever uses it would fail"),
            ),
            Self::KeyReactivated { access_key_id: id } => {
                either(format!("the old key {id} is active again"), format!("{id} would be active again"))
            }
            Self::KeySetAside { access_key_id: id, was_active, kept_hours, deleted_after } => {
                let hours = format!("{kept_hours} hours");
                let until = deleted_after.as_ref().unwrap_or(&hours);
                let how = if *was_active { "deactivated" } else { "left inactive" };
                let then = "deleted once you confirm the new key, or after";
                either(
                    format!("the old key {id} is inactive; it is {then} {until}"),
                    format!("{id} would be {how}, and {then} {hours}"),
                )
            }
            Self::KeyKept { access_key_id: id, reason, .. } if dry_run => {
                vec![format!("{id} would stay active: {reason}")]
            }
            Self::KeyKept { user, access_key_id, rotation, active, reason, until } => {
                let until = until.as_ref().map(|at| format!(", until {at}")).unwrap_or_default();
                reason.lines(user, access_key_id, *rotation, *active, &until)
            }
            Self::RotationOver { access_key_id } => {
                vec![format!("no rotation of {access_key_id} waits for anything")]
            }
            Self::CredentialsIssued { duration_seconds } => match dry_run {
                true => vec![format!("would be issued for {}", human_duration((*duration_seconds).into()))],
                false => Vec::new(),
            },
            Self::DurationCut { requested_seconds, duration_seconds, limit } => {
                let cut = human_duration((*duration_seconds).into());
                let requested = human_duration((*requested_seconds).into());
                vec![match limit {
                    DurationLimit::Rules => {
                        format!("cut to {cut}: the rules allow no more, and {requested} was requested")
                    }
                    DurationLimit::Role => format!(
                        "cut to {cut}: the role's own maximum session duration in AWS is shorter than what was requested"
                    ),
                }]
            }
        }
    }
}

impl KeptReason {
    fn lines(&self, user: &str, id: &str, rotation: RotationKey, active: bool, until: &str) -> Vec<String> {
        let delete = format!("delete it when nobody needs it any more: iam-sorry keys delete {user} {id}");
        let restore = format!("activate it again: iam-sorry keys restore {user} {id}");
        match self {
            Self::Active => vec![format!("the {rotation} key {id} is active, so it stays"), delete],
            Self::UsedSinceRotation { at } => vec![
                format!("the {rotation} key {id} was used {at}, after the rotation, so it stays, inactive"),
                delete,
            ],
            Self::NewKeyGone { access_key_id: new } => vec![
                format!("the new key {new} is gone, so the {rotation} key {id} stays, inactive"),
                restore,
            ],
            Self::NewKeyInactive { access_key_id: new } => vec![
                format!("the new key {new} is inactive, so the {rotation} key {id} stays, inactive"),
                restore,
            ],
            Self::OldKeyGone { access_key_id: old } => {
                vec![format!("the old key {old} is gone, so the {rotation} key {id} stays")]
            }
            Self::LastUsed { .. }
            | Self::UseUnknown
            | Self::NotWritten
            | Self::DatabaseLost
            | Self::NotConfirmed => match rotation {
                RotationKey::New => vec![format!("the new key {id} stays: {self}")],
                RotationKey::Old if active => {
                    vec![format!("the old key {id} stays active: {self}; {delete}")]
                }
                RotationKey::Old => vec![format!("the old key {id} stays, inactive{until}: {self}")],
            },
        }
    }
}

/// The reason alone, as part of a sentence: `it was last used 2026-11-27T12:00:00Z for s3`.
impl fmt::Display for KeptReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LastUsed { at, service } => write!(f, "it was last used {at} for {service}"),
            Self::UseUnknown => f.write_str("AWS does not say when it was last used"),
            Self::UsedSinceRotation { at } => write!(f, "it was used {at}, after the rotation"),
            Self::Active => f.write_str("it is active"),
            Self::NewKeyGone { access_key_id } => write!(f, "the new key {access_key_id} is gone"),
            Self::NewKeyInactive { access_key_id } => write!(f, "the new key {access_key_id} is inactive"),
            Self::OldKeyGone { access_key_id } => write!(f, "the old key {access_key_id} is gone"),
            Self::NotWritten => f.write_str("the service could not write down that it goes"),
            Self::DatabaseLost => f.write_str("the service lost touch with its database"),
            Self::NotConfirmed => f.write_str("AWS did not confirm that it is inactive"),
        }
    }
}

impl fmt::Display for RotationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Old => "old",
            Self::New => "new",
        })
    }
}

/// As part of a sentence: `access key AKIA...`, `login profile`, `group staff`.
impl fmt::Display for UserPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccessKey { access_key_id } => write!(f, "access key {access_key_id}"),
            Self::LoginProfile => f.write_str("login profile"),
            Self::MfaDevice { serial } => write!(f, "MFA device {serial}"),
            Self::SigningCertificate { id } => write!(f, "signing certificate {id}"),
            Self::SshPublicKey { id } => write!(f, "SSH public key {id}"),
            Self::ServiceCredential { id } => write!(f, "service-specific credential {id}"),
            Self::InlinePolicy { name } => write!(f, "inline policy {name}"),
            Self::AttachedPolicy { policy_arn } => write!(f, "attached policy {policy_arn}"),
            Self::Group { name } => write!(f, "group {name}"),
        }
    }
}

/// Reads the changes that this version knows. What a newer one added is left out; the answer's sentences have it.
pub(crate) fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Change>, D::Error> {
    let all = Vec::<serde_json::Value>::deserialize(deserializer)?;
    Ok(all.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> String {
        id.to_owned()
    }

    #[test]
    fn a_dry_run_says_what_would_be_done_and_an_action_what_was() {
        let changes = [
            Change::UserDeleted { user: "dirk".into() },
            Change::TakenAway { part: UserPart::AccessKey { access_key_id: key("AKIA1") } },
            Change::TakenAway { part: UserPart::LoginProfile },
            Change::KeyDeleted { access_key_id: key("AKIA2"), rotation: Some(RotationKey::New) },
            Change::DurationCut {
                requested_seconds: 7200,
                duration_seconds: 3600,
                limit: DurationLimit::Rules,
            },
        ];
        let did = [
            "took away access key AKIA1",
            "took away login profile",
            "the new key AKIA2 was deleted",
            "cut to 1 h: the rules allow no more, and 2 h was requested",
        ];
        assert_eq!(sentences(&changes, false), did);
        let would = [
            "A dry run: nothing was changed.",
            "would take away access key AKIA1",
            "would take away login profile, if there is one",
            "AKIA2 would be deleted, unless it is in use",
            "cut to 1 h: the rules allow no more, and 2 h was requested",
        ];
        assert_eq!(sentences(&changes, true), would);
    }

    #[test]
    fn a_key_that_stays_says_why_and_what_to_do() {
        let kept = |rotation, reason, until: Option<&str>| {
            let (user, access_key_id) = ("dirk".into(), key("AKIA1"));
            let (active, until) = (until.is_none(), until.map(str::to_owned));
            sentences(&[Change::KeyKept { user, access_key_id, rotation, active, reason, until }], false)
        };
        let used = KeptReason::LastUsed { at: "T".into(), service: "s3".into() };
        let delete = "delete it when nobody needs it any more: iam-sorry keys delete dirk AKIA1";
        let active = format!("the old key AKIA1 stays active: it was last used T for s3; {delete}");
        assert_eq!(kept(RotationKey::Old, used.clone(), None), [active]);
        let inactive = "the old key AKIA1 stays, inactive, until U: it was last used T for s3";
        assert_eq!(kept(RotationKey::Old, used.clone(), Some("U")), [inactive]);
        assert_eq!(
            kept(RotationKey::New, used, None),
            ["the new key AKIA1 stays: it was last used T for s3"]
        );
        assert_eq!(
            kept(RotationKey::Old, KeptReason::Active, None),
            ["the old key AKIA1 is active, so it stays", delete]
        );
        let gone = KeptReason::NewKeyGone { access_key_id: key("AKIA2") };
        assert_eq!(
            kept(RotationKey::Old, gone, None),
            [
                "the new key AKIA2 is gone, so the old key AKIA1 stays, inactive",
                "activate it again: iam-sorry keys restore dirk AKIA1",
            ]
        );
    }

    #[test]
    fn what_a_newer_version_did_is_left_out() {
        #[derive(Deserialize)]
        struct Answer(#[serde(deserialize_with = "known")] Vec<Change>);
        let json = r#"[{"change":"user-created","user":"a"},{"change":"user-painted","colour":"red"}]"#;
        let Answer(changes) = serde_json::from_str(json).unwrap();
        assert_eq!(changes, [Change::UserCreated { user: "a".into() }]);
    }
}

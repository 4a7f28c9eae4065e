//! Role profiles: `role_arn` with `source_profile` or `credential_source = Environment`. A chain of roles is assumed
//! from its far end, and each session is cached.

use iam_sorry_aws::issue::{RoleRequest, assume_role};
use iam_sorry_core::credentials::Credentials;

use crate::aws;
use crate::error::{Error, Result};
use crate::profile::Profile;

use super::cache_path::CacheKey;
use super::chain::ProviderChain;
use super::in_progress::InProgress;
use super::mfa::mfa;

/// AWS's limit if a role's credentials assume the next role ("role chaining"), in seconds.
const CHAINED: u32 = 3600;
/// What AssumeRole accepts, in seconds; the role itself may allow less.
const SECONDS: std::ops::RangeInclusive<u32> = 900..=43_200;

/// A role and its source of credentials, checked before the first request.
struct RolePlan {
    profile: Profile,
    arn: String,
    session_name: String,
    seconds: Option<u32>,
    source: RoleSource,
}

enum RoleSource {
    /// A profile that is not a role, or that has keys.
    Profile(Profile),
    Role(Box<RolePlan>),
    Environment(Credentials),
}

impl ProviderChain<'_> {
    /// Credentials of the role.
    pub(super) fn role(&self, profile: &Profile, in_progress: &InProgress) -> Result<Credentials> {
        let plan = self.plan(profile, &mut Vec::new())?;
        self.assume(&plan, in_progress)
    }

    fn plan(&self, profile: &Profile, seen: &mut Vec<String>) -> Result<RolePlan> {
        seen.push(profile.name.clone());
        let arn = profile.setting("role_arn").unwrap_or_default();
        if !(arn.starts_with("arn:") && arn.contains(":role/")) {
            return Err(self.invalid(profile, format!("role_arn is {arn:?}, which is no ARN of a role")));
        }
        let source = self.source(profile, seen)?;
        let chained = matches!(source, RoleSource::Role(_));
        Ok(RolePlan {
            arn: arn.to_owned(),
            session_name: self.session_name(profile)?,
            seconds: self.seconds(profile, chained)?,
            profile: profile.clone(),
            source,
        })
    }

    fn source(&self, profile: &Profile, seen: &mut Vec<String>) -> Result<RoleSource> {
        let next = match (profile.setting("source_profile"), profile.setting("credential_source")) {
            (Some(name), None) => name,
            (None, Some("Environment")) => {
                return self.app.settings.environment_credentials.clone().map(RoleSource::Environment).ok_or_else(|| {
                    Error::profile(format!(
                        "Profile '{}' has credential_source = Environment, but the environment holds no credentials",
                        profile.name
                    ))
                    .hint("Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN for temporary ones")
                });
            }
            (None, other) => {
                return Err(self.invalid(
                    profile,
                    format!(
                        "credential_source is {:?}; iam-sorry knows Environment, and AWS tools take the others by themselves",
                        other.unwrap_or_default()
                    ),
                ));
            }
            (Some(_), Some(_)) => {
                return Err(self.invalid(profile, "both source_profile and credential_source are set".into()));
            }
        };
        let source = self.find(next).ok_or_else(|| {
            let config = self.app.settings.config_file.display();
            self.app
                .not_found("Profile", next)
                .hint(format!("source_profile of [profile {}] in {config} names it", profile.name))
        })?;
        // Keys take precedence; so a profile can be its own source (AWS SDK for Rust, profile/credentials/repr.rs).
        if source.usable_key().is_some() || !source.is_assumable_role() {
            return Ok(RoleSource::Profile(source));
        }
        if seen.contains(&source.name) {
            let source: Vec<&str> = seen.iter().map(String::as_str).chain([next]).collect();
            return Err(
                self.invalid(profile, format!("source_profile leads in a circle: {}", source.join(" -> ")))
            );
        }
        Ok(RoleSource::Role(Box::new(self.plan(&source, seen)?)))
    }

    fn assume(&self, plan: &RolePlan, in_progress: &InProgress) -> Result<Credentials> {
        let app = self.app;
        self.cached_or(&plan.profile.name, &self.role_key(plan), in_progress, |in_progress| {
            let source = match &plan.source {
                RoleSource::Environment(credentials) => credentials.clone(),
                RoleSource::Role(next) => self.assume(next, in_progress)?,
                // A role profile with keys of its own may be its own source.
                RoleSource::Profile(source) => self.role_source_credentials(source, in_progress)?,
            };
            let aws = aws::connect(app, Some(self.region_profile(plan)))?;
            let request = RoleRequest {
                role_arn: plan.arn.clone(),
                session_name: plan.session_name.clone(),
                external_id: plan.profile.setting("external_id").map(str::to_owned),
                seconds: plan.seconds,
                mfa: mfa(app, &plan.profile)?,
                source_identity: None,
                tags: Vec::new(),
            };
            aws::block_on(|_| async { Ok(assume_role(&aws, &source, &request).await?.credentials) })
        })
    }

    /// Everything that the result depends on. The temporary credentials of a user change, but the user does not.
    fn role_key(&self, plan: &RolePlan) -> CacheKey {
        let source = match &plan.source {
            RoleSource::Role(next) => self.role_key(next).to_string(),
            RoleSource::Environment(credentials) => credentials.access_key_id.clone(),
            RoleSource::Profile(source) => {
                let id = source.usable_key().map(|key| key.id.1);
                let who = source.owner().or(id).or(source.setting("credential_process"));
                format!("{}\n{}", source.name, who.unwrap_or_default())
            }
        };
        let seconds = plan.seconds.map(|s| s.to_string()).unwrap_or_default();
        let setting = |key| plan.profile.setting(key).unwrap_or_default();
        let (address, region) = aws::address(self.app, self.region_profile(plan));
        CacheKey::of(&[
            "role",
            &self.app.settings.credentials_file.to_string_lossy(),
            &plan.arn,
            &plan.session_name,
            setting("external_id"),
            setting("mfa_serial"),
            &seconds,
            &source,
            &address,
            &region,
        ])
    }

    /// The role's own profile if it has a region, else the source's.
    fn region_profile<'p>(&self, plan: &'p RolePlan) -> &'p Profile {
        match &plan.source {
            RoleSource::Profile(source) if plan.profile.setting("region").is_none() => source,
            _ => &plan.profile,
        }
    }

    fn session_name(&self, profile: &Profile) -> Result<String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_=,.@-".contains(c);
        let Some(name) = profile.setting("role_session_name") else {
            let name: String =
                profile.name.chars().map(|c| if allowed(c) { c } else { '-' }).take(50).collect();
            return Ok(format!("iam-sorry-{name}"));
        };
        if (2..=64).contains(&name.len()) && name.chars().all(allowed) {
            return Ok(name.to_owned());
        }
        Err(self.invalid(
            profile,
            format!(
                "role_session_name is {name:?}; 2 to 64 letters, digits and any of _ = , . @ - are allowed"
            ),
        ))
    }

    /// `--duration`, else duration_seconds; `None` leaves it to AWS (1 hour).
    fn seconds(&self, profile: &Profile, chained: bool) -> Result<Option<u32>> {
        let requested = match profile.setting("duration_seconds") {
            _ if self.app.global.duration.is_some() => Some(self.app.duration()?.seconds()),
            None => None,
            Some(text) => {
                Some(text.parse().ok().filter(|seconds| SECONDS.contains(seconds)).ok_or_else(|| {
                    self.invalid(
                        profile,
                        format!("duration_seconds is {text:?}; it must be a whole number from 900 to 43200"),
                    )
                })?)
            }
        };
        let max = if chained { CHAINED } else { *SECONDS.end() };
        Ok(requested.map(|seconds| seconds.min(max)))
    }

    fn invalid(&self, profile: &Profile, what: String) -> Error {
        Error::profile(format!("Profile '{}': {what}", profile.name)).hint(format!(
            "Fix [profile {}] in {}",
            profile.name,
            self.app.settings.config_file.display()
        ))
    }
}

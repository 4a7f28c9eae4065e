//! `iam-sorryd policy`: what the service's own AWS identity needs, and nothing more.

use iam_sorry_aws::service_policy::ServicePolicy;
use iam_sorry_core::names::partition_of_region;

use super::config_file::ConfigFile;
use super::output::{Failure, notice, print};
use crate::config::Config;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Also what adopt-user needs for users of the namespaces that lie elsewhere in IAM
    #[arg(long)]
    adopt: bool,
    /// Twelve digits; otherwise aws.account of the configuration, or the account of whoever holds the policy
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
}

/// Prints it; asks nobody.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = arguments.file.load()?;
    let policy = policy_of(&config, arguments.account.clone(), arguments.adopt);
    let text = policy.to_json().map_err(Failure::found)?;
    if policy.groups.is_none() {
        notice(
            "Note: iam:RemoveUserFromGroup is allowed on every group, since delete-user takes users out of theirs, and IAM can \
             limit it by the group alone.\nName the groups that your users may be in, or none, in the configuration: \
             guardrails.groups = []",
        );
    }
    print(text)
}

fn policy_of(config: &Config, account: Option<String>, adopt: bool) -> ServicePolicy {
    let guardrails = &config.guardrails;
    let names = config.namespaces.iter().map(|namespace| namespace.name.clone());
    ServicePolicy {
        partition: partition_of_region(&config.aws.region).to_owned(),
        account: account.or_else(|| config.aws.account.clone()),
        paths: config.namespaces.iter().map(|namespace| namespace.path()).collect(),
        boundary: guardrails.boundary().map(str::to_owned),
        policies: guardrails.policies.clone(),
        groups: guardrails.groups.clone(),
        roles: guardrails.roles.iter().map(|role| role.arn.clone()).collect(),
        adopt: match adopt {
            true => names.flat_map(|name| [format!("{name}-*"), name]).collect(),
            false => Vec::new(),
        },
    }
}

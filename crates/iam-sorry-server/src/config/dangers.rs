//! Settings that are fine one by one, and dangerous or senseless together. `check-config` reports them as errors; `serve`
//! logs them, since a service that runs must not stop at an update.

use iam_sorry_core::names::partition_of_region;

use super::Config;

/// AWS managed policies that make whoever has them an administrator, or can: with no boundary around the user, attaching one
/// is worth every right in the account.
const ALMIGHTY: [&str; 3] = ["AdministratorAccess", "IAMFullAccess", "PowerUserAccess"];

impl Config {
    /// Every danger, each naming the setting and what to do.
    pub fn dangers(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.unbounded_administrators(&mut found);
        self.other_accounts(&mut found);
        self.shared_files(&mut found);
        if self.http.origin.is_https() && self.http.tls.is_none() && self.http.trusted_proxies.is_empty() {
            found.push(
                "http.trusted_proxies: there is no [http.tls], so a proxy stands before the service, but none is trusted: every \
                 request seems to come from the proxy, and all people share the limits of one address.\nName it, such as \
                 trusted_proxies = [\"127.0.0.1\"]."
                    .to_owned(),
            );
        }
        if self.http.metrics_listen.is_some_and(|metrics| metrics.ip().is_unspecified()) {
            found.push(
                "http.metrics_listen: everybody who reaches this machine can read the metrics, which ask nobody who they \
                 are.\nGive it the address of one interface, such as 127.0.0.1."
                    .to_owned(),
            );
        }
        found
    }

    fn unbounded_administrators(&self, found: &mut Vec<String>) {
        let guardrails = &self.guardrails;
        let almighty = |arn: &str| ALMIGHTY.iter().find(|name| arn.ends_with(&format!(":aws:policy/{name}")));
        let listed: Vec<_> = guardrails.policies.iter().filter_map(|arn| almighty(arn)).collect();
        match guardrails.boundary() {
            None => {
                for name in listed {
                    found.push(format!(
                        "guardrails.policies has {name}, and guardrails.permissions_boundary is \"none\": whoever may attach \
                         policies can make an administrator of the account.\nGive a permissions boundary, or take {name} off the \
                         list."
                    ));
                }
            }
            Some(arn) => {
                if let Some(name) = almighty(arn) {
                    found.push(format!(
                        "guardrails.permissions_boundary is {name}, which bounds nothing that matters.\nGive the ARN of a policy \
                         that allows what the department's users may have at most."
                    ));
                }
            }
        }
    }

    /// ARNs that can't be meant. Roles may be of other accounts.
    fn other_accounts(&self, found: &mut Vec<String>) {
        if let Some(account) = &self.aws.account
            && (account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()))
        {
            found.push(format!("aws.account: {account:?} is no AWS account: twelve digits are."));
        }
        let partition = partition_of_region(&self.aws.region);
        let boundary = self.guardrails.boundary().map(|arn| ("guardrails.permissions_boundary", arn));
        let policies = self.guardrails.policies.iter().map(|arn| ("guardrails.policies", arn.as_str()));
        let roles = self.guardrails.roles.iter().map(|role| ("guardrails.role", role.arn.as_str()));
        for (setting, arn) in boundary.into_iter().chain(policies).chain(roles) {
            let parts: Vec<&str> = arn.splitn(6, ':').collect();
            let ["arn", of, _, _, account, _] = parts[..] else { continue };
            if of != partition {
                found.push(format!(
                    "{setting}: {arn} is of the partition {of}, but aws.region {} lies in {partition}.\nCorrect one of them.",
                    self.aws.region
                ));
            }
            if let Some(own) = &self.aws.account
                && setting != "guardrails.role"
                && account != "aws"
                && account != own
            {
                found.push(format!(
                    "{setting}: {arn} is of account {account}, but aws.account is {own}: IAM attaches no policy of another \
                     account.\nCorrect one of them."
                ));
            }
        }
    }

    /// Files that two parts would write.
    fn shared_files(&self, found: &mut Vec<String>) {
        let mut known = Vec::new();
        known.extend(self.store.sqlite_path().map(|path| ("store.path".to_owned(), path)));
        known.extend(self.audit.key_file.as_deref().map(|path| ("audit.key_file".to_owned(), path)));
        for sink in &self.audit.sinks {
            let Some(file) = &sink.file else { continue };
            if let Some((other, _)) = known.iter().find(|(_, path)| *path == file.path) {
                found.push(format!(
                    "The audit sink {} writes to {}, which is {other} already.\nGive it a file of its own.",
                    sink.name,
                    file.path.display()
                ));
            }
            known.push((format!("the file of the audit sink {}", sink.name), &file.path));
        }
    }
}

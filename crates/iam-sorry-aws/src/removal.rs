//! Deleting a user for good: IAM refuses while any of nine kinds of things is attached (IAM API reference, DeleteUser),
//! so each is listed page by page and taken away first, what gives access before all else.

use aws_sdk_iam::error::ProvideErrorMetadata;
use aws_sdk_iam::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use iam_sorry_core::changes::UserPart;
use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::names::UserName;

use crate::client::Aws;
use crate::errors::AwsError;
use crate::lookup::keys_of;

/// How often the whole is repeated if DeleteUser still finds something: IAM is eventually consistent, and somebody may
/// have attached something meanwhile.
const ROUNDS: usize = 4;

/// What was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Access key IDs.
    pub keys: Vec<String>,
    /// Each thing, keys included.
    pub parts: Vec<UserPart>,
    /// The user was not there (any more).
    pub was_gone: bool,
}

/// Takes away everything that hangs on the user, then the user.
///
/// # Errors
/// As any request; what was taken away until then stays away, and the next call goes on from there.
pub async fn delete_completely(
    aws: &Aws,
    service: &Credentials,
    user: &UserName,
) -> Result<Removed, AwsError> {
    let mut removed = Removed::default();
    delete_counting(aws, service, user, &mut removed).await.map(|()| removed)
}

/// The same; what was taken away is in `removed` whether or not all of it could be.
///
/// # Errors
/// As [`delete_completely`].
pub async fn delete_counting(
    aws: &Aws,
    service: &Credentials,
    user: &UserName,
    removed: &mut Removed,
) -> Result<(), AwsError> {
    let work = Work { aws, service, user, only_look: false };
    let mut round = 0;
    loop {
        round += 1;
        match work.everything(removed).await {
            Ok(()) => {}
            Err(error) if is_gone(&error) => {
                removed.was_gone = removed.parts.is_empty();
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let context = aws.context("iam:DeleteUser", &service.access_key_id, user.as_str());
        let answer = aws.iam(service).delete_user().user_name(user.as_str()).send().await;
        match answer.map_err(|e| context.failed(e)) {
            Err(AwsError::Refused { code, .. })
                if round < ROUNDS && (code == "DeleteConflict" || code == "ConcurrentModification") =>
            {
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
            answer => {
                // A retry after a lost answer finds nobody: deleted all the same.
                unless_gone(answer)?;
                return Ok(());
            }
        }
    }
}

/// What [`delete_completely`] would take away now; nothing is changed. There is no list of login profiles, so one is always
/// among it.
///
/// # Errors
/// As any request.
pub async fn what_hangs_on(
    aws: &Aws,
    service: &Credentials,
    user: &UserName,
) -> Result<Vec<UserPart>, AwsError> {
    let mut found = Removed::default();
    Work { aws, service, user, only_look: true }.everything(&mut found).await?;
    Ok(found.parts)
}

/// `false` if AWS knows no such thing (any more).
pub(crate) fn unless_gone<T>(answer: Result<T, AwsError>) -> Result<bool, AwsError> {
    match answer {
        Ok(_) => Ok(true),
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_gone(error: &AwsError) -> bool {
    match error {
        AwsError::NoSuchUser { .. } => true,
        AwsError::Refused { code, .. } => code.starts_with("NoSuchEntity"),
        _ => false,
    }
}

struct Work<'a> {
    aws: &'a Aws,
    service: &'a Credentials,
    user: &'a UserName,
    only_look: bool,
}

/// One delete: done, or there was nothing, or an error.
macro_rules! delete {
    ($work:expr, $removed:expr, $action:literal, $part:expr, $request:expr) => {{
        if $work.only_look {
            $removed.parts.push($part);
        } else {
            let context = $work.aws.context($action, &$work.service.access_key_id, $work.user.as_str());
            let answer = $request.user_name($work.user.as_str()).send().await.map_err(|e| context.failed(e));
            if unless_gone(answer)? {
                $removed.parts.push($part);
            }
        }
    }};
}

/// One list, all pages.
macro_rules! list {
    ($work:expr, $action:literal, $request:expr) => {{
        let context = $work.aws.context($action, &$work.service.access_key_id, $work.user.as_str());
        let pages = $request.user_name($work.user.as_str()).into_paginator().items().send();
        let all: Result<Vec<_>, _> = pages.collect::<Result<Vec<_>, _>>().await;
        if_offered(&context, all)?
    }};
}

impl Work<'_> {
    async fn everything(&self, removed: &mut Removed) -> Result<(), AwsError> {
        let iam = self.aws.iam(self.service);
        for key in keys_of(self.aws, self.service, self.user).await? {
            let part = UserPart::AccessKey { access_key_id: key.id.clone() };
            let request = iam.delete_access_key().access_key_id(&key.id);
            delete!(self, removed, "iam:DeleteAccessKey", part, request);
            removed.keys.push(key.id);
        }
        let part = UserPart::LoginProfile;
        delete!(self, removed, "iam:DeleteLoginProfile", part, iam.delete_login_profile());
        self.second_factors(&iam, removed).await?;
        self.other_credentials(&iam, removed).await?;
        for name in list!(self, "iam:ListUserPolicies", iam.list_user_policies()) {
            let request = iam.delete_user_policy().policy_name(&name);
            let part = UserPart::InlinePolicy { name };
            delete!(self, removed, "iam:DeleteUserPolicy", part, request);
        }
        for policy in list!(self, "iam:ListAttachedUserPolicies", iam.list_attached_user_policies()) {
            let Some(arn) = policy.policy_arn else { continue };
            let request = iam.detach_user_policy().policy_arn(&arn);
            let part = UserPart::AttachedPolicy { policy_arn: arn };
            delete!(self, removed, "iam:DetachUserPolicy", part, request);
        }
        for group in list!(self, "iam:ListGroupsForUser", iam.list_groups_for_user()) {
            let request = iam.remove_user_from_group().group_name(&group.group_name);
            let part = UserPart::Group { name: group.group_name };
            delete!(self, removed, "iam:RemoveUserFromGroup", part, request);
        }
        Ok(())
    }

    async fn second_factors(&self, iam: &aws_sdk_iam::Client, removed: &mut Removed) -> Result<(), AwsError> {
        for device in list!(self, "iam:ListMFADevices", iam.list_mfa_devices()) {
            let serial = device.serial_number;
            let part = UserPart::MfaDevice { serial: serial.clone() };
            let request = iam.deactivate_mfa_device().serial_number(&serial);
            delete!(self, removed, "iam:DeactivateMFADevice", part, request);
            // Only virtual devices are things of their own, with an ARN; they would be left behind nameless.
            if serial.contains(":mfa/") && !self.only_look {
                let action = "iam:DeleteVirtualMFADevice";
                let context = self.aws.context(action, &self.service.access_key_id, self.user.as_str());
                let answer = iam.delete_virtual_mfa_device().serial_number(&serial).send().await;
                unless_gone(answer.map_err(|e| context.failed(e)))?;
            }
        }
        Ok(())
    }

    async fn other_credentials(
        &self,
        iam: &aws_sdk_iam::Client,
        removed: &mut Removed,
    ) -> Result<(), AwsError> {
        for certificate in list!(self, "iam:ListSigningCertificates", iam.list_signing_certificates()) {
            let id = certificate.certificate_id;
            let request = iam.delete_signing_certificate().certificate_id(&id);
            let part = UserPart::SigningCertificate { id };
            delete!(self, removed, "iam:DeleteSigningCertificate", part, request);
        }
        for key in list!(self, "iam:ListSSHPublicKeys", iam.list_ssh_public_keys()) {
            let id = key.ssh_public_key_id;
            let request = iam.delete_ssh_public_key().ssh_public_key_id(&id);
            let part = UserPart::SshPublicKey { id };
            delete!(self, removed, "iam:DeleteSSHPublicKey", part, request);
        }
        for id in self.service_specific(iam).await? {
            let request = iam.delete_service_specific_credential().service_specific_credential_id(&id);
            let part = UserPart::ServiceCredential { id };
            delete!(self, removed, "iam:DeleteServiceSpecificCredential", part, request);
        }
        Ok(())
    }

    /// The SDK has no paginator for this list.
    async fn service_specific(&self, iam: &aws_sdk_iam::Client) -> Result<Vec<String>, AwsError> {
        let action = "iam:ListServiceSpecificCredentials";
        let context = self.aws.context(action, &self.service.access_key_id, self.user.as_str());
        let (mut ids, mut marker) = (Vec::new(), None);
        loop {
            let request = iam.list_service_specific_credentials().user_name(self.user.as_str());
            let answer = request.set_marker(marker.take()).send().await;
            let Some(page) = if_offered(&context, answer.map(|page| vec![page]))?.pop() else {
                return Ok(ids);
            };
            let found = page.service_specific_credentials();
            ids.extend(found.iter().map(|c| c.service_specific_credential_id().to_owned()));
            match page.marker().filter(|_| page.is_truncated()) {
                Some(next) => marker = Some(next.to_owned()),
                None => return Ok(ids),
            }
        }
    }
}

/// An endpoint that does not offer the kind at all (emulators; service-specific credentials outside the `aws` partition)
/// answers `InvalidAction`: then there are none. Nothing else passes for "none", least of all a refusal.
fn if_offered<T, E>(
    context: &crate::request_context::RequestContext<'_>,
    answer: Result<Vec<T>, SdkError<E, HttpResponse>>,
) -> Result<Vec<T>, AwsError>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + RequestId + 'static,
{
    match answer {
        Ok(all) => Ok(all),
        Err(error) => match context.failed(error) {
            AwsError::Refused { code, .. } if code == "InvalidAction" => Ok(Vec::new()),
            error => Err(error),
        },
    }
}

//! Sign-in by SSH key: the challenge, and the answer to it.

use std::net::IpAddr;

use iam_sorry_core::api;
use iam_sorry_core::identity::{Method, Via};
use iam_sorry_store::{FlowCaps, FlowKind};

use crate::caller::RequestSource;
use crate::clock::rfc3339;
use crate::error::ServiceError;
use crate::login::flow::{self, FirstStep};
use crate::login::ssh::challenge::{Challenge, is_nonce, parse_signature};
use crate::login::ssh::{self, SshKeys};
use crate::login::{LoginError, RejectReason};
use crate::service::Service;
use crate::sessions::door::{LoginAttempt, NewSession};
use crate::sessions::secrets::random;
use crate::sessions::sign_in_texts::{bad_request, not_offered, public_key, too_often};

impl Service {
    /// `POST /login/ssh/challenge`. The same for every key: whose it is, nobody looks yet.
    ///
    /// # Errors
    /// bad-request for what is no Ed25519 key; too-many-requests; store-unavailable.
    pub async fn ssh_challenge(
        &self,
        source: &RequestSource,
        request: api::SshChallengeRequest,
    ) -> Result<api::SshChallenge, ServiceError> {
        self.ssh_keys()?;
        let key = public_key(&request.public_key)?;
        let now = self.clock().now_ms();
        self.sign_in().limits.first_step(source.address, now).map_err(too_often)?;
        let name = request.name.as_deref();
        let challenge = Challenge::for_login(&key.key_id(), source.address, name, &*random()?, now);
        let bound_to = Some(source.address);
        let network = flow::network_of(source.address);
        self.begin_challenge(FlowKind::SshLogin, &challenge, bound_to, &network, FlowCaps::default()).await?;
        Ok(api::SshChallenge {
            expires_at: rfc3339(challenge.expires_ms()),
            nonce: challenge.nonce,
            request: challenge.signed.request,
            time: challenge.signed.time,
        })
    }

    /// Keeps a challenge until its answer comes. `counted_as`: whose share of the table it takes.
    pub(super) async fn begin_challenge(
        &self,
        kind: FlowKind,
        challenge: &Challenge,
        address: Option<IpAddr>,
        counted_as: &str,
        caps: FlowCaps,
    ) -> Result<(), ServiceError> {
        let step = FirstStep {
            kind,
            source: ssh::OFFER,
            id: &challenge.nonce,
            address,
            browser: None,
            data: &challenge.data(),
            begun_ms: challenge.begun_ms,
            lasts_ms: challenge.lasts_ms,
        };
        self.begin_flow(step, counted_as, caps).await
    }

    /// `POST /login/ssh`.
    ///
    /// # Errors
    /// sign-in-refused, whatever was wrong; bad-request for what is not of its form; directory-unavailable.
    pub async fn sign_in_ssh(
        &self,
        source: &RequestSource,
        request: api::SshLogin,
    ) -> Result<NewSession, ServiceError> {
        let (service, source) = (self.clone(), source.clone());
        self.detached(async move { service.by_ssh_key(&source, request).await }).await
    }

    async fn by_ssh_key(
        &self,
        source: &RequestSource,
        request: api::SshLogin,
    ) -> Result<NewSession, ServiceError> {
        self.ssh_keys()?;
        let key = public_key(&request.public_key)?;
        let signature = parse_signature(&request.signature).ok_or_else(|| {
            bad_request("The signature is not of its form: 64 bytes in base64url, without padding.")
        })?;
        if !is_nonce(&request.nonce) {
            return Err(bad_request("The nonce is not of its form: send it back as it came."));
        }
        let mut login_attempt = LoginAttempt::new(source, Method::SshKey, Via::Api);
        let fingerprint = key.key_id().to_string();
        login_attempt.details.insert("key".to_owned(), fingerprint.clone());
        let (limits, now) = (&self.sign_in().limits, self.clock().now_ms());
        let attempt = limits.begin(Method::SshKey, Some(&fingerprint), source.address, now).await;
        let attempt = attempt.map_err(too_often)?;
        let proof = async {
            let nonce = &request.nonce;
            let flow = flow::key(FlowKind::SshLogin, ssh::OFFER, nonce);
            let taken = self.store().take_login_flow_of_key(flow, &fingerprint).await?;
            let unknown = || LoginError::Refused(RejectReason::Challenge);
            let (flow, registered) = taken.ok_or_else(unknown)?;
            let challenge =
                self.continued(&flow, source.address).then(|| Challenge::of(nonce, &flow)).flatten();
            let name = request.name.as_deref();
            challenge
                .ok_or_else(unknown)?
                .check_login(self.sign_in().origin(), &key, &signature, (source.address, name))
                .map_err(LoginError::Refused)?;
            self.person_of_key(&key, name, registered).await
        };
        self.conclude(login_attempt, attempt, proof).await
    }

    pub(super) fn ssh_keys(&self) -> Result<&SshKeys, ServiceError> {
        self.sign_in().methods().ssh_keys().ok_or_else(|| not_offered(Method::SshKey))
    }
}

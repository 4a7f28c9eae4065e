//! The SSH keys that people register to sign in with. A public key is no secret, so whoever brings one shows that they hold
//! its private half: the key signs that it is to sign in this person, at this service. Whether a person may register
//! keys, and after which sign-in, the rules decide; what the key is worth later depends on that sign-in (`KeyOrigin`).

use iam_sorry_core::api::{self, ProblemCode};
use iam_sorry_core::audit::Outcome;
use iam_sorry_core::identity::KeyOrigin;
use iam_sorry_core::ssh::login::REGISTER_NAMESPACE;
use iam_sorry_core::ssh::{KeyId, PublicKey, Signature, sshsig};
use iam_sorry_rules::{Action, Resource};
use iam_sorry_store::{FlowCaps, FlowKind, SshKey};

use crate::authz::authorize::{Authorized, AuthzRequest};
use crate::caller::Caller;
use crate::clock::rfc3339;
use crate::error::ServiceError;
use crate::login::ssh::challenge::{
    BY_HAND_LASTS_MS, Challenge, LASTS_MS, Registrant, is_nonce, parse_signature,
};
use crate::login::{RejectReason, flow, ssh};
use crate::service::Service;
use crate::sessions::secrets::random;
use crate::sessions::session::known;
use crate::sessions::sign_in_texts::{bad_request, public_key};

/// How many registrations of one person may be under way.
const REGISTRATIONS_EACH: u32 = 16;

/// A registration that a person signs by hand, with `ssh-keygen -Y sign`, and pastes.
#[derive(Clone, Debug)]
pub struct ByHand {
    /// The key, with its comment.
    pub public_key: String,
    /// Names the challenge.
    pub nonce: String,
    /// What the key has to sign: whole lines.
    pub text: String,
    /// The namespace to sign it under.
    pub namespace: &'static str,
    /// When it stops being accepted, RFC 3339.
    pub expires_at: String,
}

/// What a person pasted.
#[derive(Clone, Debug)]
pub struct PastedSignature {
    /// The key, with its comment.
    pub public_key: String,
    /// From [`ByHand`].
    pub nonce: String,
    /// What `ssh-keygen -Y sign` printed.
    pub armour: String,
}

impl Service {
    /// `GET /ssh-keys`: mine.
    ///
    /// # Errors
    /// store-unavailable
    pub async fn list_ssh_keys(&self, caller: &Caller) -> Result<Vec<api::SshKeyInfo>, ServiceError> {
        let keys = self.store().ssh_keys_of(&caller.identity.id()).await?;
        Ok(keys.iter().map(key_info).collect())
    }

    /// Whether the person may register keys, for a face that offers it.
    pub fn may_register_ssh_keys(&self, caller: &Caller) -> bool {
        self.takes_registered_keys() && self.evaluate(caller, &registering(), None).decision.allowed
    }

    /// `POST /ssh-keys/challenge`.
    ///
    /// # Errors
    /// not-allowed; bad-request for what is no Ed25519 key; not-found where the service takes no registered keys.
    pub async fn registration_challenge(
        &self,
        caller: &Caller,
        request: api::RegistrationChallengeRequest,
    ) -> Result<api::RegistrationChallenge, ServiceError> {
        let challenge = self.challenge_to_register(caller, &request.public_key, LASTS_MS).await?;
        Ok(api::RegistrationChallenge {
            expires_at: rfc3339(challenge.expires_ms()),
            nonce: challenge.nonce,
            person: caller.identity.id(),
            name: caller.identity.name.clone(),
            request: challenge.signed.request,
            time: challenge.signed.time,
        })
    }

    /// The same for a person who signs it by hand.
    ///
    /// # Errors
    /// As for [`Service::registration_challenge`].
    pub async fn registration_by_hand(&self, caller: &Caller, line: &str) -> Result<ByHand, ServiceError> {
        let challenge = self.challenge_to_register(caller, line, BY_HAND_LASTS_MS).await?;
        let person = caller.identity.id();
        let text = challenge.registration_text(self.sign_in().origin(), &registrant(caller, &person));
        let text = text.and_then(|text| String::from_utf8(text).ok()).ok_or_else(unsignable)?;
        Ok(ByHand {
            public_key: line.to_owned(),
            expires_at: rfc3339(challenge.expires_ms()),
            nonce: challenge.nonce,
            text,
            namespace: REGISTER_NAMESPACE,
        })
    }

    async fn challenge_to_register(
        &self,
        caller: &Caller,
        line: &str,
        lasts_ms: i64,
    ) -> Result<Challenge, ServiceError> {
        let key = public_key(line)?;
        self.may_register(caller).await?;
        let now = self.clock().now_ms();
        let person = caller.identity.id();
        let registrant = registrant(caller, &person);
        let challenge = Challenge::for_registration(&key.key_id(), &registrant, &*random()?, now, lasts_ms);
        // The person's own share, wherever they are. The challenge is bound to their session.
        let caps = FlowCaps { each: REGISTRATIONS_EACH, ..FlowCaps::default() };
        self.begin_challenge(FlowKind::SshRegistration, &challenge, None, &person, caps).await?;
        Ok(challenge)
    }

    /// `POST /ssh-keys`.
    ///
    /// # Errors
    /// bad-request for a signature that is not this key's over a challenge of this session; not-allowed; conflict where
    /// somebody has registered the key; not-found where the service takes no registered keys.
    pub async fn register_ssh_key(
        &self,
        caller: &Caller,
        request: api::RegisterSshKey,
    ) -> Result<api::SshKeyInfo, ServiceError> {
        let signature = parse_signature(&request.signature).ok_or_else(|| {
            bad_request("The signature is not of its form: 64 bytes in base64url, without padding.")
        })?;
        self.register(caller, &request.public_key, &request.nonce, &signature).await
    }

    /// The same with what a person pasted.
    ///
    /// # Errors
    /// As for [`Service::register_ssh_key`].
    pub async fn register_by_hand(
        &self,
        caller: &Caller,
        pasted: &PastedSignature,
    ) -> Result<api::SshKeyInfo, ServiceError> {
        let signed = sshsig::parse_armour(&pasted.armour).map_err(|error| {
            bad_request(&format!(
                "The signature can't be read: {error}.\nPaste all that ssh-keygen printed, from -----BEGIN SSH SIGNATURE----- to \
                 -----END SSH SIGNATURE-----."
            ))
        })?;
        if signed.namespace != REGISTER_NAMESPACE {
            return Err(bad_request(&format!(
                "The signature is for another purpose.\nSign with: ssh-keygen -Y sign -n {REGISTER_NAMESPACE}"
            )));
        }
        if public_key(&pasted.public_key)? != signed.key {
            return Err(bad_request(
                "Another key signed than the one that is to be registered.\nName that one's file after -f.",
            ));
        }
        self.register(caller, &pasted.public_key, &pasted.nonce, &signed.signature).await
    }

    async fn register(
        &self,
        caller: &Caller,
        line: &str,
        nonce: &str,
        signature: &Signature,
    ) -> Result<api::SshKeyInfo, ServiceError> {
        let key = public_key(line)?;
        if !is_nonce(nonce) {
            return Err(bad_request("The nonce is not of its form: send it back as it came."));
        }
        let (allowed, registered_by) = self.may_register(caller).await?;
        let fingerprint = key.key_id().to_string();
        let mut event = self.session_event(caller, Action::RegisterKey.as_str(), &fingerprint);
        allowed.note_in(&mut event);
        event.details.insert("registered_by".to_owned(), registered_by.to_string());
        if let Err(why) = self.prove_possession(caller, &key, nonce, signature).await? {
            event.outcome = Some(Outcome::Failure);
            event.details.insert("reason".to_owned(), why.to_string());
            self.record_bounded(event).await?;
            return Err(not_proved());
        }
        let comment = PublicKey::parse_line(line).map(|(_, comment)| comment).unwrap_or_default();
        let registered = SshKey {
            fingerprint: fingerprint.clone(),
            public_key: key.to_line(""),
            comment: comment.chars().filter(|c| !c.is_control()).take(128).collect(),
            identity: caller.identity.clone(),
            registered_ms: self.clock().now_ms(),
            registered_by: Some(registered_by),
        };
        let info = key_info(&registered);
        if !self.store().add_ssh_key(registered, event).await.map_err(known)? {
            let text = format!(
                "The key {fingerprint} is registered already.\nSee yours: iam-sorry ssh-keys list; if it is not among them, \
                 somebody else who has its private half registered it."
            );
            return Err(ServiceError::new(ProblemCode::Conflict, text));
        }
        Ok(info)
    }

    /// Takes the challenge, so that it serves once, whatever comes of it.
    async fn prove_possession(
        &self,
        caller: &Caller,
        key: &PublicKey,
        nonce: &str,
        signature: &Signature,
    ) -> Result<Result<(), RejectReason>, ServiceError> {
        let flow = flow::key(FlowKind::SshRegistration, ssh::OFFER, nonce);
        let taken = self.store().take_login_flow(flow).await?;
        let taken = taken.filter(|flow| self.continued(flow, caller.source.address));
        let Some(challenge) = taken.and_then(|flow| Challenge::of(nonce, &flow)) else {
            return Ok(Err(RejectReason::Challenge));
        };
        let person = caller.identity.id();
        let registrant = registrant(caller, &person);
        Ok(challenge.check_registration(self.sign_in().origin(), key, signature, &registrant))
    }

    /// What the rules say, and what a key that this session registers will be worth.
    async fn may_register(&self, caller: &Caller) -> Result<(Authorized, KeyOrigin), ServiceError> {
        if !self.takes_registered_keys() {
            let text = "This service takes no SSH keys from people: their keys come from the department.";
            return Err(ServiceError::new(ProblemCode::NotFound, text));
        }
        let allowed = self.authorize(caller, &registering()).await?;
        let key = caller.session.key.as_ref().map(|key| key.registered_by);
        let Some(registered_by) = KeyOrigin::of_key_registered_by(caller.session.method, key) else {
            return Err(self.sign_in_anew());
        };
        Ok((allowed, registered_by))
    }

    fn takes_registered_keys(&self) -> bool {
        self.sign_in().methods().ssh_keys().is_some_and(ssh::SshKeys::from_registered)
    }

    fn sign_in_anew(&self) -> ServiceError {
        let text = format!(
            "Your session is from before the service kept which SSH key opened it.\nSign in again: iam-sorry login {}",
            self.sign_in().origin()
        );
        ServiceError::new(ProblemCode::SignInNeeded, text)
    }

    /// `DELETE /ssh-keys/{fingerprint}`: one of mine.
    ///
    /// # Errors
    /// not-found
    pub async fn remove_ssh_key(&self, caller: &Caller, fingerprint: &str) -> Result<(), ServiceError> {
        let none = || {
            ServiceError::new(
                ProblemCode::NotFound,
                "You have no such key registered.\nSee yours: iam-sorry ssh-keys list",
            )
        };
        let fingerprint = KeyId::parse(fingerprint).ok_or_else(none)?.to_string();
        let event = self.session_event(caller, "remove-ssh-key", &fingerprint);
        let removed = self.store().remove_ssh_key(&caller.identity.id(), &fingerprint, event).await?;
        if removed { Ok(()) } else { Err(none()) }
    }
}

fn registering() -> AuthzRequest {
    AuthzRequest::about(Action::RegisterKey, Resource::OwnKeys)
}

fn registrant<'a>(caller: &'a Caller, person: &'a str) -> Registrant<'a> {
    Registrant { person, name: &caller.identity.name, session: &caller.session.id }
}

/// One text for a wrong signature and for a challenge that is old, used, or of another session.
fn not_proved() -> ServiceError {
    bad_request(
        "The key was not registered: its signature does not fit a challenge that this session was given and that is still \
         good.\nTry again: iam-sorry ssh-keys add FILE",
    )
}

fn unsignable() -> ServiceError {
    bad_request("Your name holds characters that can't be signed.\nTell the service's operator.")
}

fn key_info(key: &SshKey) -> api::SshKeyInfo {
    api::SshKeyInfo {
        fingerprint: key.fingerprint.clone(),
        comment: key.comment.clone(),
        registered_at: rfc3339(key.registered_ms),
        registered_by: key.registered_by,
    }
}

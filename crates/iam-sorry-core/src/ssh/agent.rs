//! Messages of the SSH agent protocol (draft-miller-ssh-agent): list the keys, ask for one signature.
//!
//! An agent is somebody else's program, possibly at the far end of a forwarded socket: lengths and counts are bounded,
//! and what can't be used is skipped.

use super::public_key::{ED25519, PublicKey, Signature, type_name};
use super::wire::{Reader, put_string};

/// The longest answer that we read: OpenSSH's own limit (MAX_AGENT_REPLY_LEN, authfd.c).
pub const MAX_FRAME: usize = 256 * 1024;
/// The most keys that we accept in one list: OpenSSH's own limit (MAX_AGENT_IDENTITIES, authfd.c).
pub const MAX_IDENTITIES: u32 = 2048;

// Message numbers, draft-miller-ssh-agent, section 5.1.
const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
// Failures in the dialects of other agents, which OpenSSH accepts too (authfd.c, agent_failed).
const OTHER_FAILURES: [u8; 3] = [28, 30, 102];

/// A key that the agent holds and that can open sealed values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The key.
    pub key: PublicKey,
    /// What the agent calls it; control characters are replaced.
    pub comment: String,
}

/// What an agent holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identities {
    /// Plain Ed25519 keys.
    pub usable: Vec<Identity>,
    /// The types of the other keys (RSA, certificates, security keys, ...).
    pub skipped: Vec<String>,
}

/// An answer that is a refusal, or no proper answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentMessageError {
    /// SSH_AGENT_FAILURE: the agent gives no reason.
    #[error("the SSH agent refused")]
    Refused,
    /// The length of the answer is 0 or over [`MAX_FRAME`].
    #[error("the SSH agent announced an answer of {0} bytes")]
    FrameLength(u32),
    /// More keys than [`MAX_IDENTITIES`].
    #[error("the SSH agent announced {0} keys")]
    TooManyIdentities(u32),
    /// An answer to another question.
    #[error("the SSH agent gave an unexpected answer (message {0})")]
    UnexpectedMessage(u8),
    /// The answer doesn't hold what it has to.
    #[error("the SSH agent gave a garbled answer ({0})")]
    Malformed(&'static str),
    /// A signature of another kind than the one asked for.
    #[error("the SSH agent gave a signature that is not of type ssh-ed25519")]
    SignatureType,
}

/// The whole request for a list of keys, with its length in front.
pub fn request_identities() -> [u8; 5] {
    [0, 0, 0, 1, REQUEST_IDENTITIES]
}

/// The whole request for a signature over `data`, with its length in front. Flags are 0: they only concern RSA.
pub fn sign_request(key: &PublicKey, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(data.len() + 64);
    body.push(SIGN_REQUEST);
    put_string(&mut body, &key.blob());
    put_string(&mut body, data);
    body.extend_from_slice(&0_u32.to_be_bytes());
    let mut frame = Vec::with_capacity(body.len() + 4);
    put_string(&mut frame, &body);
    frame
}

/// How many bytes follow the four that announce a message.
///
/// # Errors
/// [`AgentMessageError::FrameLength`] before anything is allocated for them.
pub fn frame_length(prefix: [u8; 4]) -> Result<usize, AgentMessageError> {
    let announced = u32::from_be_bytes(prefix);
    match usize::try_from(announced) {
        Ok(length) if (1..=MAX_FRAME).contains(&length) => Ok(length),
        _ => Err(AgentMessageError::FrameLength(announced)),
    }
}

/// Reads the answer to [`request_identities`], without its length.
///
/// # Errors
/// [`AgentMessageError`] for a refusal, another message, or anything cut short or too long.
pub fn decode_identities(body: &[u8]) -> Result<Identities, AgentMessageError> {
    let mut reader = answer(body, IDENTITIES_ANSWER)?;
    let count = reader.u32().ok_or(AgentMessageError::Malformed("no number of keys"))?;
    if count > MAX_IDENTITIES {
        return Err(AgentMessageError::TooManyIdentities(count));
    }
    let mut found = Identities::default();
    for _ in 0..count {
        let short = AgentMessageError::Malformed("the list of keys is cut short");
        let (Some(blob), Some(comment)) = (reader.string(), reader.string()) else { return Err(short) };
        // A certificate's blob starts with another type name, so plain keys are all that parses here.
        match PublicKey::from_blob(blob) {
            Ok(key) => found.usable.push(Identity { key, comment: printable(comment) }),
            Err(_) => found
                .skipped
                .push(Reader::new(blob).string().and_then(type_name).unwrap_or_else(|| "unknown".to_owned())),
        }
    }
    end(reader)?;
    Ok(found)
}

/// Reads the answer to [`sign_request`], without its length. The signature is not verified yet.
///
/// # Errors
/// [`AgentMessageError`] for a refusal, another message, or anything but one Ed25519 signature of 64 bytes.
pub fn decode_signature(body: &[u8]) -> Result<Signature, AgentMessageError> {
    let mut reader = answer(body, SIGN_RESPONSE)?;
    let mut blob =
        reader.string().map(Reader::new).ok_or(AgentMessageError::Malformed("no signature in it"))?;
    end(reader)?;
    let (Some(kind), Some(raw)) = (blob.string(), blob.string()) else {
        return Err(AgentMessageError::Malformed("the signature is cut short"));
    };
    if kind != ED25519.as_bytes() {
        return Err(AgentMessageError::SignatureType);
    }
    end(blob)?;
    let raw =
        raw.try_into().map_err(|_| AgentMessageError::Malformed("the signature is not 64 bytes long"))?;
    Ok(Signature::from_bytes(raw))
}

fn answer(body: &[u8], expected: u8) -> Result<Reader<'_>, AgentMessageError> {
    let mut reader = Reader::new(body);
    match reader.u8() {
        Some(message) if message == expected => Ok(reader),
        Some(message) if message == FAILURE || OTHER_FAILURES.contains(&message) => {
            Err(AgentMessageError::Refused)
        }
        Some(message) => Err(AgentMessageError::UnexpectedMessage(message)),
        None => Err(AgentMessageError::Malformed("it is empty")),
    }
}

fn end(reader: Reader<'_>) -> Result<(), AgentMessageError> {
    if reader.is_empty() { Ok(()) } else { Err(AgentMessageError::Malformed("something follows it")) }
}

/// Comments end up on terminals.
fn printable(comment: &[u8]) -> String {
    String::from_utf8_lossy(comment).chars().take(256).map(|c| if c.is_control() { '?' } else { c }).collect()
}

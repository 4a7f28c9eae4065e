//! What goes wrong with a request, and what the proxy remembers of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What goes wrong with a request.
#[derive(Clone)]
pub enum Fault {
    /// An answer with this HTTP status and AWS error code; the emulator never sees the request.
    Status(u16, &'static str),
    /// `Throttling` (400), as STS and IAM answer it.
    Throttle,
    /// `InvalidClientTokenId` (403) for a key that was made through this proxy less than so long ago.
    KeyNotValidYet(Duration),
    /// The same for the first N requests with each key made through this proxy.
    NewKeyRefused(usize),
    /// `LimitExceeded` (409) to CreateAccessKey where the user has two keys.
    TwoKeyLimit,
    /// The connection is reset before anything is forwarded.
    Reset,
    /// Forwarded, and the connection is closed without an answer: done, but the client cannot know.
    DropResponse,
    /// Forwarded; only the first N bytes of the answer's body arrive.
    CutResponse(usize),
    /// The answer's `Expiration` becomes so far from now: sessions that end while a test looks on.
    SessionsEndIn(Duration),
    /// GetAccessKeyLastUsed says that the key was used so long ago, for S3. (ministack says "never" of every key.)
    KeyUsedAgo(Duration),
    /// Waits, then goes on.
    Slow(Duration),
    /// Never answers, and never forwards.
    Hang,
    /// AWS's clock is so many seconds ahead of ours (negative: behind). Requests more than five minutes off are refused
    /// with `SignatureDoesNotMatch`, as STS and IAM do, and every answer's Date is of that clock.
    DateSkew(i64),
    /// Runs before the request is forwarded.
    BeforeForward(Hook),
    /// Runs after the emulator did it, before the answer goes back.
    AfterForward(Hook),
}

/// Something of the test's own to run in the middle of a request, such as killing the client.
pub type Hook = Arc<dyn Fn(&Call) + Send + Sync>;

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Status(status, code) => write!(f, "Status({status}, {code})"),
            Fault::Throttle => f.write_str("Throttle"),
            Fault::KeyNotValidYet(time) => write!(f, "KeyNotValidYet({time:?})"),
            Fault::NewKeyRefused(times) => write!(f, "NewKeyRefused({times})"),
            Fault::TwoKeyLimit => f.write_str("TwoKeyLimit"),
            Fault::Reset => f.write_str("Reset"),
            Fault::DropResponse => f.write_str("DropResponse"),
            Fault::CutResponse(bytes) => write!(f, "CutResponse({bytes})"),
            Fault::SessionsEndIn(time) => write!(f, "SessionsEndIn({time:?})"),
            Fault::KeyUsedAgo(time) => write!(f, "KeyUsedAgo({time:?})"),
            Fault::Slow(time) => write!(f, "Slow({time:?})"),
            Fault::Hang => f.write_str("Hang"),
            Fault::DateSkew(seconds) => write!(f, "DateSkew({seconds})"),
            Fault::BeforeForward(_) => f.write_str("BeforeForward"),
            Fault::AfterForward(_) => f.write_str("AfterForward"),
        }
    }
}

/// A request that arrived. It holds no token, and Debug shows no parameter but those of its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Such as `CreateAccessKey`.
    pub action: String,
    /// Whose key signed it (from the Authorization header); empty when unsigned.
    pub access_key: String,
    /// The request's `UserName`, if it has one.
    pub user_name: Option<String>,
    /// The request's `AccessKeyId` parameter, if it has one.
    pub target_key: Option<String>,
    /// All its parameters.
    pub parameters: Parameters,
    /// Whether a session token came with it.
    pub with_session: bool,
    /// Time since the proxy started.
    pub at: Duration,
    /// The emulator's HTTP status, once it was forwarded and answered.
    pub forwarded: Option<u16>,
}

/// What a request says, by name, such as `Tags.member.1.Key`. Debug shows the names alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Parameters(pub(super) BTreeMap<String, String>);

impl Parameters {
    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

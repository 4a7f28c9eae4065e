//! What happens to one request on its way.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::fault::{Call, Fault, Hook, Parameters};
use super::http::Message;
use super::state::{Shared, State};

/// SigV4's `X-Amz-Date`.
const AMZ_DATE: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");
/// HTTP's Date (RFC 9110, section 5.6.7).
const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
/// STS's `Expiration`.
const EXPIRATION: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
/// How far a request's date may be off (AWS: five minutes for STS and IAM).
const TOLERANCE: i64 = 300;

/// What becomes of a request after all its faults had their say.
enum Fate {
    Forward { answer_limit: usize, lose_answer: bool, edits: Vec<(&'static str, String)>, after: Vec<Hook> },
    Answer(Message),
    Reset,
    Hang,
}

pub(super) fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let request = Message::read(stream, false)?;
    let mut call = describe(&request, shared.started);
    let number = {
        let mut state = shared.state();
        state.calls.push(call.clone());
        state.under_way += 1;
        state.calls.len() - 1
    };
    let under_way = UnderWay(shared);

    let faults = shared.state().take_faults(&call.action);
    let skew = faults
        .iter()
        .find_map(|fault| if let Fault::DateSkew(seconds) = fault { Some(*seconds) } else { None });
    match decide(faults, &request, &call, shared) {
        Fate::Hang => {
            drop(under_way);
            hang(stream, shared)
        }
        Fate::Reset => reset(stream),
        Fate::Answer(answer) => send(stream, answer, skew, usize::MAX),
        Fate::Forward { answer_limit, lose_answer, edits, after } => {
            let Ok(mut answer) = request.exchange(address_of(shared.account.endpoint())) else {
                return reset(stream);
            };
            call.forwarded = Some(answer.status());
            {
                let mut state = shared.state();
                // clear_calls may have come in between.
                if let Some(logged) = state.calls.get_mut(number).filter(|logged| logged.at == call.at) {
                    logged.forwarded = call.forwarded;
                }
                if call.action == "CreateAccessKey"
                    && answer.status() == 200
                    && let Some(key) = answer.element("AccessKeyId")
                {
                    state.made_keys.insert(key, (Instant::now(), 0));
                }
            }
            for (element, text) in &edits {
                answer.replace_element(element, text);
            }
            after.iter().for_each(|hook| hook(&call));
            if lose_answer {
                return stream.shutdown(Shutdown::Both);
            }
            send(stream, answer, skew, answer_limit)
        }
    }
}

/// Counts as one request under way until it is dropped.
struct UnderWay<'a>(&'a Shared);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.state().under_way -= 1;
    }
}

fn describe(request: &Message, started: Instant) -> Call {
    let authorization = request.header("authorization").unwrap_or_default();
    let credential = authorization.split_once("Credential=").map_or("", |(_, rest)| rest);
    let parameters = Parameters(request.parameters());
    let parameter = |name: &str| parameters.get(name).map(str::to_owned);
    Call {
        action: parameter("Action").unwrap_or_default(),
        access_key: credential.split('/').next().unwrap_or_default().to_owned(),
        user_name: parameter("UserName"),
        target_key: parameter("AccessKeyId"),
        with_session: request.header("x-amz-security-token").is_some(),
        at: started.elapsed(),
        forwarded: None,
        parameters,
    }
}

impl State {
    /// The faults that apply to this request, each used up once.
    fn take_faults(&mut self, action: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        for rule in self.rules.iter_mut().filter(|rule| rule.action == "*" || rule.action == action) {
            match &mut rule.left {
                Some(0) => continue,
                Some(left) => *left -= 1,
                None => {}
            }
            faults.push(rule.fault.clone());
        }
        faults
    }
}

fn decide(faults: Vec<Fault>, request: &Message, call: &Call, shared: &Shared) -> Fate {
    let (mut answer_limit, mut lose_answer, mut after) = (usize::MAX, false, Vec::new());
    let mut edits = Vec::new();
    for fault in faults {
        let answer = match fault {
            Fault::Status(status, code) => {
                Some(Message::error(status, code, "A fault of the test's own making."))
            }
            Fault::Throttle => Some(Message::error(400, "Throttling", "Rate exceeded")),
            Fault::KeyNotValidYet(time) => too_new(call, shared, |made, _| made.elapsed() < time),
            Fault::NewKeyRefused(times) => too_new(call, shared, |_, refused| refused < times),
            Fault::TwoKeyLimit => two_key_limit(call, shared),
            Fault::DateSkew(seconds) => outside_clock(request, seconds),
            Fault::Reset => return Fate::Reset,
            Fault::Hang => return Fate::Hang,
            Fault::DropResponse => {
                lose_answer = true;
                None
            }
            Fault::CutResponse(bytes) => {
                answer_limit = bytes;
                None
            }
            Fault::SessionsEndIn(time) => {
                let end = (OffsetDateTime::now_utc() + time).format(EXPIRATION).unwrap_or_default();
                edits.push(("Expiration", end));
                None
            }
            Fault::KeyUsedAgo(time) => {
                let at = (OffsetDateTime::now_utc() - time).format(EXPIRATION).unwrap_or_default();
                // The emulator's answer has no such element, so it goes before one that it has.
                edits.push((
                    "ServiceName",
                    format!("s3</ServiceName><LastUsedDate>{at}</LastUsedDate><ServiceName>s3"),
                ));
                None
            }
            Fault::Slow(time) => {
                std::thread::sleep(time);
                None
            }
            Fault::BeforeForward(hook) => {
                hook(call);
                None
            }
            Fault::AfterForward(hook) => {
                after.push(hook);
                None
            }
        };
        if let Some(answer) = answer {
            return Fate::Answer(answer);
        }
    }
    Fate::Forward { answer_limit, lose_answer, edits, after }
}

fn too_new(call: &Call, shared: &Shared, is_too_new: impl Fn(Instant, usize) -> bool) -> Option<Message> {
    let mut state = shared.state();
    let (made, refused) = state.made_keys.get_mut(&call.access_key)?;
    if !is_too_new(*made, *refused) {
        return None;
    }
    *refused += 1;
    Some(Message::error(
        403,
        "InvalidClientTokenId",
        "The security token included in the request is invalid.",
    ))
}

fn two_key_limit(call: &Call, shared: &Shared) -> Option<Message> {
    if call.action != "CreateAccessKey" {
        return None;
    }
    // Our program always names the user; ministack takes a missing UserName for a user called `default`.
    let user = call.user_name.as_ref()?;
    let answer = shared.account.try_call("iam", "list_access_keys", json!({"UserName": user})).ok()?;
    let keys = answer["AccessKeyMetadata"].as_array().map_or(0, Vec::len);
    (keys >= 2).then(|| Message::error(409, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2"))
}

fn outside_clock(request: &Message, skew: i64) -> Option<Message> {
    let theirs = PrimitiveDateTime::parse(request.header("x-amz-date")?, AMZ_DATE).ok()?.assume_utc();
    let now = OffsetDateTime::now_utc() + time::Duration::seconds(skew);
    let text = |date: OffsetDateTime| date.format(AMZ_DATE).unwrap_or_default();
    let off = (theirs - now).whole_seconds();
    if off.abs() <= TOLERANCE {
        return None;
    }
    let edge = now + time::Duration::seconds(if off < 0 { -TOLERANCE } else { TOLERANCE });
    let (what, relation, sign) =
        if off < 0 { ("expired", "earlier", '-') } else { ("not yet current", "later", '+') };
    let message = format!(
        "Signature {what}: {} is {}{relation} than {} ({} {sign} 5 min.)",
        text(theirs),
        if off < 0 { "now " } else { "still " },
        text(edge),
        text(now)
    );
    Some(Message::error(403, "SignatureDoesNotMatch", &message))
}

fn send(stream: &TcpStream, mut answer: Message, skew: Option<i64>, limit: usize) -> io::Result<()> {
    let now = OffsetDateTime::now_utc() + time::Duration::seconds(skew.unwrap_or(0));
    if skew.is_some() || answer.header("date").is_none() {
        answer.set("date", &now.format(HTTP_DATE).unwrap_or_default());
    }
    answer.write(stream, limit)?;
    stream.shutdown(Shutdown::Both)
}

/// Closes with RST instead of FIN: a lingering time of zero throws away what is in flight (socket(7)).
fn reset(stream: &TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
    Ok(())
}

/// Says nothing until the client goes away or the proxy ends.
fn hang(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    while !shared.is_stopped() {
        match stream.peek(&mut [0]) {
            Ok(0) => break,
            Ok(_) => std::thread::sleep(Duration::from_millis(50)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

fn address_of(endpoint: &str) -> &str {
    endpoint.strip_prefix("http://").unwrap_or(endpoint)
}

//! AWS, beneath the SDK: each request of an instance becomes a message that arrives or not, has its effect at some time or
//! not, and is answered or not.
//!
//! What the service relies on, and so is true here too: what a request has as an effect comes, and can be seen everywhere,
//! within [`SETTLED_MS`] after it was sent.

use std::fmt;
use std::time::Duration;

use iam_sorry_aws::simulation;
use iam_sorry_aws::simulation::SdkBody;
use iam_sorry_aws::simulation::smithy::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use iam_sorry_aws::simulation::smithy::client::orchestrator::{HttpRequest, HttpResponse};
use iam_sorry_aws::simulation::smithy::client::result::ConnectorError;
use iam_sorry_aws::simulation::smithy::client::runtime_components::RuntimeComponents;
use iam_sorry_aws::simulation::smithy::http::StatusCode;
use iam_sorry_server::simulation::Host as _;
use testkit::{IamAccount, IamFailure, IamFields, Lag};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::happened;
use crate::machine::Machine;
use crate::world::{State, World};

/// After so long, a request has had its effect everywhere or never will: less than the service waits before it looks what
/// became of a request whose answer was lost (`settle_seconds`, 10 s).
const SETTLED_MS: u64 = 9_500;

/// AWS refuses signatures whose time is further off.
const SKEW_MS: i64 = 300_000;

/// The way to AWS of an instance.
pub fn client(machine: Machine) -> SharedHttpClient {
    SharedHttpClient::new(Client { connector: SharedHttpConnector::new(Connector(machine)) })
}

#[derive(Debug)]
struct Client {
    connector: SharedHttpConnector,
}

impl HttpClient for Client {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.connector.clone()
    }
}

#[derive(Debug)]
struct Connector(Machine);

/// A request as AWS sees it.
#[derive(Clone, Debug)]
pub struct Call {
    pub machine: Machine,
    pub action: String,
    pub fields: IamFields,
    /// The access key that signed it.
    pub signer: String,
    /// By the clock of who sent it.
    skew_ms: i64,
}

impl Call {
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// Whether it changes anything.
    pub fn is_change(&self) -> bool {
        let reads = ["Get", "List", "AssumeRole"];
        !reads.iter().any(|begin| self.action.starts_with(begin))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.action)?;
        for name in ["UserName", "AccessKeyId", "Status", "PolicyArn", "NewPath"] {
            if let Some(value) = self.fields.get(name) {
                write!(f, " {}", value.rsplit('/').next().unwrap_or(value))?;
            }
        }
        Ok(())
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its effect after so long, its answer after so much longer, milliseconds.
    Done(u64, u64),
    /// AWS says no by itself, after so long.
    Refused(u64, &'static str),
    /// The connection never came about.
    NoConnection,
    /// It never arrives: an error after so long, or silence.
    NeverThere(Option<u64>),
    /// It has its effect after so long; the connection breaks after so long, or there is silence.
    NoAnswer(u64, Option<u64>),
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let machine = self.0.clone();
        let call = parse(&machine, &request);
        HttpConnectorFuture::new(async move {
            // The service looks whether it may act right before: between that and the sending, nothing is simulated to happen.
            machine.strike(if call.is_change() { 4 } else { 1 }, "a request to AWS leaves");
            if !machine.is_up() {
                tokio::task::yield_now().await;
            }
            let answer = machine.world.send(call);
            let answer = answer.await.unwrap_or_else(|_| Err(broken()));
            machine.narrow(2, "AWS has answered").await;
            answer
        })
    }
}

fn parse(machine: &Machine, request: &HttpRequest) -> Call {
    let body = request.body().bytes().unwrap_or_default();
    let mut fields: IamFields = form(body);
    let credential = request.headers().get("authorization").unwrap_or_default();
    let credential = credential.split_once("Credential=").map_or("", |(_, rest)| rest);
    Call {
        machine: machine.clone(),
        action: fields.remove("Action").unwrap_or_default(),
        signer: credential.split('/').next().unwrap_or_default().to_owned(),
        skew_ms: machine.now_ms() - machine.world.now_ms(),
        fields,
    }
}

fn form(body: &[u8]) -> IamFields {
    let decode = |text: &str| {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'+' => b' ',
                b'%' => {
                    let hex = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                    u8::from_str_radix(std::str::from_utf8(&hex).unwrap_or("0"), 16).unwrap_or(b'?')
                }
                other => other,
            });
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let text = std::str::from_utf8(body).unwrap_or_default();
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decode(k), decode(v))).collect()
}

impl World {
    /// Sends a request; what comes back, if anything does. It goes its way whatever becomes of who sent it.
    fn send(&self, call: Call) -> oneshot::Receiver<Result<HttpResponse, ConnectorError>> {
        let (sender, receiver) = oneshot::channel();
        let fate = {
            let mut state = self.state();
            let fate = fate(&mut state, &call);
            state.count("requests to AWS");
            match fate {
                Fate::Done(..) => {}
                _ => {
                    happened!(self, state, call.machine, "sends {call}, and {fate:?}");
                    state.count("requests to AWS that failed");
                    self.trouble(&mut state, Duration::from_secs(12));
                }
            }
            fate
        };
        let world = self.clone();
        tokio::spawn(async move {
            let millis = Duration::from_millis;
            match fate {
                Fate::Done(there, back) => {
                    sleep(millis(there)).await;
                    let answer = world.deliver(&call);
                    call.machine
                        .strike(if call.is_change() { 4 } else { 0 }, "AWS has done what it was asked for");
                    sleep(millis(back)).await;
                    let _ = sender.send(Ok(answer));
                }
                Fate::Refused(after, code) => {
                    sleep(millis(after)).await;
                    let status = if code == "ServiceFailure" { 500 } else { 400 };
                    let answer = world.response(&call, Err((status, code, "not now".to_owned())));
                    let _ = sender.send(Ok(answer));
                }
                Fate::NoConnection => {
                    let _ = sender.send(Err(simulation::no_connection()));
                }
                Fate::NeverThere(error) => lose(sender, error).await,
                Fate::NoAnswer(there, error) => {
                    tokio::join!(lose(sender, error), async {
                        sleep(millis(there)).await;
                        world.deliver(&call);
                        call.machine.strike(4, "AWS has done what it was asked for, and can't say so");
                    });
                }
            }
        });
        receiver
    }

    /// The request has its effect now.
    fn deliver(&self, call: &Call) -> HttpResponse {
        let now = self.now();
        let mut state = self.state();
        if call.skew_ms.abs() > SKEW_MS {
            happened!(self, state, "aws", "refuses {call} of {}: its clock is wrong", call.machine);
            let text = "Signature expired: it is earlier than it may be".to_owned();
            drop(state);
            return self.response(call, Err((403, "SignatureDoesNotMatch", text)));
        }
        let lagging = state.weather.lagging;
        let mut lag = || match state.rng.chance(lagging) {
            true => Duration::from_millis(state.rng.range(100..SETTLED_MS / 2)),
            false => Duration::ZERO,
        };
        state.aws.lag = Lag { key_at_sts: lag(), key_in_list: lag(), user: lag() };
        let before = self.before(&state, call);
        let answer = state.aws.act(&call.action, &call.fields, &call.signer, now);
        match &answer {
            Ok(_) if call.is_change() => {
                happened!(self, state, "aws", "does {call} for {}", call.machine);
                self.changed(&mut state, call, before, answer.as_deref().unwrap_or_default());
            }
            Ok(_) => happened!(self, state, "aws", "answers {call} to {}", call.machine),
            Err((_, code, _)) => happened!(self, state, "aws", "says {code} to {call} of {}", call.machine),
        }
        drop(state);
        self.response(call, answer)
    }

    fn response(&self, call: &Call, answer: Result<String, IamFailure>) -> HttpResponse {
        let (status, body) = IamAccount::render(&call.action, answer);
        let status = StatusCode::try_from(status).expect("a status");
        let mut response = HttpResponse::new(status, SdkBody::from(body));
        response.headers_mut().insert("date", IamAccount::http_date(self.now()));
        let id = format!("r-{:06}", self.state().events);
        response.headers_mut().insert("x-amzn-requestid", id);
        response
    }
}

fn fate(state: &mut State, call: &Call) -> Fate {
    let State { weather, rng, .. } = state;
    let near = |rng: &mut crate::rng::Rng| rng.range(1..40);
    if rng.chance(weather.lost) {
        let error = rng.chance(600).then(|| rng.range(1..3_000));
        return match rng.below(5) {
            0 => Fate::NoConnection,
            1 | 2 => Fate::NeverThere(error),
            _ => Fate::NoAnswer(near(rng), error),
        };
    }
    if rng.chance(weather.late) {
        // Before or after it was given up.
        let there = rng.range(2_000..SETTLED_MS / 2);
        let error = rng.chance(300).then(|| rng.range(1..3_000));
        return Fate::NoAnswer(there, error);
    }
    if rng.chance(weather.slow) {
        return Fate::Done(near(rng), rng.range(500..7_000));
    }
    if rng.chance(weather.throttled) {
        return Fate::Refused(near(rng), "Throttling");
    }
    if rng.chance(weather.refused) {
        let code = *rng.pick(&["AccessDenied", "ServiceFailure", "ServiceFailure"]);
        return Fate::Refused(near(rng), code);
    }
    let _ = call;
    Fate::Done(near(rng), near(rng))
}

/// An error after a while, or none at all for as long as anybody waits.
async fn lose(sender: oneshot::Sender<Result<HttpResponse, ConnectorError>>, error: Option<u64>) {
    let mut sender = sender;
    match error {
        Some(after) => {
            sleep(Duration::from_millis(after)).await;
            let _ = sender.send(Err(broken()));
        }
        None => sender.closed().await,
    }
}

fn broken() -> ConnectorError {
    ConnectorError::io(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())
}

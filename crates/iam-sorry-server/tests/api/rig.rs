//! The face with a few routes of the test's own behind it: what is tested here knows nothing of actions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use iam_sorry_core::api::CreateUser;
use iam_sorry_core::identity::Method;
use iam_sorry_server::error::ServiceError;
use iam_sorry_server::http::{ApiError, Context, Http, HttpSettings, Json, Metrics, Name, NoBody, Query};
use iam_sorry_server::login::LoginMethods;
use iam_sorry_server::login::source::AttemptRoute;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// A running face. Stopped on drop with its runtime.
pub struct Rig {
    pub address: SocketAddr,
    pub metrics: Option<SocketAddr>,
    pub gate: Arc<Gate>,
    pub certificates: Option<Arc<iam_sorry_server::http::Certificates>>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<bool>,
}

/// A handler that waits until it is let go, and says where it is.
#[derive(Default)]
pub struct Gate {
    pub entered: Notify,
    pub open: Notify,
    pub left: Notify,
}

/// Settings for a free port, whose origin is that port's.
pub async fn settings() -> HttpSettings {
    // The origin has the port in it, so it must be known before.
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let origin = format!("http://127.0.0.1:{port}").parse::<String>().unwrap();
    let origin = iam_sorry_core::ssh::login::Origin::parse(&origin).unwrap();
    HttpSettings::new(origin, SocketAddr::from(([127, 0, 0, 1], port)))
}

impl Rig {
    pub async fn start() -> Self {
        Self::with(settings().await).await
    }

    pub async fn with(settings: HttpSettings) -> Self {
        let gate = Arc::new(Gate::default());
        let http = Http::bind_routes(&settings, routes(Arc::clone(&gate)), attempts(), None, Metrics::new())
            .await
            .unwrap();
        let (stop, stopped) = watch::channel(false);
        Self {
            address: http.address().unwrap(),
            metrics: http.metrics_address(),
            certificates: http.certificates(),
            gate,
            stop,
            serving: tokio::spawn(http.serve(stopped)),
        }
    }

    /// Nothing new begins from now on.
    pub fn stop(&self) {
        self.stop.send(true).unwrap();
    }

    /// Waits for the end; whether everything finished.
    pub async fn ended(self) -> bool {
        tokio::time::timeout(Duration::from_secs(30), self.serving).await.expect("a stop in time").unwrap()
    }
}

/// Those of a directory and of SSH keys, as they are registered; and of a provider that sends people back by GET.
fn attempts() -> Vec<(AttemptRoute, Method)> {
    let login = "[ldap]\nname = \"corp\"\nurls = [\"ldaps://ldap.example.org\"]\nusers_base = \"dc=example\"\n[ssh]\n";
    let methods = LoginMethods::new(&toml::from_str(login).unwrap()).unwrap();
    let mut attempts = methods.attempts();
    attempts.push((AttemptRoute::all("/login/sso/callback"), Method::DevLink));
    attempts
}

fn routes(gate: Arc<Gate>) -> Router {
    let (waiting, reading) = (Arc::clone(&gate), gate);
    Router::new()
        .route(
            "/api/v1/hello",
            get(|| async { "hello" }).post(|Json(it): Json<CreateUser>| async move { it.name }),
        )
        .route("/api/v1/who", get(|Context(it): Context| async move { it.source.address.to_string() }))
        .route("/api/v1/names/{name}", get(|Name(name): Name| async move { name }))
        .route(
            "/api/v1/query",
            get(|Query(it): Query<iam_sorry_core::api::PageQuery>| async move { format!("{it:?}") })
                .post(|NoBody: NoBody| async { "nothing" }),
        )
        .route("/api/v1/login/ldap", post(|| async { "tried" }))
        .route("/sign-in", get(|| async { "the form" }).post(|| async { "tried" }))
        .route("/login/sso/callback", get(|| async { "back" }))
        .route("/api/v1/panic", get(|| async { panic!("hunter2") as &str }))
        .route("/api/v1/refused", get(|| async { Err::<&str, _>(ApiError::from(refusal())) }))
        .route("/api/v1/large", get(|| async { vec![b'x'; 64 * 1024 * 1024] }))
        .route(
            "/api/v1/wait",
            post(move || wait(Arc::clone(&waiting))).get(move || wait(Arc::clone(&reading))),
        )
}

async fn wait(gate: Arc<Gate>) -> &'static str {
    gate.entered.notify_one();
    gate.open.notified().await;
    gate.left.notify_one();
    "done"
}

fn refusal() -> ServiceError {
    let mut refusal =
        ServiceError::new(iam_sorry_core::api::ProblemCode::NotAllowed, "It is not allowed.\nAsk bob.");
    refusal.reasons.push("rule \"no\" (a.cedar) forbids it".to_owned());
    refusal
}

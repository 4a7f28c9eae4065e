//! The registry of sign-in methods, with a source in it that no method of today is: a provider that a browser is sent to and
//! comes back from. It needs no change anywhere: the sign-in page, its Content-Security-Policy, the limits and the recheck ask
//! the registry.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::response::Redirect;
use axum::routing::post;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use iam_sorry_core::api::ProblemCode;
use iam_sorry_core::audit::{Event, Person};
use iam_sorry_core::group::Group;
use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_core::ssh::login::Origin;
use iam_sorry_core::timestamp::Timestamp;
use iam_sorry_server::http::{Http, HttpSettings, Metrics};
use iam_sorry_server::login::source::{AttemptRoute, Dialogue, IdentitySource, Offer, Purpose, Sought};
use iam_sorry_server::login::{LoginError, LoginMethods, RejectReason};
use iam_sorry_server::web;
use iam_sorry_store::Session;
use secrecy::{ExposeSecret as _, SecretString};
use testkit::{Browser, request};
use tokio::sync::watch;

use crate::rig::{HERE, Rig, origin};

const START: &str = "/login/sso";

/// A provider, and what it says of its people.
struct Provider {
    name: String,
    leads_to: Vec<Origin>,
    says: Mutex<Result<Vec<Group>, RejectReason>>,
    asked: Mutex<Vec<Purpose>>,
}

impl Provider {
    fn new(leads_to: &[&str]) -> Arc<Self> {
        Self::called("sso", leads_to)
    }

    fn called(name: &str, leads_to: &[&str]) -> Arc<Self> {
        let leads_to = leads_to.iter().map(|origin| Origin::parse(origin).unwrap()).collect();
        let says = Mutex::new(Ok(vec![Group::named(name, "physics")]));
        Arc::new(Self { name: name.to_owned(), leads_to, says, asked: Mutex::default() })
    }
}

impl IdentitySource for Provider {
    fn issuer(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn offer(&self) -> Offer {
        // There is no method of this shape yet: any will do, since nothing asks for it here.
        Offer { id: self.name.clone(), method: Method::DevLink, label: "University account".to_owned() }
    }

    fn attempts(&self) -> Vec<AttemptRoute> {
        vec![AttemptRoute::sent(START), AttemptRoute::all("/login/sso/callback")]
    }

    fn dialogue(&self) -> Dialogue<'_> {
        Dialogue::Redirect { start: START.to_owned(), leads_to: self.leads_to.clone() }
    }

    fn lookup<'a>(&'a self, sought: Sought<'a>) -> BoxFuture<'a, Result<Identity, LoginError>> {
        self.asked.lock().unwrap().push(sought.purpose);
        let person = |groups: Vec<Group>| Identity {
            issuer: self.name.clone(),
            subject: sought.subject.to_owned(),
            name: "ada".to_owned(),
            groups: groups.into_iter().collect(),
            method: sought.method,
        };
        let said = self.says.lock().unwrap().clone().map(person).map_err(LoginError::Refused);
        std::future::ready(said).boxed()
    }
}

/// A directory, SSH keys, and a provider after them.
fn with(provider: &Arc<Provider>) -> Rig {
    let login = "[ldap]\nname = \"corp\"\nurls = [\"ldaps://ldap.example.org\"]\nusers_base = \"dc=example\"\n[ssh]\n";
    let source = Arc::clone(provider) as Arc<dyn IdentitySource>;
    Rig::with(login, tempfile::tempdir().unwrap(), |methods| methods.with(source).unwrap())
}

/// The rig's service on a port, with the pages; where a provider's sign-in begins, the browser is sent to `provider`.
struct Served {
    address: SocketAddr,
    _stop: watch::Sender<bool>,
}

impl Served {
    async fn start(rig: &Rig, provider: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let origin = Origin::parse(&format!("http://{address}")).unwrap();
        let provider = provider.to_owned();
        let begins = Router::new().route(START, post(move || async move { Redirect::to(&provider) }));
        let pages = web::pages(rig.service.clone(), origin.clone());
        let attempts = rig.service.login_methods().attempts();
        let settings = HttpSettings::new(origin, address);
        let http = Http::bind_routes(&settings, begins, attempts, Some(pages), Metrics::new()).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(http.serve(stopped));
        Self { address, _stop: stop }
    }

    fn get(&self, path: &str) -> testkit::Answer {
        let address = self.address.to_string();
        tokio::task::block_in_place(|| request(&address, "GET", path, &[], b"").unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_every_offer_in_order_and_lets_forms_lead_to_providers() {
    let rig = with(&Provider::new(&["https://login.example.edu", "https://mfa.example.edu:8443"]));
    let served = Served::start(&rig, "https://login.example.edu/authorize").await;
    let page = served.get("/sign-in");
    let text = page.body;
    let places: Vec<_> = ["Directory account", "SSH key", "University account"]
        .map(|label| text.find(&format!(">{label}</h2>")).unwrap_or_else(|| panic!("{label}: {text}")))
        .into();
    assert!(places.is_sorted(), "{text}");
    assert!(text.contains("action=\"/login/sso\"") && text.contains("Sign in with University account"));
    assert!(text.contains(&format!(
        "<pre class=\"copy\" tabindex=\"0\">iam-sorry login http://{}</pre>",
        served.address
    )));

    let wanted = "; form-action 'self' https://login.example.edu https://mfa.example.edu:8443; ";
    // Also where nothing is: whatever form a page has, it may lead there.
    for path in ["/sign-in", "/nowhere", "/static/none"] {
        let answer = served.get(path);
        let policies: Vec<_> = answer
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("content-security-policy"))
            .collect();
        assert!(matches!(&policies[..], [(_, policy)] if policy.contains(wanted)), "{path}: {policies:?}");
    }
    let methods = rig.service.service_info().unwrap().methods;
    assert_eq!(methods, [Method::Ldap, Method::SshKey, Method::DevLink]);
}

/// What the browser itself does with a form whose answer sends it to the provider.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_follows_a_form_to_a_provider_of_the_registry_and_to_no_other() {
    let provider = tokio::task::block_in_place(site);
    for (leads_to, arrives) in [(provider.as_str(), true), ("http://127.0.0.1:9", false)] {
        let rig = with(&Provider::new(&[leads_to]));
        let served = Served::start(&rig, &format!("{provider}/authorize")).await;
        tokio::task::block_in_place(|| {
            let browser = Browser::desktop();
            browser.goto(&format!("http://{}/sign-in", served.address));
            let button = browser.find_labelled("Sign in with University account");
            if arrives {
                button.follow();
                assert!(browser.url().starts_with(&provider), "{}", browser.url());
                assert!(browser.text().contains("the provider"), "{}", browser.text());
                return;
            }
            button.click();
            let refused = |console: &[String]| console.iter().any(|line| line.contains("form-action"));
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
            let mut console = browser.console();
            while !refused(&console) {
                assert!(std::time::Instant::now() < deadline, "{console:?} at {}", browser.url());
                std::thread::sleep(std::time::Duration::from_millis(50));
                console.extend(browser.console());
            }
            assert!(browser.url().ends_with("/sign-in"), "{}", browser.url());
        });
    }
}

/// Another site, on a port of its own.
fn site() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // Browsers open connections that they may never use.
            let _ = stream.set_read_timeout(Some(std::time::Duration::from_millis(500)));
            let Ok(1..) = stream.read(&mut [0; 4096]) else { continue };
            let page = "<!doctype html><title>provider</title><p>the provider</p>";
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                page.len()
            );
            let _ = stream.write_all((head + page).as_bytes());
        }
    });
    format!("http://{address}")
}

/// A session of somebody who came from the provider.
async fn session(rig: &Rig, token: &SecretString) {
    let identity = Identity {
        issuer: "sso".to_owned(),
        subject: "4711".to_owned(),
        name: "ada".to_owned(),
        groups: [Group::named("sso", "physics")].into_iter().collect(),
        method: Method::DevLink,
    };
    let now = rig.service.clock().now_ms();
    let token_hash = iam_sorry_server::sessions::secrets::hash(token.expose_secret());
    let session = Session {
        id: "one".to_owned(),
        token_hash,
        form_hash: None,
        method: identity.method,
        signed_in_ms: now,
        last_used_ms: now,
        expires_ms: now + 12 * 3_600_000,
        address: HERE.to_owned(),
        key: None,
        via: None,
        identity: identity.clone(),
    };
    let event = Event {
        time_ms: now,
        instance: "instance-1".to_owned(),
        person: Person::from(&identity),
        address: HERE.to_owned(),
        request_id: "request-1".to_owned(),
        action: "sign-in".to_owned(),
        ..Event::default()
    };
    rig.store.create_session(session, event).await.unwrap();
}

/// A person is looked up again where they came from, and nowhere else.
#[tokio::test]
async fn the_recheck_asks_the_source_that_a_person_came_from() {
    let provider = Provider::new(&[]);
    let rig = with(&provider);
    let token = SecretString::from(format!("iss_{}", "x".repeat(43)));
    session(&rig, &token).await;
    let caller = async || rig.service.caller_by_token(origin(HERE), token.expose_secret()).await;
    assert_eq!(caller().await.unwrap().identity.groups.labels(), ["physics"]);
    assert!(provider.asked.lock().unwrap().is_empty(), "not looked up before it is time");

    *provider.says.lock().unwrap() = Ok(vec![Group::named("sso", "chemistry")]);
    rig.wait(16 * 60);
    assert_eq!(caller().await.unwrap().identity.groups.labels(), ["chemistry"]);
    assert_eq!(*provider.asked.lock().unwrap(), [Purpose::Recheck]);

    *provider.says.lock().unwrap() = Err(RejectReason::Disabled);
    rig.wait(16 * 60);
    assert_eq!(caller().await.unwrap_err().code, ProblemCode::SignInNeeded);
    let ended = rig.trail().await.into_iter().next().unwrap();
    assert_eq!((ended.action.as_str(), ended.details["reason"].as_str()), ("end-session", "disabled"));

    // The operator has taken the provider away: nobody vouches for its people any more.
    let other = with(&Provider::called("another", &[]));
    session(&other, &token).await;
    other.wait(16 * 60);
    let refused = other.service.caller_by_token(origin(HERE), token.expose_secret()).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::SignInNeeded);
}

/// Two people of one issuer and subject would be one person to rules, store and trail.
#[tokio::test]
async fn two_sources_of_one_name_are_refused() {
    let of = |name: &str| Provider::called(name, &[]) as Arc<dyn IdentitySource>;
    let methods = LoginMethods::default().with(of("sso")).unwrap();
    let error = methods.clone().with(of("sso")).err().unwrap().to_string();
    assert!(error.contains("\"sso\"") && error.contains("another name"), "{error}");
    assert!(methods.with(of("other")).is_ok());

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("people.toml");
    std::fs::write(&file, "").unwrap();
    let login = |name: &str| {
        let login = format!(
            "[ldap]\nname = {name:?}\nurls = [\"ldaps://ldap.example.org\"]\nusers_base = \"dc=example\"\n[ssh]\nfile = {file:?}\n"
        );
        LoginMethods::new(&toml::from_str(&login).unwrap()).map(drop)
    };
    login("corp").unwrap();
    let error = login("file").unwrap_err().to_string();
    assert!(error.contains("\"file\""), "{error}");
}

#[tokio::test]
async fn whoever_comes_from_nowhere_is_nobody() {
    let now = Timestamp::from_unix(1_795_374_000).unwrap();
    let sought = Sought { subject: "4711", method: Method::SshKey, purpose: Purpose::SignIn, now };
    let methods = LoginMethods::default().with(Provider::new(&[])).unwrap();
    assert_eq!(methods.lookup("sso", sought).await.unwrap().id(), "sso/4711");
    let nobody = methods.lookup("corp", sought).await;
    assert_eq!(nobody, Err(LoginError::Refused(RejectReason::UnknownPerson)));
}

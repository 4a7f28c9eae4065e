//! A department: a directory, an AWS account, and the service between them, as real processes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use iam_sorry_core::api::Problem;
use serde_json::{Value, json};
use testkit::{Account, Browser, Element, Ministack, Service, Slapd, TestCa};

/// The rules of the department, as an operator would write them.
const RULES: &str = r#"
@id("owners-manage-their-namespaces")
permit (
    principal,
    action in [IamSorry::Action::"view", IamSorry::Action::"manage", IamSorry::Action::"issueCredentials"],
    resource
) when { principal in resource.owners };

@id("twelve-hours-at-most")
forbid (principal, action in IamSorry::Action::"credentials", resource) when { context.duration > 43200 };

@id("auditors-oversee")
permit (principal in IamSorry::Group::"auditors", action in IamSorry::Action::"oversee", resource);
"#;

const READ_ONLY: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}]}"#;

pub struct Rig {
    pub account: Account,
    _slapd: Slapd,
    _ca: Option<TestCa>,
    pub service: Service,
    /// ARNs of the allow-list.
    pub policies: Vec<String>,
}

impl Rig {
    /// Runs on plain loopback.
    pub fn start() -> Self {
        let rig = Self::prepare("{origin}", "");
        rig.service.run();
        rig
    }

    /// Runs with TLS; gives its origin too.
    pub fn start_with_tls() -> (Self, String) {
        let ca = TestCa::new();
        let certificate = ca.issue_loopback();
        let tls = format!(
            "[http.tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
            certificate.certificate.display(),
            certificate.key.display()
        );
        let mut rig = Self::prepare("https://{address}", &tls);
        rig._ca = Some(ca);
        rig.service.launch();
        let origin = format!("https://{}", rig.service.address());
        (rig, origin)
    }

    /// Starts `serve --dev`, and does not wait for it.
    pub fn for_development() -> Self {
        let rig = Self::prepare("{origin}", "");
        let key = rig.account.user_allowed("the-developer", &["iam:*", "sts:*"]);
        let endpoint = rig.account.endpoint().to_owned();
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", &key.key),
            ("AWS_SECRET_ACCESS_KEY", &key.secret),
            ("AWS_ENDPOINT_URL", &endpoint),
            ("AWS_REGION", &"us-east-1".to_owned()),
        ] {
            rig.service.set_env(name, value);
        }
        let state = rig.service.dir().join("dev").display().to_string();
        rig.service.launch_with(&["serve", "--dev", "--listen", &rig.service.address(), "--state", &state]);
        rig
    }

    fn prepare(origin: &str, tls: &str) -> Self {
        let account = Ministack::shared().account();
        let policies: Vec<String> =
            ["Reading", "Writing", "Boundary"].iter().map(|name| make_policy(&account, name)).collect();
        let key = account.user_allowed("the-service", &["iam:*", "sts:*"]);
        let slapd = Slapd::department();
        let service = Service::new(std::path::Path::new(env!("CARGO_BIN_EXE_iam-sorryd")));
        service.write("aws-secret", &key.secret);
        service.write("bind-password", slapd.service_password());
        service.write("rules/department.cedar", RULES);
        let config = format!(
            r#"
name = "Physics AWS"

[http]
origin = "{origin}"
listen = "{{address}}"
{tls}
[store]
path = "{{dir}}/store.db"

[aws]
region = "us-east-1"
account = "{account}"
endpoint_sts = "{endpoint}"
endpoint_iam = "{endpoint}"
identity = {{ access_key = {{ id = "{key}", secret = {{ file = "{{dir}}/aws-secret" }} }} }}

[login.ssh]
[login.ldap]
name = "corp"
urls = ["{ldap}"]
bind_dn = "{bind_dn}"
bind_password = {{ file = "{{dir}}/bind-password" }}
users_base = "{people}"
groups_base = "{groups}"

[rules]
files = ["{{dir}}/rules"]

[[namespace]]
name = "dirk"
owners = ["group:lab-dirk"]

[[namespace]]
name = "ada"
owners = ["group:lab-ada"]

[guardrails]
permissions_boundary = "{boundary}"
policies = ["{reading}", "{writing}"]
"#,
            account = account.id(),
            endpoint = account.endpoint(),
            key = key.key,
            ldap = slapd.url(),
            bind_dn = slapd.service_dn(),
            people = slapd.people_base(),
            groups = slapd.groups_base(),
            boundary = policies[2],
            reading = policies[0],
            writing = policies[1],
        );
        let path = service.write("iam-sorryd.toml", &config).display().to_string();
        let migrated = service.command(&["migrate", "--config", &path]);
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        Self { account, _slapd: slapd, _ca: None, service, policies }
    }

    /// A session of the API.
    pub fn token(&self, name: &str) -> String {
        let body = json!({"username": name, "password": format!("{name}-password")});
        let answer = self.service.api("POST", "/login/ldap", "", &body).unwrap();
        let answer = answer.json();
        answer["token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }
}

fn make_policy(account: &Account, name: &str) -> String {
    let made = account.call("iam", "create_policy", json!({"PolicyName": name, "PolicyDocument": READ_ONLY}));
    made["Policy"]["Arn"].as_str().unwrap().to_owned()
}

/// A browser that looks at every page it comes to.
pub struct Person<'a> {
    pub browser: Browser,
    pub origin: String,
    width: u32,
    step: std::cell::Cell<u32>,
    rig: &'a Rig,
}

impl<'a> Person<'a> {
    pub fn new(rig: &'a Rig, origin: &str, browser: Browser, width: u32) -> Self {
        Self { browser, origin: origin.to_owned(), width, step: std::cell::Cell::new(0), rig }
    }

    /// Goes to an address of the service.
    pub fn goto(&self, path: &str) {
        self.browser.goto(&format!("{}{path}", self.origin));
    }

    /// Where the browser is, without the origin.
    pub fn place(&self) -> String {
        let url = self.browser.url();
        url.strip_prefix(&self.origin).unwrap_or(&url).to_owned()
    }

    /// Signs in on the sign-in page.
    pub fn sign_in(&self, name: &str, password: &str) {
        let field = self.browser.find("#username");
        field.clear();
        field.type_text(name);
        self.browser.find("#password").type_text(password);
        self.click("Sign in");
    }

    /// Uses the link or button with this text, and waits for the page that comes.
    pub fn click(&self, label: &str) {
        self.press(&self.browser.find_labelled(label));
    }

    /// The same with a link or button at hand.
    pub fn press(&self, control: &Element<'_>) {
        self.browser.run("window.before = true;", &json!([]));
        control.click();
        let begun = Instant::now();
        let there = "return !window.before && document.readyState === 'complete';";
        while self.browser.run(there, &json!([])) != json!(true) {
            assert!(begun.elapsed().as_secs() < 90, "no page came: {}", self.rig.service.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What every page must keep, whatever it shows. `kept` names the screenshot.
    pub fn look(&self, name: &str) {
        let page = || format!("{name} at {} px ({}): {}", self.width, self.place(), self.browser.text());
        let step = self.step.get() + 1;
        self.step.set(step);
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("web");
        std::fs::create_dir_all(&folder).unwrap();
        self.browser.screenshot(&folder.join(format!("{}-{step:02}-{name}.png", self.width)));
        assert!(self.browser.overflow() <= 0, "{}: scrolls sideways by {}", page(), self.browser.overflow());
        assert!(self.browser.title().ends_with(" · Physics AWS"), "{}: {}", page(), self.browser.title());
        assert_eq!(self.browser.find_all("h1").len(), 1, "{}: one h1", page());
        assert_eq!(self.browser.find_all("main").len(), 1, "{}: one main", page());
        let nameless = self.browser.run(NAMELESS, &json!([]));
        assert_eq!(nameless, json!([]), "{}: controls without a name", page());
        let console: Vec<String> = self.browser.console();
        // Chromium writes every answer from 400 up to the console; that is not the page's doing.
        let console: Vec<_> =
            console.iter().filter(|line| !line.contains("Failed to load resource")).collect();
        assert!(console.is_empty(), "{}: console {console:?}", page());
        let log = self.rig.service.log();
        assert!(!log.contains("panicked"), "{}: {log}", page());
    }

    /// The text of the note at the top of the page.
    pub fn note(&self) -> String {
        self.browser.find(".note").text()
    }
}

/// Every control that a screen reader could not name, and every heading that skips a level.
const NAMELESS: &str = r#"
const out = [];
for (const e of document.querySelectorAll('input:not([type=hidden]), select, textarea, button, a')) {
  const label = e.labels && e.labels.length ? e.labels[0].textContent : '';
  const name = (label || e.getAttribute('aria-label') || e.textContent || '').trim();
  if (!name) out.push(e.outerHTML);
}
let last = 1;
for (const h of document.querySelectorAll('h1, h2, h3')) {
  const level = Number(h.tagName[1]);
  if (level > last + 1) out.push(h.outerHTML);
  last = level;
}
for (const e of document.querySelectorAll('[aria-labelledby], [aria-describedby]'))
  for (const id of (e.getAttribute('aria-labelledby') + ' ' + (e.getAttribute('aria-describedby') || '')).split(' '))
    if (id && id !== 'null' && !document.getElementById(id)) out.push(id + ' is nowhere');
return out;
"#;

/// The code of an API problem.
pub fn code(answer: &Value) -> String {
    serde_json::from_value::<Problem>(answer.clone())
        .map(|problem| format!("{:?}", problem.code))
        .unwrap_or_else(|_| answer.to_string())
}

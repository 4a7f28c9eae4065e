//! A department as real processes, and a browser that looks at every page.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use iam_sorry_core::api::Problem;
use serde_json::{Value, json};
use testkit::{Browser, Department, Extras, TestCa};

pub struct Rig {
    department: Department,
    _ca: Option<TestCa>,
}

impl Deref for Rig {
    type Target = Department;

    fn deref(&self) -> &Department {
        &self.department
    }
}

impl Rig {
    /// Runs on plain loopback.
    pub fn start() -> Self {
        let rig = Self::prepare(None);
        rig.service.run();
        rig
    }

    /// Runs with TLS; gives its origin too.
    pub fn start_with_tls() -> (Self, String) {
        let rig = Self::prepare(Some(TestCa::new()));
        rig.service.launch();
        let origin = format!("https://{}", rig.service.address());
        (rig, origin)
    }

    /// Starts `serve --dev`, and does not wait for it.
    pub fn for_development() -> Self {
        let rig = Self::prepare(None);
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

    fn prepare(ca: Option<TestCa>) -> Self {
        let tables = "[[namespace]]\nname = \"ada\"\nowners = [\"group:lab-ada\"]\n";
        let extras = Extras { tls: ca.as_ref(), tables, rules: "" };
        let department = Department::prepare(Path::new(env!("CARGO_BIN_EXE_iam-sorryd")), &extras);
        Self { department, _ca: ca }
    }
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
        self.browser.find_labelled(label).follow();
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

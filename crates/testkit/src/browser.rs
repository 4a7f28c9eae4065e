//! A real Chromium, headless, driven by chromedriver over WebDriver (W3C) as a person would use it: by what is on the
//! page. Nothing is downloaded, reported or kept; the profile is empty and goes away.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::http::request;
use crate::process::Server;

/// How long a page may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The key under which WebDriver names an element (W3C WebDriver, 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window. Ends, with all its processes, on drop and with the test process.
#[derive(Debug)]
pub struct Browser {
    address: String,
    session: String,
    _server: Server,
}

/// Something on the page. Useless once the page has changed.
#[derive(Debug)]
pub struct Element<'a> {
    browser: &'a Browser,
    id: String,
}

impl Browser {
    /// A window of a desktop: 1280 by 900.
    pub fn desktop() -> Browser {
        Browser::start(1280, 900)
    }

    /// A phone in portrait: 390 by 844, with touch and a mobile viewport.
    pub fn phone() -> Browser {
        Browser::start(390, 844)
    }

    /// Any size in CSS pixels. Certificates are not checked: a rig's CA is nobody's.
    pub fn start(width: u32, height: u32) -> Browser {
        let (server, port) = driver();
        let profile = server.dir().join("profile");
        let mut browser =
            Browser { address: format!("127.0.0.1:{port}"), session: String::new(), _server: server };
        let arguments = [
            "--headless",
            "--no-sandbox", // there are no user namespaces in most CI containers
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--disable-breakpad",
            "--disable-crash-reporter",
            "--force-color-profile=srgb",
            &format!("--user-data-dir={}", profile.display()),
            &format!("--window-size={width},{height}"),
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "acceptInsecureCerts": true,
            "goog:chromeOptions": {"args": arguments, "binary": "/usr/bin/chromium"},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let answer =
            browser.call("POST", "/session", &capabilities).unwrap_or_else(|e| panic!("Chromium: {e}"));
        browser.session = answer["sessionId"].as_str().expect("a session").to_owned();
        browser.resize(width, height);
        browser
    }

    /// Another size in CSS pixels; below 600 it is a phone.
    pub fn resize(&self, width: u32, height: u32) {
        // The window itself can't be made as narrow as a phone.
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}),
        );
    }

    /// Light (`"light"`) or dark (`"dark"`), as the person's system prefers.
    pub fn prefer_color_scheme(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// Opens an address and waits until the page has loaded.
    pub fn goto(&self, url: &str) {
        self.post("/url", &json!({"url": url}));
    }

    /// The address that is shown.
    pub fn url(&self) -> String {
        text(&self.get("/url"))
    }

    /// The page's title.
    pub fn title(&self) -> String {
        text(&self.get("/title"))
    }

    /// The page's source as it is now.
    pub fn source(&self) -> String {
        text(&self.get("/source"))
    }

    /// All the text that can be read on the page.
    pub fn text(&self) -> String {
        self.find("body").text()
    }

    /// Loads the page again.
    pub fn reload(&self) {
        self.post("/refresh", &json!({}));
    }

    /// Goes back.
    pub fn back(&self) {
        self.post("/back", &json!({}));
    }

    /// The first element that a CSS selector finds, waited for.
    ///
    /// # Panics
    /// With the page's text when there is none.
    pub fn find(&self, css: &str) -> Element<'_> {
        let start = Instant::now();
        loop {
            if let Some(element) = self.try_find(css) {
                return element;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "no {css:?} on {} ({}):\n{}",
                self.url(),
                self.title(),
                self.run("return document.body.innerText", &json!([]))
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The first element that is there right now.
    pub fn try_find(&self, css: &str) -> Option<Element<'_>> {
        self.find_all(css).into_iter().next()
    }

    /// Every element that is there right now.
    pub fn find_all(&self, css: &str) -> Vec<Element<'_>> {
        let found = self.post("/elements", &json!({"using": "css selector", "value": css}));
        let ids = found.as_array().cloned().unwrap_or_default();
        ids.iter().map(|id| Element { browser: self, id: text(&id[ELEMENT]) }).collect()
    }

    /// The first link or button with exactly this text, waited for.
    pub fn find_labelled(&self, label: &str) -> Element<'_> {
        let start = Instant::now();
        loop {
            let candidates = self.find_all("a, button, input[type=submit], summary");
            let found = candidates.into_iter().find(|element| {
                element.text() == label || element.attribute("value").as_deref() == Some(label)
            });
            if let Some(element) = found {
                return element;
            }
            assert!(start.elapsed() < PATIENCE, "no link or button {label:?}:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs a script in the page (`return ...`; `arguments[0]` and so on), past any Content-Security-Policy.
    pub fn run(&self, script: &str, arguments: &Value) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": arguments}))
    }

    /// How much wider the page is than the window: more than 0 means scrolling sideways.
    pub fn overflow(&self) -> i64 {
        let script = "return document.documentElement.scrollWidth - window.innerWidth";
        self.run(script, &json!([])).as_i64().expect("a number")
    }

    /// The cookies that the page would send: objects with name, value, path, secure, httpOnly, sameSite.
    pub fn cookies(&self) -> Vec<Value> {
        self.get("/cookie").as_array().cloned().unwrap_or_default()
    }

    /// Forgets all cookies of the page.
    pub fn delete_cookies(&self) {
        self.try_call("DELETE", "/cookie", &Value::Null).unwrap_or_else(|error| panic!("{error}"));
    }

    /// What the browser wrote to its console since the last call: errors, warnings, blocked resources.
    pub fn console(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({"type": "browser"}));
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .map(|entry| format!("{}: {}", text(&entry["level"]), text(&entry["message"])))
            .collect()
    }

    /// Writes the whole page, also what is below the window, as a PNG.
    pub fn screenshot(&self, path: &Path) {
        let shot =
            self.devtools("Page.captureScreenshot", &json!({"format": "png", "captureBeyondViewport": true}));
        let png = BASE64_STANDARD.decode(text(&shot["data"])).expect("base64");
        fs::write(path, png).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// A command of the Chrome DevTools protocol.
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    fn get(&self, path: &str) -> Value {
        self.try_call("GET", path, &Value::Null).unwrap_or_else(|error| panic!("{error}"))
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.try_call("POST", path, body).unwrap_or_else(|error| panic!("{path} {body}: {error}"))
    }

    fn try_call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        self.call(method, &format!("/session/{}{path}", self.session), body)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers = ["Content-Type: application/json"];
        let answer =
            request(&self.address, method, path, &headers, body.as_bytes()).map_err(|e| e.to_string())?;
        let value = answer.json()["value"].clone();
        if answer.status == 200 {
            Ok(value)
        } else {
            Err(format!("{}: {}", value["error"], value["message"]))
        }
    }
}

/// A chromedriver, and its port. It takes a free one for IPv6 and then wants the same for IPv4, where somebody else may have
/// it by now: then another one is started.
fn driver() -> (Server, String) {
    let program = Path::new("/usr/bin/chromedriver");
    assert!(program.exists(), "chromedriver is missing.\nRun scripts/deps.");
    let started = (0..5).find_map(|_| {
        let server = Server::start(program, &["--port=0"], &[], crate::short_temp_dir().keep());
        let port = server.wait_for("port in its log", |log| {
            if log.contains("port not available") {
                return Some(None);
            }
            let rest = log.split_once("started successfully on port ")?.1;
            Some(Some(rest.split_once('.')?.0.to_owned()))
        });
        Some((server, port?))
    });
    started.expect("chromedriver finds a port")
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends by itself then; chromedriver's whole process group is killed in any case.
        let _ = self.try_call("DELETE", "", &Value::Null);
    }
}

impl Element<'_> {
    /// Clicks on it, and waits for nothing: [`Element::follow`] waits for the page that a link or button leads to.
    ///
    /// # Panics
    /// When something covers it.
    pub fn click(&self) {
        self.post("/click", &json!({}));
    }

    /// Clicks on a link or button, and waits until the page that it leads to has loaded. A form is sent behind the
    /// click's back: what is looked for right after a click may be found on the page that is about to go.
    ///
    /// # Panics
    /// When something covers it, or no page comes.
    pub fn follow(&self) {
        self.browser.run("window.left = true;", &json!([]));
        self.click();
        let there =
            json!({"script": "return !window.left && document.readyState === 'complete';", "args": []});
        let start = Instant::now();
        // A script that a page takes along when it goes is an error; the next one is asked.
        while self.browser.try_call("POST", "/execute/sync", &there) != Ok(json!(true)) {
            assert!(
                start.elapsed() < PATIENCE,
                "no page came after {}:\n{}",
                self.browser.url(),
                self.browser.text()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Types into it.
    pub fn type_text(&self, text: &str) {
        self.post("/value", &json!({"text": text}));
    }

    /// Empties a field.
    pub fn clear(&self) {
        self.post("/clear", &json!({}));
    }

    /// Chooses the option of a select whose value this is.
    pub fn choose(&self, value: &str) {
        let options =
            self.browser.post(&self.path("/elements"), &json!({"using": "css selector", "value": "option"}));
        let options = options.as_array().cloned().unwrap_or_default();
        let options = options.iter().map(|id| Element { browser: self.browser, id: text(&id[ELEMENT]) });
        let option = options.into_iter().find(|option| option.property("value") == value);
        option.unwrap_or_else(|| panic!("no option {value:?}")).click();
    }

    /// Its text as it can be read on the page.
    pub fn text(&self) -> String {
        text(&self.get("/text"))
    }

    /// An attribute as it stands in the source.
    pub fn attribute(&self, name: &str) -> Option<String> {
        self.get(&format!("/attribute/{name}")).as_str().map(str::to_owned)
    }

    /// A property as it is now, such as the `value` of a field.
    pub fn property(&self, name: &str) -> Value {
        self.get(&format!("/property/{name}"))
    }

    /// Whether it can be seen.
    pub fn is_displayed(&self) -> bool {
        self.get("/displayed") == true
    }

    /// The first element inside that a CSS selector finds.
    pub fn find(&self, css: &str) -> Element<'_> {
        let found =
            self.browser.post(&self.path("/element"), &json!({"using": "css selector", "value": css}));
        Element { browser: self.browser, id: text(&found[ELEMENT]) }
    }

    fn get(&self, path: &str) -> Value {
        self.browser.get(&self.path(path))
    }

    fn post(&self, path: &str, body: &Value) {
        self.browser.post(&self.path(path), body);
    }

    fn path(&self, path: &str) -> String {
        format!("/element/{}{path}", self.id)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

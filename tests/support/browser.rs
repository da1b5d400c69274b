//! A real browser: Chromium without a window, driven as W3C WebDriver says (<https://www.w3.org/TR/webdriver2/>) by the
//! chromedriver of Debian's package chromium-driver.
//!
//! It reaches the hosts that it is told of and nothing else, and trusts no certificate but those whose keys it is told.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;

const DRIVER: &str = "/usr/bin/chromedriver";
const CHROMIUM: &str = "/usr/bin/chromium";

/// How long is waited for a page, an element or a script (ms): a fleet whose database is moving lets requests wait for 15 s.
const LIMIT_MS: u32 = 30_000;

/// How long the driver may take to answer, beyond what it waits for itself. The first answer takes Chromium's start.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// What the driver calls an element's name in JSON (WebDriver, 12.2).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// How the browser is to see the network.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Where `https://HOST/` leads to. Every other name leads nowhere.
    pub hosts: Vec<(String, SocketAddr)>,
    /// SHA-256 of public keys (SubjectPublicKeyInfo) in base64: a chain with one of them is taken for good. Every other certificate has
    /// to be one that the machine trusts.
    pub trusted_keys: Vec<String>,
}

/// A running browser with a profile of its own; it ends when dropped.
#[derive(Debug)]
pub struct Browser {
    agent: Agent,
    session: String,
    driver: Child,
    // The driver speaks on, and ends where nobody hears it.
    _said: BufReader<ChildStdout>,
    _home: TempDir,
}

impl Browser {
    /// Starts it.
    ///
    /// # Panics
    /// Where chromium or chromium-driver is not installed, or does not start.
    #[must_use]
    pub fn start(world: &World) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let mut driver = Command::new(DRIVER)
            .arg("--port=0")
            .env("HOME", home.path())
            .env("TMPDIR", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{DRIVER}: {error}; `builder/setup browser` installs it")
            });
        let mut said = BufReader::new(driver.stdout.take().expect("was asked for"));
        let port = port(&mut said);
        let config = Agent::config_builder()
            .timeout_global(Some(ANSWER_LIMIT))
            .http_status_as_error(false)
            .build();
        let mut browser = Self {
            agent: config.into(),
            session: format!("http://127.0.0.1:{port}/session"),
            driver,
            _said: said,
            _home: home,
        };
        let told = browser.post("", &capabilities(world, &browser));
        let id = told["sessionId"].as_str().expect("a session has an id");
        browser.session = format!("{}/{id}", browser.session);
        browser
    }

    /// Opens a page and waits until it is loaded.
    ///
    /// # Panics
    /// Where it cannot be reached, or its certificate is not trusted.
    pub fn open(&self, url: &str) {
        self.try_open(url)
            .unwrap_or_else(|error| panic!("{url}: {error}"));
    }

    /// As [`Browser::open`].
    ///
    /// # Errors
    /// What keeps the page from being shown, as the browser calls it (`NET::ERR_CERT_AUTHORITY_INVALID`).
    pub fn try_open(&self, url: &str) -> Result<(), String> {
        self.call(Verb::Post, "/url", &json!({ "url": url }))?;
        // The page that warns of a certificate is loaded without an error.
        let warning = self.run(
            "return location.protocol === 'chrome-error:'
               ? /\\bNET::ERR_\\w+/.exec(document.body.innerText)?.[0] ?? document.title
               : null",
        );
        warning
            .as_str()
            .map_or(Ok(()), |error| Err(error.to_owned()))
    }

    /// The address of the page that is shown.
    #[must_use]
    pub fn url(&self) -> String {
        let url = self.must(Verb::Get, "/url", &Value::Null);
        url.as_str().expect("an address").to_owned()
    }

    /// The text that a person sees of the first element that the CSS selector finds, once there is one.
    #[must_use]
    pub fn text(&self, selector: &str) -> String {
        let path = format!("/element/{}/text", self.element(selector));
        let text = self.must(Verb::Get, &path, &Value::Null);
        text.as_str().expect("a text").to_owned()
    }

    /// Clicks it as with a mouse: it has to be visible, and nothing may be in front of it.
    pub fn click(&self, selector: &str) {
        let path = format!("/element/{}/click", self.element(selector));
        self.post(&path, &json!({}));
    }

    /// Clears a field and types into it.
    pub fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.post(&format!("/element/{element}/clear"), &json!({}));
        let value = json!({ "text": text });
        self.post(&format!("/element/{element}/value"), &value);
    }

    /// Runs the body of a function in the page; what it returns, also where that is a promise.
    #[must_use]
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Sends a command of the DevTools protocol (<https://chromedevtools.github.io/devtools-protocol/>).
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.post("/goog/cdp/execute", &body)
    }

    /// What has come to the console since it was asked last: errors of scripts, of the network and of security.
    #[must_use]
    pub fn console(&self) -> Vec<Value> {
        let told = self.post("/se/log", &json!({ "type": "browser" }));
        let entries = told.as_array().expect("a list").iter();
        // The browser's own pages, such as the first one, speak there, too.
        let of_page = |entry: &&Value| {
            let message = entry["message"].as_str().unwrap_or_default();
            !message.starts_with("chrome://")
        };
        entries.filter(of_page).cloned().collect()
    }

    fn element(&self, selector: &str) -> String {
        let query = json!({ "using": "css selector", "value": selector });
        let found = self.post("/element", &query);
        found[ELEMENT].as_str().expect("an element").to_owned()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.must(Verb::Post, path, body)
    }

    fn must(&self, verb: Verb, path: &str, body: &Value) -> Value {
        self.call(verb, path, body)
            .unwrap_or_else(|error| panic!("{path} {body}: {error}"))
    }

    /// The value of an answer, or the text of an error (WebDriver, 6.6).
    fn call(&self, verb: Verb, path: &str, body: &Value) -> Result<Value, String> {
        let url = format!("{}{path}", self.session);
        let answer = match verb {
            Verb::Get => self.agent.get(&url).call(),
            Verb::Delete => self.agent.delete(&url).call(),
            Verb::Post => self
                .agent
                .post(&url)
                .content_type("application/json; charset=utf-8")
                .send(body.to_string()),
        };
        let mut answer = answer.map_err(|error| error.to_string())?;
        let mut text = String::new();
        answer
            .body_mut()
            .as_reader()
            .read_to_string(&mut text)
            .map_err(|error| error.to_string())?;
        let told: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if answer.status().is_success() {
            Ok(told["value"].clone())
        } else {
            let message = told["value"]["message"].as_str().unwrap_or(&text);
            Err(message.to_owned())
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Verb {
    Get,
    Post,
    Delete,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium, which the driver's own end would leave behind.
        let _ = self.call(Verb::Delete, "", &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// The port that the driver has chosen.
fn port(said: &mut BufReader<ChildStdout>) -> u16 {
    let mut line = String::new();
    while said.read_line(&mut line).expect("it speaks UTF-8") > 0 {
        // A line before this one repeats what was asked for.
        let words = line.split_once("started successfully on port ");
        let port = words.map(|(_, port)| port.trim_end().trim_end_matches('.'));
        if let Some(port) = port.and_then(|port| port.parse().ok()) {
            return port;
        }
        line.clear();
    }
    panic!("chromedriver ended before it listened");
}

fn capabilities(world: &World, browser: &Browser) -> Value {
    let profile = browser._home.path().join("profile");
    let mut rules: Vec<String> = world
        .hosts
        .iter()
        .map(|(host, address)| format!("MAP {host}:443 {address}"))
        .collect();
    rules.push("MAP * ~NOTFOUND".to_owned());
    let mut arguments = vec![
        format!("--user-data-dir={}", profile.display()),
        format!("--host-resolver-rules={}", rules.join(", ")),
        format!(
            "--ignore-certificate-errors-spki-list={}",
            world.trusted_keys.join(",")
        ),
    ];
    let fixed = [
        "--headless",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        // /dev/shm is small in containers.
        "--disable-dev-shm-usage",
    ];
    arguments.extend(fixed.map(str::to_owned));
    if rustix::process::geteuid().is_root() {
        // Chromium's sandbox is for users; as root it refuses to start in it.
        arguments.push("--no-sandbox".to_owned());
    }
    json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome",
        "acceptInsecureCerts": false,
        "timeouts": { "implicit": LIMIT_MS, "pageLoad": LIMIT_MS, "script": LIMIT_MS },
        "goog:loggingPrefs": { "browser": "ALL" },
        "goog:chromeOptions": { "binary": CHROMIUM, "args": arguments, "excludeSwitches": ["ignore-certificate-errors"] },
    } } })
}

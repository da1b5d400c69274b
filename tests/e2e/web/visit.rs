//! What a visitor of the example's shop does, and what the browser has to say about it.

use std::time::{Duration, Instant};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rolesmith_tests::browser::Browser;
use serde_json::{Value, json};

/// Views are written once a second; a busy machine takes longer.
const VIEW_LIMIT: Duration = Duration::from_secs(30);

/// Collects violations of the page's policy from before its first script on (Content Security Policy Level 3, 5.3).
const WATCH_POLICY: &str = "\
    globalThis.violations = [];
    addEventListener('securitypolicyviolation', (event) => {
      violations.push(`${event.effectiveDirective}: ${event.blockedURI}`);
    });";

/// The shop as its visitor finds it.
#[derive(Debug)]
pub struct Shop<'a> {
    browser: &'a Browser,
    origin: String,
}

/// An order that was placed.
#[derive(Debug, PartialEq, Eq)]
pub struct Order {
    /// Its number.
    pub id: String,
    /// What the page says of it.
    pub facts: Vec<(String, String)>,
}

impl<'a> Shop<'a> {
    /// The shop of this host name.
    pub fn new(browser: &'a Browser, host: &str) -> Self {
        let watch = json!({ "source": WATCH_POLICY });
        // Certificates are kept from here on.
        browser.devtools("Network.enable", json!({}));
        browser.devtools("Page.addScriptToEvaluateOnNewDocument", watch);
        Self {
            browser,
            origin: format!("https://{host}"),
        }
    }

    /// The front page: names of the products, and how often each was seen.
    pub fn products(&self) -> Vec<(String, u64)> {
        self.browser.open(&format!("{}/", self.origin));
        assert_eq!(self.browser.text("h1"), "Tools for the forge");
        // The page writes numbers as people do; the list is complete once the heading is there.
        let told = self.browser.run(
            "return Array.from(document.querySelectorAll('.products li'), (item) => [
               item.querySelector('h2').textContent,
               Number(/seen ([0-9,.]+) time/.exec(item.textContent)[1].replace(/[,.]/g, ''))])",
        );
        serde_json::from_value(told).expect("names and numbers")
    }

    /// Follows the link of a product on the front page and orders so many of it; the number and the rest are read from the page that
    /// comes then.
    pub fn order(&self, product: u32, quantity: u32) -> Order {
        let browser = self.browser;
        browser.click(&format!("a[href='/products/{product}']"));
        browser.fill("#quantity", &quantity.to_string());
        browser.click("#order button");
        // Only the page of an order has it.
        let id = browser.text("dd code");
        assert_eq!(browser.text("h1"), "Your order");
        assert_eq!(browser.url(), format!("{}/orders/{id}", self.origin));
        let order = Order {
            id,
            facts: self.facts(),
        };
        // Whoever gets the link sees the same: nginx answers with the page, and the page with the order.
        browser.open(&format!("{}/orders/{}", self.origin, order.id));
        assert_eq!(browser.text("dd code"), order.id);
        assert_eq!(self.facts(), order.facts);
        order
    }

    fn facts(&self) -> Vec<(String, String)> {
        let told = self.browser.run(
            "return Array.from(document.querySelectorAll('dt'), (term) => [
               term.textContent, term.nextElementSibling.textContent])",
        );
        serde_json::from_value(told).expect("terms and texts")
    }

    /// Waits until the front page says that the product was seen so often.
    pub fn until_seen(&self, product: usize, views: u64) {
        let begun = Instant::now();
        loop {
            let seen = self.products()[product].1;
            assert!(seen <= views, "{seen} of {views} views");
            if seen == views {
                return;
            }
            assert!(begun.elapsed() < VIEW_LIMIT, "{seen} of {views} views");
        }
    }

    /// Everything that the page loaded came over this protocol (ALPN).
    pub fn assert_protocol(&self, protocol: &str) {
        let told = self.browser.run(
            "return ['navigation', 'resource'].flatMap((type) => performance.getEntriesByType(type))
               .map(({ name, nextHopProtocol }) => [name, nextHopProtocol])",
        );
        let told: Vec<(String, String)> = serde_json::from_value(told).expect("a list");
        // The page, its style, its scripts and what they asked for.
        assert!(told.len() >= 5, "{told:?}");
        for (name, by) in &told {
            assert_eq!(by, protocol, "{name}");
        }
    }

    /// The certificates that the browser was shown (DER), the server's own first.
    pub fn certificates(&self) -> Vec<Vec<u8>> {
        let origin = json!({ "origin": self.origin });
        let told = self.browser.devtools("Network.getCertificate", origin);
        let table = told["tableNames"].as_array().expect("a list");
        let decode = |one: &Value| BASE64_STANDARD.decode(one.as_str().expect("text"));
        let certificates = table.iter().map(|one| decode(one).expect("base64"));
        certificates.collect()
    }

    /// Neither the page nor the console has anything to complain about, since the page was opened and since this was asked last.
    pub fn assert_content(&self) {
        assert_eq!(self.violations(), Vec::<String>::new());
        let console = self.browser.console();
        assert!(console.is_empty(), "{console:#?}");
    }

    /// A script that was smuggled into the page does not run, and both ways of [`Shop::assert_content`] tell: what found
    /// nothing before would have found it.
    pub fn assert_policy_is_watched(&self) {
        let ran = self.browser.run(
            "return new Promise((resolve) => {
               addEventListener('securitypolicyviolation', () => resolve(globalThis.smuggled === true));
               const script = document.createElement('script');
               script.textContent = 'globalThis.smuggled = true';
               document.body.append(script);
             })",
        );
        assert_eq!(ran, false);
        assert_eq!(self.violations(), ["script-src-elem: inline"]);
        let console = self.browser.console();
        let security = |entry: &&Value| {
            let message = entry["message"].as_str().unwrap_or_default();
            message.contains("Content Security Policy")
        };
        assert!(console.iter().any(|entry| security(&entry)), "{console:#?}");
    }

    fn violations(&self) -> Vec<String> {
        let told = self.browser.run("return globalThis.violations");
        serde_json::from_value(told).expect("the page is watched")
    }
}

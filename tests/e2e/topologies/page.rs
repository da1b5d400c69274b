//! The example's site as a visitor sees it, through the load balancer.

use rolesmith_lab::OUTSIDE;
use rolesmith_tests::Fleet;
use serde_json::Value;

/// The site of a fleet.
pub struct Page<'a> {
    fleet: &'a Fleet,
    host: String,
}

impl<'a> Page<'a> {
    /// That of this fleet.
    pub fn of(fleet: &'a Fleet, name: &str) -> Self {
        let host = format!("shop.{name}.internal");
        Self { fleet, host }
    }

    fn curl(&self, more: &str, path: &str) -> String {
        let host = &self.host;
        self.fleet.must(
            OUTSIDE,
            &format!(
                "curl --silent --show-error --insecure --max-time 20 --resolve {host}:443:10.77.0.2 {more} 'https://{host}{path}'"
            ),
        )
    }

    /// Waits until the load balancer has a node for it, and looks at the page.
    pub fn is_served(&self) {
        self.fleet.must(
            OUTSIDE,
            "timeout 60 sh -c 'until curl --silent --fail --max-time 3 http://10.77.0.2/health; do sleep 0.2; done'",
        );
        let page = self.curl("--include", "/");
        assert!(page.starts_with("HTTP/2 200"), "{page}");
        assert!(page.contains("<!doctype html>"), "{page}");
    }

    /// Places an order, which is committed when this returns.
    pub fn order(&self, id: u32) {
        let body =
            format!(r#"{{"id":"00000000-0000-4000-8000-{id:012}","product":1,"quantity":2}}"#);
        let told = self.curl(
            &format!("--write-out ' %{{http_code}}' --header 'content-type: application/json' --data '{body}'"),
            "/api/orders",
        );
        assert!(told.ends_with(" 201"), "{told}");
    }

    /// How many orders there are.
    pub fn orders(&self) -> u64 {
        let told = self.curl("", "/api/orders/count");
        let value: Value = serde_json::from_str(&told).expect("JSON");
        value["count"].as_u64().unwrap_or_else(|| panic!("{told}"))
    }
}

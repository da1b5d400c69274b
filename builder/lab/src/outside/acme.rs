//! The world's certificate authority: pebble, Let's Encrypt's server for tests (ACME, RFC 8555), as strict and as unreliable as it is
//! by default. It really connects to the names that it is asked to sign for, it waits for random times before it does, and it
//! refuses one nonce in twenty.

use std::net::Ipv4Addr;

use serde_json::json;

use super::files::File;

/// The unit of pebble; Debian's package brings none.
pub(crate) const UNIT: &str = "pebble.service";

/// Where pebble tells who it is, for tests alone: `/roots/0` is the CA that signs what it issues.
const MANAGEMENT: &str = "127.0.0.1:15000";

/// How long its certificates live, in seconds: 90 days, as Let's Encrypt's.
const VALIDITY: u32 = 90 * 86_400;

/// A certificate authority on the machine outside the fleet.
#[derive(Debug, Clone)]
pub struct Authority {
    /// Its own name; every node's `/etc/hosts` gets it.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// The certificate of its own server, with what leads to the CA (PEM).
    pub certificate: String,
    /// The key of that (PEM). Of use in this lab alone.
    pub key: String,
    /// The CA that has signed that certificate (PEM).
    pub ca: String,
    /// Where a node finds the CA, from its root directory.
    pub ca_path: String,
    /// Names that lead to the load balancer, for the authority to look at.
    pub names: Vec<String>,
}

impl Authority {
    /// What it reads, and the lines of the machine's `/etc/hosts` that lead it to the load balancer at this address.
    pub(crate) fn files(&self) -> Vec<File> {
        let file = |path: &str, text: String| File {
            path: path.to_owned(),
            text,
            reload: Some(UNIT),
        };
        let configuration = json!({ "pebble": {
            "listenAddress": format!("0.0.0.0:{}", self.port),
            "managementListenAddress": MANAGEMENT,
            "certificate": "/etc/pebble/server.pem",
            "privateKey": "/etc/pebble/server.key",
            "httpPort": 80,
            "tlsPort": 443,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": VALIDITY,
        } });
        vec![
            file("etc/pebble/server.pem", self.certificate.clone()),
            file("etc/pebble/server.key", self.key.clone()),
            file("etc/pebble/pebble.json", format!("{configuration:#}\n")),
            // A unit without a link is started by who wants it.
            File {
                path: "etc/systemd/system/multi-user.target.d/pebble.conf".to_owned(),
                text: format!("[Unit]\nWants={UNIT}\n"),
                reload: None,
            },
            file(&format!("etc/systemd/system/{UNIT}"), SERVICE.to_owned()),
        ]
    }

    /// Lines of the machine's `/etc/hosts`.
    pub(crate) fn hosts(&self, balancer: Ipv4Addr) -> String {
        let line = |name: &String| format!("{balancer}\t{name}\n");
        self.names.iter().map(line).collect()
    }
}

const SERVICE: &str = "\
[Unit]
Description=Certificate authority of the lab
Documentation=man:pebble(1)
After=network.target

[Service]
ExecStart=/usr/bin/pebble -config /etc/pebble/pebble.json
DynamicUser=yes
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
";

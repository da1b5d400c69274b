//! Who has signed the site's certificates, for the browser and for openssl: the one place that knows.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rolesmith_tests::Fleet;

/// What a node's nginx shows for the site, key and certificate in one file.
const FILE: &str = "/var/lib/rolesmith-edge/sites/shop.pem";

/// What is expected of the site's certificates.
#[derive(Debug)]
pub struct Expected {
    /// The certificates that nodes may show (DER).
    certificates: Vec<Vec<u8>>,
}

impl Expected {
    /// No authority has signed any: each node has one of its own, signed by itself. Where an authority signs, its root is what is expected
    /// instead, in [`Expected::keys`] and [`Expected::judge`].
    pub fn of(fleet: &Fleet, nodes: &[&str]) -> Self {
        let of_node = |node: &&str| {
            let pem = fleet.must(node, &format!("openssl x509 -in {FILE}"));
            openssl(&["x509", "-outform", "DER"], pem.as_bytes())
        };
        Self {
            certificates: nodes.iter().map(of_node).collect(),
        }
    }

    /// SHA-256 of the keys that make a chain good, in base64.
    pub fn keys(&self) -> Vec<String> {
        let hash = |der: &Vec<u8>| {
            let input = ["x509", "-inform", "DER", "-noout", "-pubkey"];
            let key = openssl(&input, der);
            let key = openssl(&["pkey", "-pubin", "-outform", "DER"], &key);
            BASE64_STANDARD.encode(openssl(&["dgst", "-sha256", "-binary"], &key))
        };
        self.certificates.iter().map(hash).collect()
    }

    /// Looks at the chain (DER) that somebody was shown.
    pub fn judge(&self, chain: &[Vec<u8>]) {
        let [own] = chain else {
            panic!("{} certificates, not one signed by itself", chain.len());
        };
        assert!(
            self.certificates.contains(own),
            "a certificate that no node has"
        );
        let told = openssl(
            &[
                "x509", "-inform", "DER", "-noout", "-subject", "-issuer", "-nameopt", "RFC2253",
            ],
            own,
        );
        let told = String::from_utf8(told).expect("text");
        let names: Vec<&str> = told
            .lines()
            .filter_map(|line| Some(line.split_once('=')?.1))
            .collect();
        assert!(
            matches!(names[..], [subject, issuer] if subject == issuer),
            "{told}"
        );
    }
}

/// What openssl(1) on this machine makes of these bytes.
fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl starts");
    let mut stdin = child.stdin.take().expect("was asked for");
    stdin.write_all(input).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "openssl {arguments:?}");
    output.stdout
}

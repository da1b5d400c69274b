//! Who has signed the site's certificates, for the browser and for openssl: the one place that knows.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rolesmith_lab::OUTSIDE;
use rolesmith_tests::Fleet;

use super::HOST;

/// What a node's nginx shows for the site, key and certificates in one file.
const FILE: &str = "/var/lib/rolesmith-edge/sites/shop.pem";
/// Where pebble on the machine outside tells of itself.
const PEBBLE: &str = "https://127.0.0.1:15000";

/// What is expected of the site's certificates.
#[derive(Debug)]
pub enum Expected {
    /// Each node has signed its own; these are they (DER).
    Own(Vec<Vec<u8>>),
    /// The lab's authority has signed them.
    Authority {
        /// Its root (PEM).
        root: String,
        /// What it signs with (DER); servers show it, too.
        intermediate: Vec<u8>,
    },
}

impl Expected {
    /// What fleet.toml asks for: an authority's where it has `[certificates]`, which have to come within some minutes.
    pub fn of(fleet: &Fleet, nodes: &[&str]) -> Self {
        let text = std::fs::read_to_string(fleet.dir.join("fleet.toml")).expect("it is there");
        if text.lines().any(|line| line.trim() == "[certificates]") {
            Self::authority(fleet, nodes)
        } else {
            Self::own(fleet, nodes)
        }
    }

    fn own(fleet: &Fleet, nodes: &[&str]) -> Self {
        let of_node = |node: &&str| {
            let pem = fleet.must(node, &format!("openssl x509 -in {FILE}"));
            openssl(&["x509", "-outform", "DER"], pem.as_bytes())
        };
        Self::Own(nodes.iter().map(of_node).collect())
    }

    fn authority(fleet: &Fleet, nodes: &[&str]) -> Self {
        let field = |name: &str| format!("$(openssl x509 -in {FILE} -noout -{name}_hash)");
        for node in nodes {
            let (subject, issuer) = (field("subject"), field("issuer"));
            fleet.must(
                node,
                &format!("timeout 300 sh -c 'until [ {subject} != {issuer} ]; do sleep 0.5; done'"),
            );
        }
        let ask = |path: &str| {
            let curl = format!("curl --silent --show-error --fail --insecure {PEBBLE}/{path}");
            fleet.must(OUTSIDE, &curl)
        };
        let intermediate = ask("intermediates/0");
        Self::Authority {
            root: ask("roots/0"),
            intermediate: openssl(&["x509", "-outform", "DER"], intermediate.as_bytes()),
        }
    }

    /// SHA-256 of the keys that make a chain good, in base64.
    pub fn keys(&self) -> Vec<String> {
        match self {
            Self::Own(certificates) => certificates.iter().map(|one| key_hash(one)).collect(),
            Self::Authority { intermediate, .. } => vec![key_hash(intermediate)],
        }
    }

    /// Looks at the chain (DER) that somebody was shown.
    pub fn judge(&self, chain: &[Vec<u8>]) {
        match self {
            Self::Own(certificates) => {
                let [own] = chain else {
                    panic!("{} certificates, not one signed by itself", chain.len());
                };
                assert!(certificates.contains(own), "one that no node has");
                verify(&pem(own), chain);
            }
            Self::Authority { root, .. } => verify(root, chain),
        }
    }
}

/// The first certificate of the chain is this host's by way of the others to this authority, as openssl(1) sees it.
fn verify(root: &str, chain: &[Vec<u8>]) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("it can be written");
        path.display().to_string()
    };
    let (first, others) = chain.split_first().expect("a certificate");
    let root = write("root.pem", root);
    let others: String = others.iter().map(|one| pem(one)).collect();
    let mut arguments = vec!["verify", "-no-CApath", "-no-CAstore", "-CAfile", &root];
    let untrusted = write("others.pem", &others);
    if !others.is_empty() {
        // What a node has signed for itself comes alone, and names no site.
        arguments.extend(["-untrusted", &untrusted, "-verify_hostname", HOST]);
    }
    let first = write("first.pem", &pem(first));
    arguments.push(&first);
    openssl(&arguments, b"");
}

fn key_hash(certificate: &[u8]) -> String {
    let key = openssl(
        &["x509", "-inform", "DER", "-noout", "-pubkey"],
        certificate,
    );
    let key = openssl(&["pkey", "-pubin", "-outform", "DER"], &key);
    BASE64_STANDARD.encode(openssl(&["dgst", "-sha256", "-binary"], &key))
}

fn pem(certificate: &[u8]) -> String {
    let text = openssl(&["x509", "-inform", "DER"], certificate);
    String::from_utf8(text).expect("PEM is text")
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
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "openssl {arguments:?}: {said}");
    output.stdout
}

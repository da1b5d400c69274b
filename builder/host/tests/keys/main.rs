//! Secrets, certificates, signatures by the gpg program and the search for leaks. openssl and gpgv are the judges.

mod applications;
mod certificates;
mod gpg;
mod pins;
mod roll_over;
mod scan;
mod secrets;

use std::process::{Command, Output};

use rolesmith_model::ids::{FleetName, NodeName, SecretName};

/// 2026-01-01, Unix seconds.
const NOW: u64 = 1_767_225_600;

fn fleet() -> FleetName {
    FleetName::new("acme").expect("valid")
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("valid")
}

fn secret(name: &str) -> SecretName {
    SecretName::new(name).expect("valid")
}

/// Runs a program with the C locale and returns what it did.
fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Standard output and error together, for messages.
fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

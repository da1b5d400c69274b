//! Running real tools as oracles.

use std::{
    ffi::OsStr,
    io::Write,
    process::{Command, Output, Stdio},
};

/// Whether the tool is there. When it is not, the test is left out with a line on standard error; where CI is set, that
/// is a failure, because nobody would read the line.
pub(crate) fn have(tool: &str) -> bool {
    let found = Command::new(tool)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .is_ok();
    if !found {
        assert!(std::env::var_os("CI").is_none(), "{tool} is not installed");
        let _ = writeln!(std::io::stderr(), "left out: {tool} is not installed");
    }
    found
}

/// Whether this is a sqv that reads cleartext signatures, as Debian 13's apt needs it. Debian 12 has an older one or none,
/// which is no failure: the end-to-end tests let Debian 13's own apt judge in a root tree of that suite.
#[allow(
    dead_code,
    reason = "one of the two tests that share this file needs it"
)]
pub(crate) fn have_sqv(tool: &str) -> bool {
    let help = Command::new(tool)
        .arg("--help")
        .stdin(Stdio::null())
        .output();
    let found = help.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains("--cleartext"));
    if !found {
        let _ = writeln!(
            std::io::stderr(),
            "left out: {tool} is not there, or too old for cleartext signatures"
        );
    }
    found
}

/// Runs a tool in the C locale with no more environment than it needs.
pub(crate) fn run<S: AsRef<OsStr>>(tool: &str, args: impl IntoIterator<Item = S>) -> Output {
    Command::new(tool)
        .args(args)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{tool}: {error}"))
}

/// Runs a tool that must succeed and returns its standard output.
pub(crate) fn ok<S: AsRef<OsStr>>(tool: &str, args: impl IntoIterator<Item = S>) -> Vec<u8> {
    let output = run(tool, args);
    assert!(
        output.status.success(),
        "{tool}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

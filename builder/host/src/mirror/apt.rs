//! apt in a root of its own: none of the machine's packages, lists or preferences show in its answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::error::io_error;
use super::{MirrorError, MirrorRequest, Sources};

/// Variables that reach apt: where its programs are and which proxy to use.
const PASSED_ON: [&str; 9] = [
    "PATH",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "TMPDIR",
    "HOME",
];

/// A private root below the cache directory.
pub(super) struct AptRoot {
    directory: PathBuf,
}

impl AptRoot {
    /// Makes or refreshes the root for a request's suite and sources.
    pub(super) fn prepare(request: &MirrorRequest) -> Result<Self, MirrorError> {
        let MirrorRequest {
            suite,
            architecture,
            sources,
            ..
        } = request;
        for (what, value) in [("code name", suite), ("architecture", architecture)] {
            if value.is_empty() || !value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                return Err(MirrorError::BadValue {
                    what,
                    value: value.clone(),
                });
            }
        }
        let directory = request
            .cache_directory
            .join(format!("apt-{suite}-{architecture}"));
        let root = Self::prepare_in(directory, architecture)?;
        let suites = |uri: &str, suites: &str| -> Result<String, MirrorError> {
            if uri.is_empty() || uri.contains(char::is_whitespace) {
                return Err(MirrorError::BadValue {
                    what: "URI of an archive",
                    value: uri.to_owned(),
                });
            }
            Ok(format!(
                "Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nArchitectures: {architecture}\nSigned-By: {}\n\n",
                sources.keyring.display()
            ))
        };
        let Sources {
            archive,
            security,
            keyring,
        } = sources;
        if !keyring.is_file() {
            return Err(MirrorError::NoKeyring(keyring.clone()));
        }
        let text = suites(archive, &format!("{suite} {suite}-updates"))?
            + &suites(security, &format!("{suite}-security"))?;
        root.write("etc/sources.list.d/debian.sources", &text)?;
        Ok(root)
    }

    /// A root without sources, enough for `apt-helper`.
    pub(super) fn prepare_in(directory: PathBuf, architecture: &str) -> Result<Self, MirrorError> {
        let text = directory.to_str().unwrap_or_default();
        if text.is_empty() || text.contains(['"', ';', '\n', ' ']) {
            let value = directory.to_string_lossy().into_owned();
            return Err(MirrorError::BadValue {
                what: "directory of apt's configuration",
                value,
            });
        }
        let root = Self { directory };
        for part in [
            "etc/apt.conf.d",
            "etc/preferences.d",
            "etc/sources.list.d",
            "state/lists/partial",
            "cache/archives/partial",
            "log",
        ] {
            let path = root.directory.join(part);
            fs::create_dir_all(&path).map_err(io_error("make the directory", &path))?;
        }
        root.write("status", "")?;
        let config = format!(
            "Dir \"{0}/\";\n\
             Dir::Etc \"etc/\";\n\
             Dir::State \"state/\";\n\
             Dir::State::status \"{0}/status\";\n\
             Dir::Cache \"cache/\";\n\
             Dir::Log \"log/\";\n\
             APT::Architecture \"{architecture}\";\n\
             APT::Architectures {{ \"{architecture}\"; }};\n\
             APT::Install-Recommends \"false\";\n\
             APT::Install-Suggests \"false\";\n\
             APT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::GzipIndexes \"false\";\n\
             Acquire::Check-Valid-Until \"true\";\n\
             Acquire::Check-Date \"true\";\n\
             Acquire::Retries \"3\";\n\
             {1}",
            root.directory.display(),
            host_network_settings()?
        );
        root.write("apt.conf", &config)?;
        Ok(root)
    }

    /// Runs a program of apt to its end.
    pub(super) fn run(
        &self,
        program: &'static str,
        arguments: &[String],
    ) -> Result<Output, MirrorError> {
        command(program)
            .args(arguments)
            .env("APT_CONFIG", self.directory.join("apt.conf"))
            .output()
            .map_err(|source| MirrorError::NoApt { program, source })
    }

    pub(super) fn path(&self, relative: &str) -> PathBuf {
        self.directory.join(relative)
    }

    fn write(&self, relative: &str, text: &str) -> Result<(), MirrorError> {
        let path = self.path(relative);
        fs::write(&path, text).map_err(io_error("write", &path))
    }
}

/// Standard output as text; the error output when the program failed.
pub(super) fn successful(output: Output) -> Result<String, String> {
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        let out = String::from_utf8_lossy(&output.stdout);
        Err(if said.trim().is_empty() {
            out.trim().to_owned()
        } else {
            format!("{}\n{}", said.trim(), out.trim()).trim().to_owned()
        })
    }
}

/// The machine's proxy and connection settings for http and https; everything else of its configuration stays outside.
fn host_network_settings() -> Result<String, MirrorError> {
    let program = "apt-config";
    let output = command(program)
        .args(["dump", "Acquire::http", "Acquire::https"])
        .output()
        .map_err(|source| MirrorError::NoApt { program, source })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null());
    for name in PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Where apt keeps the program that downloads single files.
pub(super) const HELPER: &str = "/usr/lib/apt/apt-helper";

/// The packages of the cache, by digest.
pub(super) fn package_path(
    cache_directory: &Path,
    digest: &rolesmith_formats::apt::Sha256,
) -> PathBuf {
    cache_directory
        .join("packages")
        .join(format!("{digest}.deb"))
}

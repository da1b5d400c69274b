//! How this machine reaches package registries, and what of that must never be shown.
//!
//! Package managers get the part of the user's settings that says where registries are and how they are reached. Settings that
//! change what is installed are left out, so that two people get the same tree.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{ServiceError, io_error};
use text::{login_of, named_variables, npm_setting, npmrc_lines};

mod text;

/// npm's settings of connections (npmjs.com, "config"); `cafile` is read here and replaced by one file that has them all.
const CONNECTION: [&str; 18] = [
    "registry",
    "proxy",
    "https-proxy",
    "noproxy",
    "strict-ssl",
    "ca",
    "cert",
    "key",
    "local-address",
    "always-auth",
    "maxsockets",
    "fetch-retries",
    "fetch-retry-factor",
    "fetch-retry-mintimeout",
    "fetch-retry-maxtimeout",
    "fetch-timeout",
    "network-timeout",
    "network-concurrency",
];

/// Variables of other programs that say how the network is reached, and yarn's.
const VARIABLES: [&str; 14] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "YARN_REGISTRY",
    "YARN_NPM_REGISTRY_SERVER",
    "YARN_NPM_AUTH_TOKEN",
    "YARN_NPM_AUTH_IDENT",
    "YARN_NPM_ALWAYS_AUTH",
    "YARN_HTTP_PROXY",
    "YARN_HTTPS_PROXY",
    "YARN_ENABLE_STRICT_SSL",
];

/// Where npm's own settings may be when no variable says it: for Debian's npm, for one below /usr, for one below /usr/local.
const GLOBAL_SETTINGS: [&str; 3] = ["/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc"];

/// Certificates of authorities, as distributions keep them.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What stands for a credential where text is shown.
const HIDDEN: &str = "***";

/// A machine's way to package registries. Made once, from the environment.
#[derive(Clone, Default)]
pub struct Registry {
    /// The environment, for the variables that a project's own settings name.
    environment: BTreeMap<String, String>,
    /// Variables that package managers get.
    variables: BTreeMap<String, String>,
    /// Text of the npmrc that package managers get as the user's.
    npmrc: String,
    /// Files with certificates of authorities.
    authorities: Vec<PathBuf>,
    secrets: BTreeSet<String>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("authorities", &self.authorities)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// Reads what the environment ([`std::env::vars_os`]) and the npmrc files that it leads to say.
    ///
    /// # Errors
    /// [`ServiceError::Io`] for a file that is there and cannot be read.
    pub fn from_environment(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ServiceError> {
        // An empty variable is what a script writes that means none.
        let environment: BTreeMap<String, String> = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let mut this = Self {
            environment,
            ..Self::default()
        };
        let files = this.npmrc_files();
        for file in files {
            match fs::read_to_string(&file) {
                Ok(text) => this.add_npmrc(&text),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) => {}
                Err(error) => return Err(io_error("read", &file)(error)),
            }
        }
        for (name, value) in this.environment.clone() {
            this.add_variable(&name, &value);
        }
        this.tell_yarn_4();
        let named = ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"]
            .into_iter()
            .filter_map(|name| this.environment.get(name));
        let mut authorities: Vec<PathBuf> = named.map(PathBuf::from).collect();
        authorities.extend(
            AUTHORITIES
                .iter()
                .map(PathBuf::from)
                .find(|path| path.is_file()),
        );
        this.authorities.extend(authorities);
        Ok(this)
    }

    /// The files, the one that counts least first.
    fn npmrc_files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = match self.npm_variable("globalconfig") {
            Some(path) => vec![path.into()],
            None => GLOBAL_SETTINGS.iter().map(PathBuf::from).collect(),
        };
        let home = || {
            self.environment
                .get("HOME")
                .map(|home| Path::new(home).join(".npmrc"))
        };
        files.extend(
            self.npm_variable("userconfig")
                .map(PathBuf::from)
                .or_else(home),
        );
        files
    }

    /// The value of one of npm's settings in the environment.
    fn npm_variable(&self, setting: &str) -> Option<&str> {
        let mut all = self.environment.iter();
        all.find(|(name, _)| npm_setting(name).as_deref() == Some(setting))
            .map(|(_, value)| value.as_str())
    }

    fn add_npmrc(&mut self, text: &str) {
        for (key, value) in npmrc_lines(text) {
            let value = self.expanded(value);
            if key == "cafile" {
                self.authorities.push(PathBuf::from(&value));
            }
            let bare = key.trim_end_matches("[]");
            if bare.starts_with("//") || bare.ends_with(":registry") || CONNECTION.contains(&bare) {
                self.note_secrets(key, &value);
                self.npmrc.push_str(&format!("{key}={value}\n"));
            }
        }
    }

    fn add_variable(&mut self, name: &str, value: &str) {
        let setting = npm_setting(name);
        if setting.as_deref() == Some("cafile") {
            self.authorities.push(PathBuf::from(value));
        }
        if VARIABLES.contains(&name)
            || setting.is_some_and(|setting| CONNECTION.contains(&setting.as_str()))
        {
            self.note_secrets(name, value);
            self.variables.insert(name.to_owned(), value.to_owned());
        }
    }

    /// yarn 4 reads neither npm's settings nor the usual variables of proxies.
    fn tell_yarn_4(&mut self) {
        let in_file = |setting: &str| {
            npmrc_lines(&self.npmrc)
                .filter(|(key, _)| *key == setting)
                .last()
                .map(|(_, value)| value.to_owned())
        };
        let npm = |setting: &str| {
            self.npm_variable(setting)
                .map(str::to_owned)
                .or_else(|| in_file(setting))
        };
        let variable = |names: [&str; 2]| {
            names
                .into_iter()
                .find_map(|name| self.environment.get(name).cloned())
        };
        let registry = npm("registry");
        let token = registry.as_deref().and_then(|registry| {
            let place = registry.split_once(':')?.1.trim_end_matches('/');
            in_file(&format!("{place}/:_authToken"))
                .or_else(|| in_file(&format!("{place}:_authToken")))
        });
        let told = [
            ("YARN_NPM_REGISTRY_SERVER", registry),
            ("YARN_NPM_AUTH_TOKEN", token),
            (
                "YARN_HTTP_PROXY",
                npm("proxy").or_else(|| variable(["http_proxy", "HTTP_PROXY"])),
            ),
            (
                "YARN_HTTPS_PROXY",
                npm("https-proxy").or_else(|| variable(["https_proxy", "HTTPS_PROXY"])),
            ),
        ];
        for (name, value) in told {
            if let Some(value) = value {
                self.variables.entry(name.to_owned()).or_insert(value);
            }
        }
    }

    /// `${NAME}` replaced by the environment's value, as npm does it; unknown names stay.
    fn expanded(&self, value: &str) -> String {
        let mut text = value.to_owned();
        for name in named_variables(value) {
            if let Some(value) = self.environment.get(name) {
                text = text.replace(&format!("${{{name}}}"), value);
            }
        }
        text
    }

    fn note_secrets(&mut self, key: &str, value: &str) {
        let key = key.to_ascii_lowercase();
        let names_one = ["auth", "password", "username", "key", "cert"]
            .iter()
            .any(|part| key.contains(part));
        if names_one && !["true", "false"].contains(&value) {
            self.secrets.insert(value.to_owned());
        }
        if let Some(login) = login_of(value) {
            self.secrets.insert(login.to_owned());
            self.secrets.extend(
                login
                    .split_once(':')
                    .map(|(_, password)| password.to_owned()),
            );
        }
    }

    /// The same with what a project's own settings name: values of its `${VARIABLES}`, and credentials that stand there in clear.
    pub(super) fn with_project<'t>(&self, settings: impl IntoIterator<Item = &'t str>) -> Self {
        let mut this = self.clone();
        for text in settings {
            for name in named_variables(text) {
                if let Some(value) = self.environment.get(name) {
                    this.secrets.insert(value.clone());
                    this.variables.insert(name.to_owned(), value.clone());
                }
            }
            for line in text.lines().map(str::trim) {
                let separator = line
                    .find(['=', ':'])
                    .filter(|_| !line.starts_with("//"))
                    .or_else(|| line.find('='));
                if let Some(at) = separator {
                    let value = line[at + 1..].trim().trim_matches(['"', '\'']);
                    this.note_secrets(line[..at].trim(), value);
                }
            }
        }
        this
    }

    /// Variables for package managers.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The user's npmrc for package managers. It may hold credentials.
    pub(super) fn npmrc(&self) -> &str {
        &self.npmrc
    }

    /// All certificates of authorities that the machine and the user trust, as one PEM file.
    pub(super) fn authorities(&self) -> Result<Vec<u8>, ServiceError> {
        let mut pem = Vec::new();
        let mut seen = BTreeSet::new();
        for path in &self.authorities {
            if seen.insert(path) {
                pem.extend(fs::read(path).map_err(io_error("read", path))?);
                pem.push(b'\n');
            }
        }
        if pem.is_empty() {
            Err(ServiceError::NoCertificates)
        } else {
            Ok(pem)
        }
    }

    /// A program's words without the credentials that it was given.
    pub(super) fn redacted(&self, text: &str) -> String {
        let mut secrets: Vec<&String> = self
            .secrets
            .iter()
            .filter(|secret| secret.len() > 3)
            .collect();
        // A longer one may contain a shorter one.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let mut text = text.to_owned();
        for secret in secrets {
            text = text.replace(secret.as_str(), HIDDEN);
        }
        text
    }
}

#[cfg(test)]
mod tests;

//! Which yarn: the project's own file, or the one that it pins.

use std::fs;
use std::path::{Path, PathBuf};

use rolesmith_formats::{compress::Compression, tarball};
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};

use super::cache::Cache;
use super::error::{ServiceError, io_error};
use super::lock_file::Format;
use super::package_json::PACKAGE_JSON;
use super::source::Snapshot;
use crate::atomic;

/// The last release of yarn 1, and the digest that corepack writes for it.
const YARN_1: (&str, &str) = (
    "1.22.22",
    "sha512.a6b2f7906b721bba3d67d4aff083df04dad64c399707841b7acf00f6b133b7ac24255f2652fa22ae3534329dc6180534e98d17432037ff6fd140556e2bb3137e",
);

/// What always works.
const OWN_FILE: &str = "put yarn into the source: `yarn set version VERSION --yarn-path`, and commit .yarnrc.yml and .yarn/releases";

/// A release of yarn, by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Its version, such as `4.9.1`.
    pub version: String,
    /// Algorithm (sha224, sha256, sha384 or sha512), a dot, and the digest, hexadecimal: of the archive for yarn 1, of the program in
    /// it for later ones, as corepack takes it of a registry. Of yarn's own downloads, where it looks first, it is another one.
    pub digest: String,
}

impl Pin {
    /// Reads `yarn@VERSION+ALGORITHM.DIGEST`; the digest of yarn 1's last release is known.
    pub(super) fn parse(text: &str, line: Option<usize>) -> Result<Self, ServiceError> {
        let wrong = |reason: String, help: String| {
            ServiceError::source_says(PACKAGE_JSON, line, reason, help)
        };
        let rest = text.strip_prefix("yarn@").unwrap_or(text);
        let (version, digest) = match rest.split_once('+') {
            Some((version, digest)) => (version, digest),
            None if rest == YARN_1.0 => YARN_1,
            None => {
                let reason = format!("packageManager names {text:?} without its digest");
                return Err(wrong(reason, OWN_FILE.to_owned()));
            }
        };
        // It becomes part of an argument and of a file's name.
        let is_version = !version.is_empty()
            && version
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
        let is_digest = digest.split_once('.').is_some_and(|(algorithm, hex)| {
            digest_with(algorithm, b"").is_some_and(|empty| empty.len() == hex.len())
                && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        if is_version && is_digest {
            let (version, digest) = (version.to_owned(), digest.to_owned());
            return Ok(Self { version, digest });
        }
        Err(wrong(
            format!(
                "packageManager is {text:?}, which is not yarn@VERSION+ALGORITHM.DIGEST with SHA-2"
            ),
            OWN_FILE.to_owned(),
        ))
    }

    fn is_yarn_1(&self) -> bool {
        self.version.starts_with("1.")
    }

    /// What to ask the registry for.
    pub(super) fn spec(&self) -> String {
        let package = if self.is_yarn_1() {
            "yarn"
        } else {
            "@yarnpkg/cli-dist"
        };
        format!("{package}@{}", self.version)
    }

    /// The program's place in the cache.
    pub(super) fn path(&self, cache: &Cache) -> PathBuf {
        cache
            .tools()
            .join(format!("yarn-{}+{}.js", self.version, self.digest))
    }

    /// Takes the program out of the archive that npm has brought, if it is the right one, and puts it into the cache.
    pub(super) fn keep(&self, archive: &Path, cache: &Cache) -> Result<(), ServiceError> {
        let packed = fs::read(archive).map_err(io_error("read", archive))?;
        let wrong = |found: String| ServiceError::WrongTool {
            spec: self.spec(),
            found,
        };
        let name = if self.is_yarn_1() {
            "/package/lib/cli.js"
        } else {
            "/package/bin/yarn.js"
        };
        let program = Compression::Gzip
            .decompress(&packed)
            .and_then(|tar| tarball::read_entries(&tar[..]))
            .map_err(io_error("read", archive))?
            .into_iter()
            .find_map(|entry| match entry.kind {
                tarball::EntryKind::File(content) if entry.path == name => Some(content),
                _ => None,
            })
            .ok_or_else(|| wrong(format!("of an archive without {name}")))?;
        let algorithm = self.digest.split('.').next().unwrap_or_default();
        let signed: &[u8] = if self.is_yarn_1() { &packed } else { &program };
        let found = format!(
            "{algorithm}.{}",
            digest_with(algorithm, signed).unwrap_or_default()
        );
        if found != self.digest {
            return Err(wrong(found));
        }
        let path = self.path(cache);
        atomic::write(&path, &program).map_err(io_error("write", &path))
    }
}

fn digest_with(algorithm: &str, bytes: &[u8]) -> Option<String> {
    let digest = match algorithm {
        "sha224" => Sha224::digest(bytes).to_vec(),
        "sha256" => Sha256::digest(bytes).to_vec(),
        "sha384" => Sha384::digest(bytes).to_vec(),
        "sha512" => Sha512::digest(bytes).to_vec(),
        _ => return None,
    };
    Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The yarn that a source has in itself, where its settings say so.
pub(super) fn vendored(
    snapshot: &Snapshot,
    format: Format,
) -> Result<Option<String>, ServiceError> {
    let (file, key) = match format {
        Format::Yarn1 => (".yarnrc", "yarn-path"),
        Format::Yarn4 => (".yarnrc.yml", "yarnPath:"),
        Format::Npm => return Ok(None),
    };
    let text = snapshot.text(file)?.unwrap_or_default();
    // The last one counts, for yarn as well.
    let named = text.lines().enumerate().filter_map(|(index, line)| {
        let path = line.strip_prefix(key)?.trim().trim_matches(['"', '\'']);
        Some((
            index + 1,
            path.strip_prefix("./").unwrap_or(path).to_owned(),
        ))
    });
    match named.last() {
        None => Ok(None),
        Some((_, path)) if snapshot.has(&path) => Ok(Some(path)),
        Some((line, path)) => Err(ServiceError::source_says(
            file,
            Some(line),
            format!("names {path}, which is not among the service's files"),
            "commit that file, or delete the line",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins() {
        let digest = "0".repeat(56);
        let pin = Pin::parse(&format!("yarn@4.9.1+sha224.{digest}"), None).unwrap();
        assert_eq!(
            (pin.version.as_str(), pin.spec().as_str()),
            ("4.9.1", "@yarnpkg/cli-dist@4.9.1")
        );
        assert_eq!(pin.digest, format!("sha224.{digest}"));
        let known = Pin::parse("yarn@1.22.22", None).unwrap();
        assert_eq!(known.spec(), "yarn@1.22.22");
        assert_eq!(
            Pin::parse(&format!("yarn@1.22.22+{}", known.digest), None).unwrap(),
            known
        );
        for (text, says) in [
            ("yarn@4.9.1", "without its digest"),
            ("yarn@4.9.1+sha1.abc", "is not yarn@VERSION"),
            ("yarn@4.9.1+sha224.abc", "is not yarn@VERSION"),
            (&format!("yarn@../x+sha224.{digest}"), "is not yarn@VERSION"),
            (&format!("yarn@+sha224.{digest}"), "is not yarn@VERSION"),
        ] {
            let error = Pin::parse(text, Some(4)).unwrap_err();
            assert!(
                error.to_string().starts_with("package.json:4: ")
                    && error.to_string().contains(says),
                "{error}"
            );
        }
    }

    #[test]
    fn another_file_of_that_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let mut pin = Pin::parse("yarn@1.22.22", None).unwrap();
        let entries = [
            tarball::Entry::directory("/package", 0o755),
            tarball::Entry::directory("/package/lib", 0o755),
            tarball::Entry::file("/package/lib/cli.js", "program", 0o755),
        ];
        let mut packed = Vec::new();
        tarball::Tree::new(&entries)
            .unwrap()
            .write_to(&mut packed, 1)
            .unwrap();
        let packed = Compression::Gzip.compress(&packed).unwrap();
        let archive = dir.path().join("yarn.tgz");
        fs::write(&archive, &packed).unwrap();
        let error = pin.keep(&archive, &cache).unwrap_err();
        assert!(matches!(error, ServiceError::WrongTool { .. }), "{error}");
        assert!(!pin.path(&cache).exists());
        pin.digest = format!("sha256.{}", digest_with("sha256", &packed).unwrap());
        pin.keep(&archive, &cache).unwrap();
        assert_eq!(fs::read(pin.path(&cache)).unwrap(), b"program");
    }
}

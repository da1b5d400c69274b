//! A small Debian on the disk: three suites in two archives, signed by a key of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rand::SeedableRng as _;
use rolesmith_formats::compress::Compression;
use rolesmith_formats::control::Paragraph;
use rolesmith_formats::deb::{Deb, DebInput, SignedDeb};
use rolesmith_formats::openpgp::{SecretKey, Signer};
use rolesmith_host::mirror::{
    Archive, Closure, MirrorError, MirrorRequest, Progress, Sources, components, fetch,
    forget_others, resolve,
};
use rolesmith_host::publish::{
    Component, Founded, PoolFile, PublishInput, Target, publish, verify,
};

const KEY_CREATED: u64 = 1_704_067_200;

fn key(number: u64) -> SecretKey {
    SecretKey::generate(
        "Test <t@example.org>",
        KEY_CREATED,
        rand::rngs::StdRng::seed_from_u64(number),
    )
    .unwrap()
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn deb(name: &str, version: &str, fields: &[(&str, &str)]) -> SignedDeb {
    let mut control = Paragraph::new();
    control.push("Package", name).unwrap();
    control.push("Version", version).unwrap();
    control.push("Architecture", "amd64").unwrap();
    control
        .push("Maintainer", "Test <test@example.org>")
        .unwrap();
    for (field, value) in fields {
        control.push(*field, value).unwrap();
    }
    control.push("Description", "package of a test").unwrap();
    let input = DebInput {
        control,
        epoch: KEY_CREATED,
        ..DebInput::default()
    };
    Deb::build(&input, Compression::Xz)
        .unwrap()
        .sign(&key(1))
        .unwrap()
}

/// The archives, and what a mirror needs to know of them.
struct Debian {
    directory: tempfile::TempDir,
}

impl Debian {
    fn new() -> Self {
        let debian = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let keyring = key(1).public_key_armored().unwrap();
        fs::write(debian.path("keyring.asc"), keyring).unwrap();
        debian.publish(
            "debian",
            "trixie",
            vec![
                deb("base", "1", &[("Essential", "yes")]),
                deb("init", "1", &[("Priority", "important")]),
                deb(
                    "server",
                    "1:1.0-1+b1",
                    &[
                        ("Depends", "library (>= 1), helper | other-helper"),
                        ("Recommends", "extra"),
                    ],
                ),
                deb("library", "1", &[]),
                deb("helper", "1", &[]),
                deb("other-helper", "1", &[]),
                deb("extra", "1", &[]),
                deb("broken", "1", &[("Depends", "nowhere")]),
            ],
        );
        debian.publish("debian", "trixie-updates", Vec::new());
        debian.publish(
            "security",
            "trixie-security",
            vec![deb("library", "1+deb13u1", &[])],
        );
        debian
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    fn publish(&self, archive: &str, codename: &str, debs: Vec<SignedDeb>) {
        let key = key(1);
        let packages = debs
            .into_iter()
            .map(|deb| PoolFile::Deb(Arc::new(deb)))
            .collect();
        publish_suite(
            &self.path(archive),
            codename,
            vec![Component {
                name: "main".to_owned(),
                packages,
            }],
            &key,
        );
    }

    fn sources(&self) -> Sources {
        let uri = |archive: &str| format!("file:{}", self.path(archive).display());
        Sources {
            archive: uri("debian"),
            security: uri("security"),
            keyring: self.path("keyring.asc"),
        }
    }

    fn request(&self, packages: &[&str]) -> MirrorRequest {
        MirrorRequest {
            suite: "trixie".to_owned(),
            architecture: "amd64".to_owned(),
            packages: packages.iter().map(|name| (*name).to_owned()).collect(),
            cache_directory: self.path("cache"),
            sources: self.sources(),
            epoch: now(),
        }
    }
}

fn publish_suite(root: &Path, codename: &str, components: Vec<Component>, key: &SecretKey) {
    let input = PublishInput {
        codename: codename.to_owned(),
        suite: codename.to_owned(),
        origin: "Debian".to_owned(),
        label: "Debian".to_owned(),
        description: "a test".to_owned(),
        architectures: vec!["amd64".to_owned()],
        components,
        epoch: now(),
        valid_for_seconds: 3600,
        signers: &[key as &dyn Signer],
        also_trusted: Vec::new(),
        founded: Founded::Nothing,
    };
    publish(
        &Target::new(root, root.with_extension("index-cache")),
        &input,
    )
    .unwrap();
}

fn names(closure: &Closure) -> Vec<&str> {
    closure
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect()
}

#[test]
fn the_closure_has_what_is_needed_and_no_more() {
    let debian = Debian::new();
    let closure = resolve(&debian.request(&["server"])).unwrap();
    assert_eq!(
        names(&closure),
        ["base", "helper", "init", "library", "server"]
    );
    let library = &closure.packages[3];
    assert_eq!(
        (library.version.as_str(), library.archive),
        ("1+deb13u1", Archive::Security)
    );
    let server = &closure.packages[4];
    assert_eq!(
        (server.version.as_str(), server.archive),
        ("1:1.0-1+b1", Archive::Main)
    );
    assert_eq!(server.path, "pool/main/s/server/server_1.0-1+b1_amd64.deb");
}

#[test]
fn a_fetched_closure_is_published_and_stays_pinned() {
    let debian = Debian::new();
    let request = debian.request(&["server"]);
    let closure = resolve(&request).unwrap();
    let mut seen: Vec<Progress> = Vec::new();
    assert!(matches!(
        components(&closure, &request.cache_directory),
        Err(MirrorError::NotFetched { .. })
    ));
    fetch(
        &closure,
        &request.sources,
        &request.cache_directory,
        |progress| seen.push(progress),
    )
    .unwrap();
    assert_eq!(seen.first().map(|progress| progress.packages), Some(0));
    let last = *seen.last().unwrap();
    assert_eq!((last.packages, last.bytes), (5, closure.size()));
    assert_eq!((last.of_packages, last.of_bytes), (5, closure.size()));

    // Debian goes on; the lock file does not.
    debian.publish(
        "security",
        "trixie-security",
        vec![deb("library", "1+deb13u2", &[])],
    );
    let pinned = Closure::from_toml(&closure.to_toml()).unwrap();
    assert_eq!(names(&resolve(&request).unwrap()), names(&pinned));
    assert_ne!(resolve(&request).unwrap().packages, pinned.packages);
    let nowhere = Sources {
        archive: "file:/nonexistent".to_owned(),
        security: "file:/nonexistent".to_owned(),
        ..debian.sources()
    };
    fetch(&pinned, &nowhere, &request.cache_directory, |_| {}).unwrap();

    let root = debian.path("fleet");
    let parts = components(&pinned, &request.cache_directory).unwrap();
    let shape: Vec<(&str, usize)> = parts
        .iter()
        .map(|part| (part.name.as_str(), part.packages.len()))
        .collect();
    assert_eq!(shape, [("debian", 4), ("debian-security", 1)]);
    publish_suite(&root, "fleet", parts, &key(2));
    let verified = verify(&root, "fleet").unwrap();
    assert_eq!((verified.packages, verified.faults), (5, vec![]));
    assert!(
        root.join("pool/debian-security/libr/library/library_1+deb13u1_amd64.deb")
            .is_file()
    );

    assert_eq!(
        forget_others(&[&pinned], &request.cache_directory).unwrap(),
        0
    );
    let freed = forget_others(&[], &request.cache_directory).unwrap();
    assert!(freed >= closure.size());
    assert!(matches!(
        components(&pinned, &request.cache_directory),
        Err(MirrorError::NotFetched { .. })
    ));
}

#[test]
fn what_cannot_be_trusted_or_installed_is_told() {
    let debian = Debian::new();
    let unknown = resolve(&debian.request(&["no-such-package"]));
    assert!(
        matches!(&unknown, Err(MirrorError::Unresolvable(text)) if text.contains("no-such-package")),
        "{unknown:?}"
    );
    let broken = resolve(&debian.request(&["broken"]));
    assert!(
        matches!(&broken, Err(MirrorError::Unresolvable(text)) if text.contains("nowhere")),
        "{broken:?}"
    );
    for option in ["--yes", "-o=x", "server=1", "a b", "server*"] {
        let refused = resolve(&debian.request(&[option]));
        assert!(
            matches!(refused, Err(MirrorError::BadValue { .. })),
            "{option}: {refused:?}"
        );
    }
    let missing = MirrorRequest {
        sources: Sources {
            keyring: debian.path("missing.gpg"),
            ..debian.sources()
        },
        ..debian.request(&["server"])
    };
    assert!(matches!(resolve(&missing), Err(MirrorError::NoKeyring(_))));
    fs::write(
        debian.path("keyring.asc"),
        key(2).public_key_armored().unwrap(),
    )
    .unwrap();
    let other_key = resolve(&debian.request(&["server"]));
    assert!(
        matches!(&other_key, Err(MirrorError::Update(_))),
        "{other_key:?}"
    );
}

#[test]
fn a_changed_package_is_not_taken() {
    let debian = Debian::new();
    let request = debian.request(&["server"]);
    let closure = resolve(&request).unwrap();
    let path = debian.path("debian/pool/main/h/helper/helper_1_amd64.deb");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let refused = fetch(&closure, &request.sources, &request.cache_directory, |_| {});
    assert!(
        matches!(
            refused,
            Err(MirrorError::Download(_) | MirrorError::WrongFile { .. })
        ),
        "{refused:?}"
    );
    let left: Vec<_> = fs::read_dir(debian.path("cache/packages"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_cache_that_was_changed_is_noticed() {
    let debian = Debian::new();
    let request = debian.request(&["helper"]);
    let cache = &request.cache_directory;
    let closure = resolve(&request).unwrap();
    fetch(&closure, &request.sources, cache, |_| {}).unwrap();
    let helper = closure
        .packages
        .iter()
        .find(|p| p.name == "helper")
        .unwrap();
    let path = cache.join(format!("packages/{}.deb", helper.sha256));
    let kept = path.with_extension("control");
    components(&closure, cache).unwrap();
    // What is kept beside the package is not taken for the package's own word.
    let good = fs::read_to_string(&kept).unwrap();
    let root = debian.path("fleet");
    fs::write(&kept, good.replace("Package: helper", "Package: elsewhere")).unwrap();
    publish_suite(
        &root,
        "fleet",
        components(&closure, cache).unwrap(),
        &key(2),
    );
    assert!(
        root.join("pool/debian/h/helper/helper_1_amd64.deb")
            .is_file()
    );
    assert_eq!(fs::read_to_string(&kept).unwrap(), good);

    // Nor does a change in the cache reach what is published.
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(verify(&root, "fleet").unwrap().faults, vec![]);
    fs::remove_file(&kept).unwrap();
    let refused = components(&closure, cache);
    assert!(
        matches!(refused, Err(MirrorError::NotFetched { .. })),
        "{refused:?}"
    );
    fetch(&closure, &request.sources, cache, |_| {}).unwrap();
    components(&closure, cache).unwrap();
}

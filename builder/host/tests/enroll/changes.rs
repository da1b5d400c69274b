//! The programs that change a machine, run by the shell against a directory of this test.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Stdio},
};

use proptest::prelude::*;
use rolesmith_formats::seed::{Seed, SeedFile};
use rolesmith_host::enroll::{
    Change, EnrollError, Progress, Remote, RemoteError, apply, changes, installation,
    secret_changes,
};
use rolesmith_model::ids::Suite;

use super::plain_with;

/// This machine's own shell, as ssh would run it.
struct Local;

impl Remote for Local {
    fn run(&self, script: &str) -> Result<String, RemoteError> {
        use std::io::Write as _;
        let mut child = Command::new("sh")
            .arg("-s")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(RemoteError::Run)?;
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(script.as_bytes())
            .map_err(RemoteError::Run)?;
        let output = child.wait_with_output().map_err(RemoteError::Run)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(RemoteError::Failed {
            status: output.status.code(),
            message: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// Whoever runs the tests, by number.
fn owner() -> &'static str {
    let metadata = fs::metadata("/proc/self").expect("procfs");
    Box::leak(format!("{}:{}", metadata.uid(), metadata.gid()).into_boxed_str())
}

fn file(path: &Path, mode: u32, bytes: &[u8]) -> SeedFile {
    SeedFile {
        path: path.display().to_string(),
        mode,
        owner: owner(),
        bytes: bytes.to_vec(),
        secret: mode == 0o600,
    }
}

/// Makes one change and says what it came to.
fn make(change: &Change) -> Progress {
    let mut last = Progress::Begins;
    apply(&Local, std::slice::from_ref(change), |_, progress| {
        last = progress
    })
    .unwrap();
    last
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_file_is_written_once_with_its_mode_and_replaces_whatever_stood_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/it's a \"file\" $HOME");
    let change = Change::file(&file(&path, 0o600, b"one\n"));
    assert_eq!(make(&change), Progress::Changed);
    assert_eq!(
        (fs::read(&path).unwrap(), mode(&path)),
        (b"one\n".to_vec(), 0o600)
    );
    assert_eq!(mode(path.parent().unwrap()), 0o755);
    let parent = path.parent().unwrap();
    let stamps = || {
        let (file, directory) = (fs::metadata(&path), fs::metadata(parent));
        (file.unwrap().ino(), directory.unwrap().modified().unwrap())
    };
    let before = stamps();
    assert_eq!(make(&change), Progress::Unchanged);
    assert_eq!(stamps(), before);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(make(&change), Progress::Changed);
    assert_eq!(mode(&path), 0o600);

    // A link is replaced, not followed.
    let victim = dir.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    fs::remove_file(&path).unwrap();
    symlink(&victim, &path).unwrap();
    assert_eq!(make(&change), Progress::Changed);
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
    assert_eq!(fs::read(&victim).unwrap(), b"untouched");

    let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn what_fails_leaves_nothing_and_stops_what_comes_after() {
    let dir = tempfile::tempdir().unwrap();
    // A directory in the file's place.
    let path = dir.path().join("taken");
    fs::create_dir_all(path.join("x")).unwrap();
    let after = dir.path().join("after");
    let list = [
        Change::file(&file(&path, 0o644, b"1")),
        Change::file(&file(&after, 0o644, b"2")),
    ];
    let mut said = Vec::new();
    let error = apply(&Local, &list, |change, progress| {
        said.push((change.sentence().to_owned(), progress))
    })
    .unwrap_err();
    assert!(
        matches!(&error, EnrollError::Change { sentence, .. } if sentence.contains("taken")),
        "{error}"
    );
    assert_eq!(said.len(), 1);
    assert!(!after.exists());
    let names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["taken"]);
}

#[test]
fn an_interrupted_transfer_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let script = Change::file(&file(&path, 0o600, &[7; 500])).script();
    for end in (0..script.len() - 40).step_by(97) {
        // What the shell makes of half a program is its own affair, as long as it does nothing.
        let _ = Local.run(&script[..end]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "cut at {end}");
    }
    Local.run(&script).unwrap();
    assert_eq!(fs::read(&path).unwrap(), [7; 500]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_bytes_arrive_as_they_are(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        prop_assert_eq!(make(&Change::file(&file(&path, 0o640, &bytes))), Progress::Changed);
        prop_assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn keys_are_added_once_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".ssh/authorized_keys");
    let name = path.to_str().unwrap();
    let key = |body: &str, comment: &str| {
        Change::key(
            name,
            &format!("ssh-ed25519 AAAAC3NzaC1lZDI1{body} {comment}"),
        )
    };
    let ann = key("ann", "ann@example.com");
    assert_eq!(
        ann.sentence(),
        format!("lets the key ann@example.com log in ({name})")
    );
    assert_eq!(make(&ann), Progress::Changed);
    assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
    // The same key under another name, or behind options, is the same key.
    assert_eq!(make(&key("ann", "ann@laptop")), Progress::Unchanged);
    fs::write(
        &path,
        "# people\nfrom=\"10.0.0.0/8\" ssh-ed25519 AAAAC3NzaC1lZDI1bob bob",
    )
    .unwrap();
    assert_eq!(make(&key("bob", "bob")), Progress::Unchanged);
    assert_eq!(make(&ann), Progress::Changed);
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "# people\nfrom=\"10.0.0.0/8\" ssh-ed25519 AAAAC3NzaC1lZDI1bob bob\nssh-ed25519 AAAAC3NzaC1lZDI1ann ann@example.com\n"
    );
}

fn seed() -> Seed {
    let file = |path: &str, secret| SeedFile {
        path: path.to_owned(),
        mode: if secret { 0o600 } else { 0o644 },
        owner: "root:root",
        bytes: b"the-bytes".to_vec(),
        secret,
    };
    Seed {
        fleet: "acme".into(),
        node: "app-1".into(),
        fqdn: "app-1.example.com".into(),
        suite: Suite::Trixie,
        incarnation: 1,
        ssh_port: 22,
        files: vec![
            file("/etc/apt/sources.list.d/acme.sources", false),
            file("/etc/rolesmith/secrets/redis-password", true),
            file("/etc/rolesmith/node.key", true),
            file("/etc/rolesmith/node.json", false),
        ],
        masked_units: vec!["redis-server.service".into(), "pgbouncer.service".into()],
        debconf: vec![
            "postfix postfix/main_mailer_type select No configuration".into(),
            "nginx nginx/installed boolean true".into(),
        ],
        packages: vec!["acme-base".into(), "acme-redis".into()],
        admin_ssh_keys: vec!["ssh-ed25519 AAAAC3 ann".into()],
    }
}

fn sentences(changes: &[Change]) -> Vec<&str> {
    changes.iter().map(Change::sentence).collect()
}

#[test]
fn the_changes_are_those_of_a_seed_in_an_order_that_ends_with_the_identity() {
    let used = plain_with(&[
        (
            "units",
            "active redis-server.service\nenabled redis-server.service",
        ),
        ("packages", "ii  nginx"),
    ]);
    assert_eq!(
        sentences(&changes(&seed(), &used)),
        [
            "names the machine app-1",
            "lets the key ann log in (/root/.ssh/authorized_keys)",
            // Not redis-server.service: somebody uses it.
            "masks pgbouncer.service: the node has an instance of its own",
            // Not what nginx asked: it is installed.
            "answers postfix/main_mailer_type of postfix: No configuration",
            "writes /etc/apt/sources.list.d/acme.sources",
            "writes /etc/rolesmith/secrets/redis-password, which is secret",
            "writes /etc/rolesmith/node.key, which is secret",
            "writes /etc/rolesmith/node.json",
            "reads the package lists (apt-get update)",
        ]
    );
    // Packages that were there before the identity wait for it.
    let installed = plain_with(&[("packages", "ii  rolesmith-agent")]);
    assert_eq!(
        sentences(&changes(&seed(), &installed)).last(),
        Some(&"wakes the agent")
    );
    assert_eq!(
        installation(&seed()).sentence(),
        "installs acme-base acme-redis"
    );
    assert_eq!(
        sentences(&secret_changes(&seed())),
        [
            "writes /etc/rolesmith/secrets/redis-password, which is secret",
            "wakes the agent"
        ]
    );
}

#[test]
fn every_program_is_fit_for_any_posix_shell_and_shows_no_secret() {
    let probe = plain_with(&[]);
    let mut all = changes(&seed(), &probe);
    all.push(installation(&seed()));
    all.extend(secret_changes(&seed()));
    for change in &all {
        for shell in ["dash", "bash"] {
            let mut child = Command::new(shell)
                .args(["-n", "-s"])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), change.script().as_bytes())
                .unwrap();
            assert!(
                child.wait().unwrap().success(),
                "{shell}: {}",
                change.sentence()
            );
        }
        let shown = format!("{change:?} {}", change.sentence());
        assert!(
            !shown.contains("dGhlLWJ5dGVz") && !shown.contains("the-bytes"),
            "{shown}"
        );
    }
}

use std::os::unix::fs::symlink;

use super::*;

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn shipped(dir: &Path) -> Vec<String> {
    let snapshot = Snapshot::read(dir).unwrap();
    snapshot
        .shipped()
        .into_iter()
        .map(|entry| entry.path)
        .collect()
}

#[test]
fn a_program_is_shipped_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            ("run", "#!/bin/sh"),
            (".hidden", ""),
            ("node_modules/mine", ""),
            (".yarn/x", ""),
            (".git/config", ""),
            ("lib/.gitignore", ""),
            ("lib/.env", "PASSWORD=x"),
            (".env.production", ""),
            ("environment", ""),
        ],
    );
    assert_eq!(
        shipped(dir.path()),
        [
            ".hidden",
            ".yarn/x",
            "environment",
            "node_modules/mine",
            "run"
        ]
    );
}

#[test]
fn of_a_node_program_what_package_managers_make_and_read_stays_here() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            ("package.json", "{}"),
            ("yarn.lock", ""),
            ("server.js", ""),
            (".npmrc", "//r/:_authToken=secret"),
            (".yarnrc.yml", ""),
            ("packages/a/.npmrc", ""),
            (".pnp.cjs", ""),
            (".yarn/cache/x.zip", ""),
            (".yarn/releases/yarn-4.cjs", ""),
            ("node_modules/x/index.js", ""),
            ("packages/a/node_modules/x/index.js", ""),
        ],
    );
    assert_eq!(
        shipped(dir.path()),
        ["package.json", "server.js", "yarn.lock"]
    );
    let snapshot = Snapshot::read(dir.path()).unwrap();
    let given = |whole| {
        let entries = snapshot.for_manager(whole).into_iter();
        entries.map(|entry| entry.path).collect::<Vec<_>>()
    };
    let always = [
        ".npmrc",
        ".yarn/releases/yarn-4.cjs",
        ".yarnrc.yml",
        "package.json",
        "yarn.lock",
    ];
    assert_eq!(given(false), always);
    assert_eq!(given(true).len(), always.len() + 2, "{:?}", given(true));
}

#[test]
fn the_ignore_file_takes_out_and_brings_back() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            (
                IGNORE_FILE,
                "# not on nodes\n/test/\n*.md\n!LICENSE.md\n!.env.example\npackage.json\n",
            ),
            ("package.json", "{}"),
            ("LICENSE.md", ""),
            ("README.md", ""),
            ("test/a.js", ""),
            ("lib/test/b.js", ""),
            (".env", ""),
            (".env.example", ""),
        ],
    );
    assert_eq!(
        shipped(dir.path()),
        [".env.example", "LICENSE.md", "lib/test/b.js"]
    );
    let snapshot = Snapshot::read(dir.path()).unwrap();
    assert_eq!(snapshot.text("package.json").unwrap(), Some("{}"));
    write(dir.path(), &[(IGNORE_FILE, "ok\n[z-a]\n")]);
    let error = Snapshot::read(dir.path()).unwrap_err();
    assert_eq!(error.place(), Some((Path::new(IGNORE_FILE), Some(2))));
}

#[test]
fn the_digest_is_of_paths_bytes_and_the_right_to_run() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let digest = |dir: &Path| Snapshot::read(dir).unwrap().digest();
    let mode = |dir: &Path, mode| {
        fs::set_permissions(dir.join("a"), fs::Permissions::from_mode(mode)).unwrap()
    };
    for dir in [&one, &two] {
        write(dir.path(), &[("a", "1"), ("b/c", "2")]);
        symlink("b/c", dir.path().join("link")).unwrap();
    }
    mode(one.path(), 0o666);
    mode(two.path(), 0o600);
    let before = digest(one.path());
    assert_eq!(before, digest(two.path()));
    mode(two.path(), 0o700);
    assert_ne!(before, digest(two.path()));
    mode(two.path(), 0o600);
    write(two.path(), &[("a", "3")]);
    assert_ne!(before, digest(two.path()));
    write(two.path(), &[("a", "1")]);
    fs::rename(two.path().join("b"), two.path().join("d")).unwrap();
    assert_ne!(before, digest(two.path()));
}

#[test]
fn what_no_package_can_hold_is_refused_unless_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |says: &str| {
        let error = Snapshot::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    fs::write(dir.path().join("new\nline"), "").unwrap();
    refused("\"new\\nline\" has a name that no Debian package can hold");
    fs::remove_file(dir.path().join("new\nline")).unwrap();
    symlink("/etc/passwd", dir.path().join("link")).unwrap();
    refused("link is a symbolic link to /etc/passwd, which leads out");
    write(dir.path(), &[(IGNORE_FILE, "link\n")]);
    assert_eq!(shipped(dir.path()), [""; 0]);
    let socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    refused("socket is neither a file");
    drop(socket);
    let nothing = Snapshot::read(&dir.path().join("nothing")).unwrap_err();
    assert!(matches!(nothing, ServiceError::NoSource(_)));
}

//! Where scripts are run: another root (DPKG_ROOT), and stand-ins that write down how they were called.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rolesmith_formats::deb::Scripts;

/// Programs that scripts call and that are not to do their work here.
const STAND_INS: [&str; 7] = [
    "deb-systemd-helper",
    "deb-systemd-invoke",
    "record",
    "sysctl",
    "systemctl",
    "systemd-sysusers",
    "systemd-tmpfiles",
];

/// All else that scripts may call: essential, so that a postrm can rely on them (Policy 7.2).
const ESSENTIAL: [&str; 4] = ["mkdir", "mv", "rm", "rmdir"];

/// `was-enabled` says no when the test wants it to.
const STAND_IN: &str = r#"#!/bin/sh
name=${0##*/}
[ "$name" = record ] && { echo "$*" >>"$STAGE/calls"; exit 0; }
echo "$name $*" >>"$STAGE/calls"
case "$*" in *was-enabled*) [ ! -e "$DPKG_ROOT/disabled" ] ;; esac
"#;

pub(crate) struct Stage {
    dir: tempfile::TempDir,
}

impl Stage {
    /// Writes the scripts and has sh read each of them.
    pub(crate) fn new(scripts: &Scripts) -> Self {
        let stage = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for dir in ["root", "bin", "scripts"] {
            fs::create_dir(stage.path(dir)).unwrap();
        }
        for name in STAND_INS {
            stage.program(&format!("bin/{name}"), STAND_IN);
        }
        for name in ESSENTIAL {
            symlink(
                Path::new("/usr/bin").join(name),
                stage.path(&format!("bin/{name}")),
            )
            .unwrap();
        }
        for (name, text) in scripts.iter() {
            stage.program(&format!("scripts/{name}"), text);
            let read = Command::new("sh")
                .arg("-n")
                .arg(stage.path(&format!("scripts/{name}")))
                .output()
                .unwrap();
            assert!(
                read.status.success(),
                "{name}: {}",
                String::from_utf8_lossy(&read.stderr)
            );
        }
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The other root.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// Only what every Debian machine has is left.
    pub(crate) fn take_stand_ins_away(&self) {
        for name in STAND_INS.iter().filter(|name| **name != "record") {
            fs::remove_file(self.path(&format!("bin/{name}"))).unwrap();
        }
    }

    /// Runs a script; gives its exit status and what it said on both streams.
    pub(crate) fn run(&self, script: &str, arguments: &[&str]) -> (i32, String) {
        let output = Command::new("/bin/sh")
            .arg(self.path("scripts").join(script))
            .args(arguments)
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("STAGE", self.dir.path())
            .env("DPKG_ROOT", self.root())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// As [`Stage::run`]; the script has to succeed in silence, because dpkg's user would see what it says.
    pub(crate) fn must(&self, script: &str, arguments: &[&str]) {
        let (code, said) = self.run(script, arguments);
        assert!(
            code == 0 && said.is_empty(),
            "{script} {arguments:?}: {code}\n{said}"
        );
    }

    /// How the stand-ins were called, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Regular files in the other root, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        fn walk(root: &Path, dir: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(root, &path, found);
                } else {
                    found.push(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.root(), &self.root(), &mut found);
        found.sort();
        found
    }

    /// A file in the other root.
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }

    /// Puts a file into the other root.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

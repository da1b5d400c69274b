//! A root tree of a suite with that suite's own tools, and commands in a throw-away copy of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rolesmith_tests::{need_root, work_dir};

/// Raised when the trees are to be made anew.
const RECIPE: &str = "1";

/// The judges, and what the fleet's maintainer scripts call.
const PACKAGES: [&str; 5] = [
    "debsig-verify",
    "lintian",
    "procps",
    "shellcheck",
    "systemd",
];

/// In a mount namespace and a process namespace of its own: the tree below an overlay in memory. It is gone with its last
/// process, however that ends.
const ENTER: &str = r#"
set -e
scratch=$1 tree=$2 script=$3
shift 3
mount -t tmpfs -o mode=0755 none "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay -o "lowerdir=$tree,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$scratch/root"
mount -t proc proc "$scratch/root/proc"
mount --rbind /dev "$scratch/root/dev"
mount -t tmpfs -o mode=1777 none "$scratch/root/tmp"
while [ "$#" -gt 0 ]; do
    mkdir -p "$scratch/root$2"
    mount --bind "$1" "$scratch/root$2"
    mount -o remount,bind,ro "$scratch/root$2"
    shift 2
done
exec chroot "$scratch/root" /bin/sh -c "exec 2>&1
$script"
"#;

/// A suite's tools.
pub struct Suite {
    tree: PathBuf,
}

impl Suite {
    /// The tools of that suite; half a minute the first time.
    pub fn tools(name: &str) -> Self {
        need_root();
        let trees = work_dir().join("trees");
        let tree = trees.join(format!("tools-{name}-{RECIPE}-{}", PACKAGES.join("-")));
        if !tree.exists() {
            fs::create_dir_all(&trees).expect("a directory can be made");
            let half = trees.join(format!(".building-tools-{name}"));
            if half.exists() {
                fs::remove_dir_all(&half).expect("a half-built tree can be removed");
            }
            let log = trees.join(format!("tools-{name}.log"));
            let said = fs::File::create(&log).expect("a log can be written");
            let status = Command::new("mmdebstrap")
                .args(["--mode=root", "--variant=apt"])
                .arg(format!("--include={}", PACKAGES.join(",")))
                .arg(name)
                .arg(&half)
                .stdin(Stdio::null())
                .stdout(said.try_clone().expect("a log has one more descriptor"))
                .stderr(said)
                .status()
                .expect("mmdebstrap starts: run `builder/setup test`");
            assert!(status.success(), "mmdebstrap failed, see {}", log.display());
            fs::rename(&half, &tree).expect("a tree can be renamed");
        }
        Self { tree }
    }

    /// Runs a shell script as root in a copy of the tree; `shown` are directories of this machine and where the script finds
    /// them, read-only. Gives whether it succeeded, and what it printed on both streams.
    pub fn run(&self, shown: &[(&Path, &str)], script: &str) -> (bool, String) {
        let scratch = tempfile::tempdir().expect("a directory can be made");
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "--pid",
                "--fork",
                "--kill-child",
            ])
            .args(["sh", "-c", ENTER, "enter"])
            .arg(scratch.path())
            .arg(&self.tree)
            .arg(script)
            .env_clear()
            .envs([
                ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                ("LC_ALL", "C.UTF-8"),
                ("HOME", "/tmp"),
                ("DEBIAN_FRONTEND", "noninteractive"),
            ])
            .stdin(Stdio::null());
        for (from, to) in shown {
            command.arg(from).arg(to);
        }
        let output = command.output().expect("unshare starts");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    /// As [`Suite::run`]; the script has to succeed.
    pub fn must(&self, shown: &[(&Path, &str)], script: &str) -> String {
        let (success, text) = self.run(shown, script);
        assert!(success, "{script}\n{text}");
        text
    }
}

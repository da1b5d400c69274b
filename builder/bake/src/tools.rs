//! The tools tree: what writes file systems, boot loaders and disks, from one Debian release, so that every machine writes the same
//! bytes. bookworm's mke2fs (1.47.0) reads no tar archives; trixie's does.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rolesmith_host::atomic;

use crate::{
    cache::{Cache, Key, remove},
    error::{BakeError, Result},
    program::{self, command, is_root},
};

/// The release that the tools come from.
const SUITE: &str = "trixie";
/// Raised when the tree is made in another way.
const RECIPE: u32 = 1;
/// What is in it.
const PACKAGES: [&str; 14] = [
    "base-files",
    "coreutils",
    "dash",
    "dosfstools",
    "e2fsprogs",
    "grub-common",
    "grub-efi-amd64-bin",
    "grub-pc-bin",
    "gzip",
    "libarchive13t64",
    "libc-bin",
    "mtools",
    "qemu-utils",
    "sed",
];

/// The tools, ready to run.
#[derive(Debug, Clone)]
pub struct Tools {
    root: PathBuf,
    /// Their versions, for the manifest and for keys of what they make.
    pub versions: Vec<(String, String)>,
}

/// The tools tree, made where there is none; `making` is called before.
///
/// # Errors
/// [`BakeError`].
pub fn ensure(cache: &Cache, making: impl FnOnce()) -> Result<Tools> {
    let mut key = Key::new("tools", RECIPE);
    key.add(SUITE);
    PACKAGES.iter().for_each(|package| key.add(package));
    let root = cache.path(&format!("tools-{}", key.finish()));
    if !root.join("versions").exists() {
        making();
        remove(&root)?;
        let half = atomic::temp_beside(&root);
        let made = make(&half);
        if let Err(error) = made {
            let _ = remove(&half);
            return Err(error);
        }
        fs::rename(&half, &root).map_err(BakeError::file("rename", &half))?;
    }
    let path = root.join("versions");
    let text = fs::read_to_string(&path).map_err(BakeError::file("read", &path))?;
    let versions = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect();
    Ok(Tools { root, versions })
}

fn make(half: &Path) -> Result<()> {
    let tree = half.join("root");
    fs::create_dir_all(&tree).map_err(BakeError::file("make", &tree))?;
    let archive = half.join("tools.tar");
    let mut mmdebstrap = command("mmdebstrap");
    mmdebstrap
        .arg("--quiet")
        .arg(if is_root() {
            "--mode=root"
        } else {
            "--mode=unshare"
        })
        .args(["--variant=extract", "--skip=output/dev"])
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(SUITE)
        .arg(&archive);
    program::run("mmdebstrap", &mut mmdebstrap, None)?;
    // As the caller's own files: nothing in it needs another owner.
    let mut tar = command("tar");
    tar.args(["--no-same-owner", "--extract", "--file"])
        .arg(&archive);
    tar.arg("--directory").arg(&tree);
    program::run("tar", &mut tar, None)?;
    remove(&archive)?;
    for place in ["dev", "proc", "tmp", "work", "layers"] {
        let place = tree.join(place);
        fs::create_dir_all(&place).map_err(BakeError::file("make", &place))?;
    }
    let tools = Tools {
        root: half.to_owned(),
        versions: Vec::new(),
    };
    let versions = tools.judge()?;
    let path = half.join("versions");
    fs::write(&path, versions).map_err(BakeError::file("write", &path))?;
    // What the name promises must be on the disk before the name is.
    let synced = fs::File::open(half).and_then(|tree| Ok(rustix::fs::syncfs(tree)?));
    synced.map_err(BakeError::file("write", half))
}

impl Tools {
    /// A tool that sees its tree, a directory to work in as `/work`, a directory with layers as `/layers`, and nothing else of this
    /// machine: no network, no clock but `epoch` where it honours SOURCE_DATE_EPOCH.
    pub fn command(&self, program: &str, work: &Path, layers: &Path, epoch: u64) -> Command {
        let mut bwrap = command("bwrap");
        bwrap.args(["--unshare-all", "--die-with-parent", "--ro-bind"]);
        bwrap.arg(self.root.join("root")).arg("/");
        bwrap.args([
            "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--bind",
        ]);
        bwrap.arg(work).arg("/work");
        bwrap.arg("--ro-bind").arg(layers).arg("/layers");
        bwrap.args(["--chdir", "/work", "--clearenv"]);
        for (name, value) in [
            ("PATH", "/usr/sbin:/usr/bin"),
            ("LC_ALL", "C.UTF-8"),
            ("TZ", "UTC0"),
            // mke2fs complains of time zones and of nothing else here; mtools would judge the size of a disk that is none.
            ("MTOOLS_SKIP_CHECK", "1"),
        ] {
            bwrap.args(["--setenv", name, value]);
        }
        bwrap.args(["--setenv", "SOURCE_DATE_EPOCH", &epoch.to_string()]);
        bwrap.args(["--", program]);
        bwrap
    }

    /// A file of the tree.
    #[must_use]
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join("root").join(path)
    }

    /// Sees that the tools are still those that the tree was made with: an image is known by their versions.
    ///
    /// # Errors
    /// [`BakeError::Unfit`].
    pub fn check(&self) -> Result<()> {
        let unfit = |program, reason: &str| BakeError::Unfit {
            program,
            reason: format!("{reason} (the tree is {})", self.root.display()),
        };
        let now = self.judge().map_err(|error| match error {
            BakeError::Unfit { program, reason } => unfit(program, &reason),
            other => other,
        })?;
        for line in now.lines() {
            let same =
                |(program, version): &(String, String)| line == format!("{program} {version}");
            let programs = ["mke2fs", "mkfs.vfat", "mcopy", "grub-mkimage", "qemu-img"];
            let program = programs.into_iter().find(|name| line.starts_with(name));
            if !self.versions.iter().any(same) {
                let reason =
                    format!("now it is {line}, which was not noted when the tree was made");
                return Err(unfit(program.unwrap_or("a tool"), &reason));
            }
        }
        Ok(())
    }

    /// Versions, a line each, of the tools on whose work the bytes of an image depend.
    fn judge(&self) -> Result<String> {
        let work = self.root.join("root/tmp");
        let mut text = String::new();
        for (program, option) in [
            ("mke2fs", "-V"),
            ("mkfs.vfat", "--help"),
            ("mcopy", "--version"),
            ("grub-mkimage", "--version"),
            ("qemu-img", "--version"),
        ] {
            // mke2fs and mkfs.vfat say it on standard error.
            let script = format!("{program} {option} 2>&1 || true");
            let mut shell = self.command("sh", &work, &work, 0);
            let said = program::run(program, shell.args(["-c", &script]), None)?;
            let said = String::from_utf8_lossy(&said);
            let version = said
                .split(|c: char| c.is_whitespace() || c == ',' || c == '(' || c == ')')
                .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()));
            let version = version.map(|word| word.trim_end_matches('.').to_owned());
            let version = match (program, version) {
                (_, Some(version)) => version,
                // Its help names no version; it changes with mke2fs's release.
                ("mkfs.vfat", None) => continue,
                (program, None) => {
                    return Err(BakeError::Unfit {
                        program: match program {
                            "mke2fs" => "mke2fs",
                            "mcopy" => "mcopy",
                            "grub-mkimage" => "grub-mkimage",
                            _ => "qemu-img",
                        },
                        reason: format!("it does not say its version: {}", said.trim()),
                    });
                }
            };
            if program == "mke2fs" {
                reads_archives(&version)?;
            }
            text.push_str(&format!("{program} {version}\n"));
        }
        let library = self.file("usr/lib/x86_64-linux-gnu/libarchive.so.13");
        if !library.exists() {
            return Err(BakeError::Unfit {
                program: "mke2fs",
                reason: "libarchive, with which it reads tar archives, is not there".into(),
            });
        }
        Ok(text)
    }
}

/// mke2fs reads archives from 1.47.1 on (its release notes).
fn reads_archives(version: &str) -> Result<()> {
    let numbers: Vec<u32> = version.split('.').filter_map(|n| n.parse().ok()).collect();
    if numbers.as_slice() >= [1, 47, 1].as_slice() {
        Ok(())
    } else {
        Err(BakeError::Unfit {
            program: "mke2fs",
            reason: format!("it is {version}, and reads tar archives from 1.47.1 on"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_mke2fs_is_refused() {
        for old in ["1.47.0", "1.46.2", "1"] {
            assert!(matches!(reads_archives(old), Err(BakeError::Unfit { .. })));
        }
        for fit in ["1.47.1", "1.47.2", "1.48", "2.0.0"] {
            assert!(reads_archives(fit).is_ok(), "{fit}");
        }
    }
}

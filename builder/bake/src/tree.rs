//! Root trees as tar archives: Debian, and the roles on top.
//!
//! mmdebstrap makes both, in namespaces in which the caller is root. What is done to the trees is done by two
//! shell scripts beside this file, which run on this machine with the tree's directory as their argument.

use std::{
    fs::{self, File},
    io::{self, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::Command,
};

use rolesmith_formats::gpt::Guid;
use rolesmith_host::atomic;
use rolesmith_model::image::Image;

use crate::{
    cache::{Key, remove},
    error::{BakeError, Result},
    program::{self, command, is_root},
};

/// Raised when what is done to a tree changes, so that layers made before are made anew.
pub const RECIPE: u32 = 3;

/// Before anything but the essential packages is installed.
const EARLY: &str = include_str!("tree/early.sh");
/// After Debian is installed.
const BASE: &str = include_str!("tree/base.sh");
/// Before the roles are installed.
const PREPARE: &str = include_str!("tree/prepare.sh");
/// After everything is installed.
const SEAL: &str = include_str!("tree/seal.sh");

/// What of packages is left out, as dpkg(1) has it: manuals, translations, and boot loaders for what is no disk. Licences stay.
const EXCLUDED: [&str; 14] = [
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/lib/grub/x86_64-efi/monolithic/*",
    "path-exclude=/usr/lib/grub/x86_64-efi-signed/gcdx64*",
    "path-exclude=/usr/lib/grub/x86_64-efi-signed/grubnetx64*",
    "path-exclude=/usr/share/grub/ascii.pf2",
    "path-exclude=/usr/share/grub/euro.pf2",
    "path-exclude=/usr/share/bug/*",
    "path-exclude=/usr/share/doc-base/*",
];

/// Where packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// apt's sources (deb822 style), with keys in them, and nothing else.
    Sources(String),
    /// What this machine's apt is configured for.
    Host,
}

/// What the scripts have to know of an image.
#[derive(Debug, Clone)]
pub struct Seal<'a> {
    /// The image.
    pub image: &'a Image,
    /// Of the root file system.
    pub root: Guid,
    /// Serial number of the EFI system partition's file system.
    pub esp: u32,
    /// apt's sources that the finished image has beside the fleet's own.
    pub sources: Option<&'a str>,
}

impl Seal<'_> {
    /// The script with all that goes into it.
    fn script(&self) -> String {
        let image = self.image;
        let consoles = image.consoles.iter();
        let arguments: Vec<String> = consoles
            .map(|console| format!("console={console}"))
            // Interfaces are called eth0, eth1, ... in the order of their slots, as fleet.toml calls them.
            .chain(["net.ifnames=0".to_owned()])
            .collect();
        assignments(&[
            ("root_uuid", &self.root.to_string()),
            (
                "esp_uuid",
                &format!("{:04X}-{:04X}", self.esp >> 16, self.esp & 0xffff),
            ),
            ("data_sources", &image.data_sources.join(", ")),
            ("locales", &image.locales.join(" ")),
            ("kernel_arguments", &arguments.join(" ")),
            ("sources", self.sources.unwrap_or_default()),
        ]) + SEAL
    }

    /// Adds everything that the outcome depends on.
    pub fn key(&self, key: &mut Key) {
        key.add(self.script());
    }
}

/// Lines of a shell script that set variables.
fn assignments(variables: &[(&str, &str)]) -> String {
    let quoted = |value: &str| value.replace('\'', r"'\''");
    let lines = variables
        .iter()
        .map(|(name, value)| format!("{name}='{}'\n", quoted(value)));
    lines.collect()
}

/// Everything that Debian's tree depends on, beside what the archive has.
pub fn base_key(key: &mut Key, suite: &str, packages: &[String]) {
    key.add(RECIPE.to_string());
    key.add(suite);
    key.add(early(packages));
    key.add(BASE);
    packages.iter().for_each(|package| key.add(package));
}

fn early(packages: &[String]) -> String {
    let kernel = packages
        .iter()
        .find(|name| name.starts_with("linux-image-"));
    let kernel = kernel.map_or("", String::as_str);
    assignments(&[("kernel", kernel), ("excluded", &EXCLUDED.join("\n"))]) + EARLY
}

/// Writes Debian's tree.
///
/// # Errors
/// [`crate::BakeError`], with mmdebstrap's words.
pub fn base(
    suite: &str,
    packages: &[String],
    origin: &Origin,
    epoch: u64,
    to: &Path,
) -> Result<()> {
    let scratch = scratch(to)?;
    let mut mmdebstrap = mmdebstrap(epoch, &scratch);
    mmdebstrap
        .arg("--variant=apt")
        .arg(format!("--include={}", packages.join(",")))
        // The essential packages are unpacked before there is a configuration of dpkg.
        .args(EXCLUDED.map(|option| format!("--dpkgopt={option}")))
        .arg(format!("--essential-hook={}", early(packages)))
        .arg(format!("--customize-hook={BASE}"));
    finish(mmdebstrap, suite, origin, &scratch, to)?;
    add_dev(to, epoch).map_err(BakeError::file("write", to))
}

/// Packages of the fleet to install, and what a fresh machine is told before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles {
    /// The packages.
    pub packages: Vec<String>,
    /// Units to mask.
    pub masked: Vec<String>,
    /// Answers for debconf-set-selections(1).
    pub debconf: Vec<String>,
}

impl Roles {
    /// Those of an image.
    #[must_use]
    pub fn of(image: &Image) -> Self {
        Self {
            packages: image
                .fleet_packages
                .iter()
                .map(ToString::to_string)
                .collect(),
            masked: image.masked_units.clone(),
            debconf: image.debconf.clone(),
        }
    }

    fn script(&self) -> String {
        assignments(&[
            ("masked", &self.masked.join(" ")),
            ("debconf", &self.debconf.join("\n")),
        ]) + PREPARE
    }

    /// Adds everything that the outcome depends on, but for the packages' bytes.
    pub fn key(&self, key: &mut Key) {
        key.add(self.script());
        self.packages.iter().for_each(|package| key.add(package));
    }
}

/// Writes the tree with roles on top of Debian's, sealed: nothing in it is a machine's own.
///
/// # Errors
/// [`crate::BakeError`].
pub fn roles(
    suite: &str,
    base: &Path,
    roles: &Roles,
    seal: &Seal<'_>,
    origin: &Origin,
    epoch: u64,
    to: &Path,
) -> Result<()> {
    let scratch = scratch(to)?;
    let mut mmdebstrap = mmdebstrap(epoch, &scratch);
    mmdebstrap
        .arg("--variant=custom")
        .arg(format!("--setup-hook=tar-in {} /", shell_word(base)))
        .arg(format!("--setup-hook={}", roles.script()));
    if !roles.packages.is_empty() {
        mmdebstrap.arg(format!("--include={}", roles.packages.join(",")));
    }
    mmdebstrap.arg(format!("--customize-hook={}", seal.script()));
    finish(mmdebstrap, suite, origin, &scratch, to)?;
    add_dev(to, epoch).map_err(BakeError::file("write", to))
}

/// Adds the empty directory /dev, which mmdebstrap leaves out together with the devices in it: the kernel's are mounted there.
fn add_dev(tree: &Path, epoch: u64) -> io::Result<()> {
    let mut end = 0;
    for entry in tar::Archive::new(File::open(tree)?).entries_with_seek()? {
        let entry = entry?;
        end = entry.raw_file_position() + entry.size().next_multiple_of(512);
    }
    let mut file = File::options().write(true).open(tree)?;
    // What follows the last entry are zeros.
    file.set_len(end)?;
    file.seek(SeekFrom::End(0))?;
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(epoch);
    let mut builder = tar::Builder::new(file);
    builder.append_data(&mut header, "./dev/", io::empty())?;
    builder.into_inner()?.sync_all()
}

fn shell_word(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

/// Memory that has to be free for a tree in memory, in KiB.
const MEMORY: u64 = 4 << 20;

/// Runs mmdebstrap in the namespaces, with the tree in memory where `$1` says so: that takes half the time, and whatever happens leaves
/// nothing behind. The caller's umask does not show in what is made.
const INSIDE: &str = r#"set -eu
umask 022
if [ "$1" = memory ]; then mount -t tmpfs -o size=90%,mode=0755 tmpfs "$TMPDIR"; fi
shift
exec mmdebstrap "$@"
"#;

/// mmdebstrap in namespaces of its own, in which the caller is root: without root's rights that is a user namespace with the user's
/// subordinate ids, as mmdebstrap would make one by itself, but one in which the user's own files can be read. With the first process
/// everything in them ends, the mounts too.
fn mmdebstrap(epoch: u64, scratch: &Path) -> Command {
    let mut mmdebstrap = command("unshare");
    if !is_root() {
        mmdebstrap.args(["--map-auto", "--map-root-user"]);
    }
    mmdebstrap.args([
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
        "sh",
        "-c",
        INSIDE,
        "sh",
        if free_memory() >= MEMORY {
            "memory"
        } else {
            "disk"
        },
    ]);
    mmdebstrap.env("TMPDIR", scratch);
    mmdebstrap.env("SOURCE_DATE_EPOCH", epoch.to_string());
    mmdebstrap.args([
        "--mode=root",
        "--format=tar",
        // The kernel fills /dev by itself, and a user may not make devices.
        "--skip=output/dev",
        // Only where the network is one's own may /sys be mounted, and no package asks for it.
        "--skip=chroot/mount/sys",
        "--aptopt=Acquire::Retries \"3\"",
        "--aptopt=APT::Install-Recommends \"false\"",
        // Nobody answers; what is not answered before takes its default.
        "--dpkgopt=force-confdef",
        "--dpkgopt=force-confold",
        // One that is killed has to begin anew: what it wrote need not be safe.
        "--dpkgopt=force-unsafe-io",
    ]);
    mmdebstrap
}

/// A directory for the tree beside the file that it becomes.
fn scratch(to: &Path) -> Result<PathBuf> {
    let scratch = atomic::temp_beside(to);
    fs::create_dir(&scratch).map_err(BakeError::file("make", &scratch))?;
    Ok(scratch)
}

/// Memory that programs can have without swapping, in KiB (proc_meminfo(5), MemAvailable).
fn free_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse().ok())
        .unwrap_or(0)
}

fn finish(
    mut mmdebstrap: Command,
    suite: &str,
    origin: &Origin,
    scratch: &Path,
    to: &Path,
) -> Result<()> {
    mmdebstrap.arg(suite).arg(to);
    let input = match origin {
        Origin::Host => None,
        Origin::Sources(text) => {
            mmdebstrap.arg("-");
            Some(text.as_bytes())
        }
    };
    let made = program::run("mmdebstrap", &mut mmdebstrap, input);
    let removed = remove_tree(scratch);
    made.and(removed)
}

/// Removes a tree that was made on the disk: some of it belongs to subordinate ids.
///
/// # Errors
/// [`BakeError`], when it is still there afterwards.
pub fn remove_tree(path: &Path) -> Result<()> {
    if remove(path).is_ok() {
        return Ok(());
    }
    let mut unshare = command("unshare");
    if !is_root() {
        unshare.args(["--map-auto", "--map-root-user"]);
    }
    unshare
        .args(["rm", "-rf", "--one-file-system", "--"])
        .arg(path);
    program::run("rm", &mut unshare, None).map(drop)
}

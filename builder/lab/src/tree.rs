//! Root trees: what a stock Debian cloud image has, without kernel and boot loader, made once and shared by all nodes.
//!
//! A node's tree holds nothing of any role. It is kept under a key made from all its inputs: this module's recipe, architecture, suite,
//! sources and whatever the caller adds. Time is not an input: a tree stays until somebody asks for a fresh one (`refresh`), since
//! a node a few days old is what a provider's image is too. Callers who pin a mirror's snapshot pass its digest as `key_extra`.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Progress,
    command::{command, run},
    error::{LabError, Result},
    spec::{BakedTree, Purpose, TreeSpec},
    state::{Lock, remove_file, remove_tree},
};

mod packages;

use packages::packages;

/// What a node's tree has besides Essential and apt.
#[must_use]
pub fn node_packages() -> &'static [&'static str] {
    packages(Purpose::Node)
}

/// Raised when what is done to a tree changes, so that trees made before are made anew.
const RECIPE: &str = "1";

/// The same for what is done to baked trees.
const BAKED_RECIPE: &str = "1";

/// Settings of the image, where Debian's cloud images have theirs. The lab's nodes have one place to look for a seed; probing for
/// others would find the host's. Without a locale 22.4 tries to generate en_US and fails.
const CLOUD_CFG: &str =
    "# The seed is on the node's disk.\ndatasource_list: [ NoCloud, None ]\nlocale: C.UTF-8\n";

/// A root tree, complete and not to be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The root directory.
    pub root: PathBuf,
    /// Its key: 16 hexadecimal digits.
    pub key: String,
    /// When it was made, in Unix seconds.
    pub built: u64,
}

/// What a tree's directory says of it, next to the root.
#[derive(Serialize, Deserialize)]
struct Label {
    suite: String,
    key: String,
    built: u64,
}

/// The key under which a specification's tree is kept.
pub fn key(spec: &TreeSpec) -> String {
    let mut parts = vec![RECIPE, std::env::consts::ARCH, &spec.suite, CLOUD_CFG];
    parts.extend(packages(spec.purpose));
    parts.push("sources");
    parts.extend(spec.sources.iter().flatten().map(String::as_str));
    parts.extend(["extra", spec.key_extra.as_deref().unwrap_or("")]);
    digest(&parts)
}

/// 16 hexadecimal digits that depend on every part.
fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The newest tree for this specification, made if there is none or if `refresh` asks for a new one.
///
/// Takes about half a minute and 300 MB for a new tree, milliseconds for a known one. A second caller waits for the first. A tree
/// is made under another name and renamed when complete, so what a killed program leaves is never taken for a tree; it is removed
/// by the next build.
///
/// # Errors
/// [`LabError::Spec`] for an unknown suite, [`LabError::Failed`] with mmdebstrap's words, or [`LabError::File`].
pub fn ensure(spec: &TreeSpec, refresh: bool, progress: &dyn Progress) -> Result<Tree> {
    if !["trixie", "bookworm"].contains(&spec.suite.as_str()) {
        return Err(LabError::Spec(format!(
            "suite {:?} is neither trixie nor bookworm",
            spec.suite
        )));
    }
    let what = match spec.purpose {
        Purpose::Node => format!("building the {} root tree (once)", spec.suite),
        Purpose::Outside => {
            "building the root tree of the machine outside the fleet (once)".to_owned()
        }
    };
    kept(&spec.cache_dir, &spec.suite, key(spec), refresh, |half| {
        progress.step(None, &what);
        build(spec, half)
    })
}

/// The tree of an image, unpacked if it was not before, and kept as those are that [`ensure`] makes.
///
/// # Errors
/// [`LabError::Failed`] with tar's words, or [`LabError::File`].
pub fn unpack(
    cache_dir: &Path,
    suite: &str,
    baked: &BakedTree,
    progress: &dyn Progress,
) -> Result<Tree> {
    let key = digest(&[RECIPE, BAKED_RECIPE, CLOUD_CFG, &baked.key]);
    kept(cache_dir, suite, key, false, |root| {
        progress.step(None, "unpacking a baked tree (once)");
        fs::create_dir_all(root).map_err(LabError::file("make", root))?;
        let mut tar = command("tar");
        tar.args(["--extract", "--numeric-owner", "--same-permissions"]);
        tar.args(["--xattrs", "--xattrs-include=*", "--directory"]);
        run(tar.arg(root).arg("--file").arg(&baked.archive))?;
        // There are none of the image's disks; systemd would mount the root file system again and fail.
        write(root, "etc/fstab", "")?;
        // Behind the image's own, which looks for disks.
        write(root, "etc/cloud/cloud.cfg.d/91_lab.cfg", CLOUD_CFG)
    })
}

/// The newest tree of this key, made if there is none or if `refresh` asks for a new one.
fn kept(
    cache_dir: &Path,
    suite: &str,
    key: String,
    refresh: bool,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<Tree> {
    let directory = cache_dir.join("trees");
    fs::create_dir_all(&directory).map_err(LabError::file("make", &directory))?;
    let known = || newest(&directory, &key);
    if let (false, Some(tree)) = (refresh, known()?) {
        return tree.used();
    }
    let _lock = Lock::take(&directory.join("lock"), true)?;
    if let (false, Some(tree)) = (refresh, known()?) {
        return tree.used();
    }
    clear(&directory, SystemTime::now())?;
    let half = directory.join(format!(".building-{key}"));
    make(&half.join("root"))?;
    let built = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let label = Label {
        suite: suite.to_owned(),
        key: key.clone(),
        built,
    };
    let text = serde_json::to_string_pretty(&label)
        .expect("a struct of strings and a number has a JSON form");
    fs::write(half.join("tree.json"), text + "\n")
        .map_err(LabError::file("write", half.join("tree.json")))?;
    // What the name promises must be on the disk before the name is.
    let synced = fs::File::open(&half).and_then(|tree| Ok(rustix::fs::syncfs(tree)?));
    synced.map_err(LabError::file("write", &half))?;
    let whole = directory.join(format!("{suite}-{key}-{built}"));
    fs::rename(&half, &whole).map_err(LabError::file("rename", &half))?;
    Ok(Tree {
        root: whole.join("root"),
        key,
        built,
    })
}

/// Removes trees that nobody will miss: no lab stands on them, and either a newer one of the same key has replaced them or nobody
/// asked for them in two weeks. Every build does this too. Returns what was removed.
///
/// # Errors
/// [`LabError::File`].
pub fn prune(cache_dir: &Path) -> Result<Vec<PathBuf>> {
    let directory = cache_dir.join("trees");
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let _lock = Lock::take(&directory.join("lock"), true)?;
    clear(&directory, SystemTime::now())
}

/// A tree that was asked for so recently may be about to get its lab.
const RECENT: Duration = Duration::from_secs(3600);

/// How long a tree is kept for a lab that may come again.
const KEPT: Duration = Duration::from_secs(14 * 86_400);

/// Removes what is half built, and the trees that nobody will miss. The caller holds the lock.
fn clear(directory: &Path, now: SystemTime) -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for path in entries(directory)? {
        if is_half_built(&path) {
            remove_tree(&path)?;
            continue;
        }
        let Some(tree) = read(&path) else { continue };
        let label = path.join("tree.json");
        let used = fs::metadata(&label)
            .and_then(|data| data.modified())
            .map_err(LabError::file("read", label))?;
        let unused = now.duration_since(used).unwrap_or_default();
        let replaced =
            newest(directory, &tree.key)?.is_some_and(|newest| newest.built > tree.built);
        if (unused > KEPT || replaced && unused > RECENT) && !in_use(&path)? {
            // Out of the way first: half a tree must not carry a tree's name.
            let away = directory.join(format!(".building-{}-{}", tree.key, tree.built));
            fs::rename(&path, &away).map_err(LabError::file("rename", &path))?;
            remove_tree(&away)?;
            removed.push(path);
        }
    }
    Ok(removed)
}

impl Tree {
    /// Notes that the tree was asked for: its label's time is that of its last use.
    fn used(self) -> Result<Tree> {
        let label = self.root.with_file_name("tree.json");
        let touch = || {
            fs::File::options()
                .append(true)
                .open(&label)?
                .set_modified(SystemTime::now())
        };
        touch().map_err(LabError::file("write", &label))?;
        Ok(self)
    }

    /// Writes down that the lab in this directory stands on the tree.
    pub(crate) fn hold(&self, id: &str, state_dir: &Path) -> Result<()> {
        let users = users(&self.root);
        fs::create_dir_all(&users).map_err(LabError::file("make", &users))?;
        let text = state_dir.to_string_lossy().into_owned();
        fs::write(users.join(id), text).map_err(LabError::file("write", users.join(id)))
    }
}

/// The lab no longer stands on the tree with this root.
pub(crate) fn release(root: &Path, id: &str) -> Result<()> {
    remove_file(&users(root).join(id))
}

fn users(root: &Path) -> PathBuf {
    root.with_file_name("users")
}

/// True while a lab that is still recorded stands on the tree.
fn in_use(tree: &Path) -> Result<bool> {
    let users = tree.join("users");
    if !users.exists() {
        return Ok(false);
    }
    Ok(entries(&users)?.iter().any(|user| {
        fs::read_to_string(user).is_ok_and(|lab| Path::new(&lab).join("lab.json").exists())
    }))
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?
            .map(|entry| entry.map(|e| e.path()))
            .collect()
    };
    read().map_err(LabError::file("read", directory))
}

fn is_half_built(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(".building-"))
}

fn read(path: &Path) -> Option<Tree> {
    if is_half_built(path) {
        return None;
    }
    let label: Label = serde_json::from_slice(&fs::read(path.join("tree.json")).ok()?).ok()?;
    Some(Tree {
        root: path.join("root"),
        key: label.key,
        built: label.built,
    })
}

fn newest(directory: &Path, key: &str) -> Result<Option<Tree>> {
    let trees = entries(directory)?
        .into_iter()
        .filter_map(|path| read(&path))
        .filter(|tree| tree.key == key);
    Ok(trees.max_by_key(|tree| tree.built))
}

/// Makes the tree. Ends with this program, however it ends: setpriv has the kernel kill unshare, whose end kills everything in
/// the pid namespace, and with the last process the mounts in the tree are gone.
fn build(spec: &TreeSpec, root: &Path) -> Result<()> {
    fs::create_dir_all(root).map_err(LabError::file("make", root))?;
    let mut mmdebstrap = command("setpriv");
    mmdebstrap.args([
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--propagation",
        "slave",
        "--pid",
        "--fork",
    ]);
    mmdebstrap.args([
        "--kill-child=KILL",
        "--mount-proc",
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=apt",
    ]);
    mmdebstrap.arg(format!("--include={}", packages(spec.purpose).join(",")));
    mmdebstrap
        .arg(&spec.suite)
        .arg(root)
        .args(spec.sources.iter().flatten());
    run(mmdebstrap.stdin(Stdio::null()))?;
    finish(spec.purpose, root)
}

/// Turns what mmdebstrap made into an image: no identity, no sources, networkd on.
fn finish(purpose: Purpose, root: &Path) -> Result<()> {
    // Empty, not absent: systemd then makes one for each node and does not take the boot for an interactive first one.
    write(root, "etc/machine-id", "")?;
    for file in [
        "etc/hostname",
        "etc/apt/sources.list",
        "var/lib/dbus/machine-id",
    ] {
        remove_file(&root.join(file))?;
    }
    symlink("/etc/machine-id", root.join("var/lib/dbus/machine-id"))
        .map_err(LabError::file("make", root.join("var/lib/dbus/machine-id")))?;
    // Of openssh-server, and in the place of openssh-client.
    for path in entries(&root.join("etc/ssh"))? {
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("ssh_host_"))
        {
            remove_file(&path)?;
        }
    }
    // The sources of the host are not the nodes': they have no way there. A seed writes its own.
    for path in entries(&root.join("etc/apt/sources.list.d"))? {
        remove_file(&path)?;
    }
    write(root, "etc/default/locale", "LANG=C.UTF-8\n")?;
    let mut enable = command("chroot");
    enable.arg(root).args(["systemctl", "--quiet", "enable"]);
    // Without networkd enabled the links stay down, and cloud-init says done all the same.
    enable.arg("systemd-networkd.service");
    if purpose == Purpose::Node {
        write(root, "etc/cloud/cloud.cfg.d/90_image.cfg", CLOUD_CFG)?;
        enable.arg("systemd-resolved.service");
    }
    run(&mut enable)?;
    // /etc and /var are as new as /usr: else every node's first boot rebuilds caches that the tree has. bookworm has no such unit.
    let update_done = "/usr/lib/systemd/systemd-update-done";
    if root.join(&update_done[1..]).exists() {
        run(command("chroot").arg(root).arg(update_done))?;
    }
    Ok(())
}

fn write(root: &Path, file: &str, text: &str) -> Result<()> {
    let path = root.join(file);
    fs::write(&path, text).map_err(LabError::file("write", path))
}

#[cfg(test)]
mod tests;

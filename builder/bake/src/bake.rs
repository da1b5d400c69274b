//! The steps of a bake, in their order.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rolesmith_host::atomic;
use rolesmith_model::{image::Image, image_file::Format};

use crate::{
    Progress,
    cache::{self, Cache, Key, Layer, remove},
    disk::{self, Ids, Workshop},
    error::{BakeError, Result},
    manifest::{self, ImageFile, Manifest},
    program::preflight,
    tools,
    tree::{self, Origin, Roles, Seal},
};

/// Signs bytes: gives an armored detached signature, or says why there is none.
pub type Sign<'a> = dyn Fn(&[u8]) -> std::result::Result<Vec<u8>, String> + 'a;

/// Everything that an image is made from.
pub struct Inputs<'a> {
    /// The image.
    pub image: &'a Image,
    /// The fleet's name.
    pub fleet: &'a str,
    /// Where Debian's packages come from.
    pub debian: Origin,
    /// What they are: a value that is another one when they are others. Empty where nothing pins them.
    pub debian_pin: String,
    /// The time of Debian's tree.
    pub debian_epoch: u64,
    /// Where all packages come from, the fleet's too.
    pub origin: Origin,
    /// What the fleet's packages are.
    pub fleet_pin: String,
    /// The time of the image.
    pub epoch: u64,
    /// apt's sources of the finished image beside the fleet's own.
    pub sources: Option<String>,
    /// Signs bytes: an armored detached signature.
    pub sign: &'a Sign<'a>,
    /// Looks at the finished tree, and complains where it must not become an image.
    pub judge: &'a dyn Fn(&Layer) -> Result<()>,
    /// Where layers are kept.
    pub cache: &'a Path,
    /// Where the image's directory is.
    pub to: &'a Path,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baked {
    /// The directory with the image's files.
    pub directory: PathBuf,
    /// What is in it.
    pub manifest: Manifest,
    /// The steps that were taken, with their times. Those whose outcome was there took none.
    pub steps: Vec<(&'static str, Duration)>,
}

/// Name of the manifest, and of the checksums.
pub const MANIFEST: &str = "manifest.json";
/// sha256sum(1)'s format.
pub const SUMS: &str = "SHA256SUMS";
const STEPS: usize = 6;

struct Steps<'a> {
    progress: &'a dyn Progress,
    number: usize,
    taken: Vec<(&'static str, Duration)>,
}

impl Steps<'_> {
    fn take<T>(
        &mut self,
        name: &'static str,
        what: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.number += 1;
        self.progress.step(self.number, STEPS, what);
        let begun = Instant::now();
        let done = work()?;
        self.taken.push((name, begun.elapsed()));
        Ok(done)
    }
}

/// Bakes the image, or what is missing of it.
///
/// # Errors
/// [`BakeError`]. What stood in `to` is as it was.
pub fn bake(inputs: &Inputs<'_>, progress: &dyn Progress) -> Result<Baked> {
    preflight()?;
    let image = inputs.image;
    let ids = Ids::of(inputs.fleet, image.name.as_str());
    let cache = Cache::open(inputs.cache, || {
        progress.step(0, STEPS, "waiting for another bake with this cache");
    })?;
    let mut steps = Steps {
        progress,
        number: 0,
        taken: Vec::new(),
    };
    let tools = steps.take("tools", "tools", || {
        tools::ensure(&cache, || progress.step(1, STEPS, "tools (once)"))
    })?;

    let prepared = Prepared::of(inputs, ids);
    let roles_key = &prepared.roles_key;
    let mut key = Key::new("image", disk::RECIPE);
    key.add(roles_key);
    key.add(
        serde_json::to_vec(&(
            image.size,
            &image.formats,
            image.compression,
            &image.firmware,
        ))
        .expect("plain values"),
    );
    for (tool, version) in &tools.versions {
        key.add(tool);
        key.add(version);
    }
    let image_key = key.finish();

    if let Some(manifest) = whole(inputs.to, &image_key) {
        return Ok(Baked {
            directory: inputs.to.to_owned(),
            manifest,
            steps: steps.taken,
        });
    }
    let layer = prepared.layer(inputs, &cache, &mut steps)?;

    let parent = inputs.to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(BakeError::file("make", parent))?;
    clear(parent)?;
    let half = atomic::temp_beside(inputs.to);
    fs::create_dir(&half).map_err(BakeError::file("make", &half))?;
    let made = (|| -> Result<Manifest> {
        let shop = Workshop {
            tools: &tools,
            work: &half,
            layer: &layer,
            epoch: inputs.epoch,
        };
        steps.take("disk", "disk", || {
            tools.check()?;
            disk::write(image, ids, shop)
        })?;
        let files = steps.take("formats", &formats(image), || write_formats(image, shop))?;
        let manifest = Manifest {
            format: 1,
            image: image.name.to_string(),
            fleet: inputs.fleet.to_owned(),
            suite: image.suite.codename().to_owned(),
            roles: image.roles.iter().map(ToString::to_string).collect(),
            inputs: image_key.clone(),
            epoch: inputs.epoch,
            root_uuid: ids.root.to_string(),
            size: image.size,
            tools: tools.versions.clone(),
            packages: manifest::packages(&layer.path)?,
            files,
        };
        seal_directory(&half, &manifest, inputs.sign)?;
        Ok(manifest)
    })();
    let manifest = made.inspect_err(|_| {
        let _ = remove(&half);
    })?;
    replace(&half, inputs.to)?;
    Ok(Baked {
        directory: inputs.to.to_owned(),
        manifest,
        steps: steps.taken,
    })
}

/// The image's tree alone, as a tar archive: for machines that are no disks. It is the one that the image's disk is made of.
///
/// # Errors
/// [`BakeError`].
pub fn tree(inputs: &Inputs<'_>, progress: &dyn Progress) -> Result<Layer> {
    preflight()?;
    let prepared = Prepared::of(inputs, Ids::of(inputs.fleet, inputs.image.name.as_str()));
    let cache = Cache::open(inputs.cache, || {
        progress.step(0, STEPS, "waiting for another bake with this cache");
    })?;
    let mut steps = Steps {
        progress,
        number: 1,
        taken: Vec::new(),
    };
    prepared.layer(inputs, &cache, &mut steps)
}

/// The image's tree where it was made already, without making it.
///
/// # Errors
/// [`BakeError::Corrupt`], [`BakeError::File`].
pub fn known_tree(inputs: &Inputs<'_>) -> Result<Option<Layer>> {
    let prepared = Prepared::of(inputs, Ids::of(inputs.fleet, inputs.image.name.as_str()));
    Cache::open(inputs.cache, || {})?.known("roles", &prepared.roles_key)
}

/// What the trees of an image are made of, and the keys that they have.
struct Prepared<'a> {
    suite: &'static str,
    packages: Vec<String>,
    roles: Roles,
    seal: Seal<'a>,
    base_key: String,
    roles_key: String,
}

impl<'a> Prepared<'a> {
    fn of(inputs: &'a Inputs<'_>, ids: Ids) -> Self {
        let image = inputs.image;
        let suite = image.suite.codename();
        let packages = image.debian_packages();
        let mut key = Key::new("base", tree::RECIPE);
        tree::base_key(&mut key, suite, &packages);
        key.add(&inputs.debian_pin);
        key.add(inputs.debian_epoch.to_string());
        let base_key = key.finish();

        let roles = Roles::of(image);
        let seal = Seal {
            image,
            root: ids.root,
            esp: ids.esp,
            sources: inputs.sources.as_deref(),
        };
        let mut key = Key::new("roles", tree::RECIPE);
        key.add(&base_key);
        roles.key(&mut key);
        seal.key(&mut key);
        key.add(&inputs.fleet_pin);
        key.add(inputs.epoch.to_string());
        Self {
            suite,
            packages,
            roles,
            seal,
            base_key,
            roles_key: key.finish(),
        }
    }

    /// The tree with the roles in it, judged.
    fn layer(&self, inputs: &Inputs<'_>, cache: &Cache, steps: &mut Steps<'_>) -> Result<Layer> {
        // Debian's tree is only asked for where the one on top of it is missing.
        let layer = match cache.known("roles", &self.roles_key)? {
            Some(layer) => {
                steps.number += 2;
                layer
            }
            None => self.make(inputs, cache, steps)?,
        };
        if !layer.made {
            cache::verify(&layer)?;
        }
        steps.take("lints", "lints", || (inputs.judge)(&layer))?;
        Ok(layer)
    }

    fn make(&self, inputs: &Inputs<'_>, cache: &Cache, steps: &mut Steps<'_>) -> Result<Layer> {
        let suite = self.suite;
        let base = steps.take("base", &format!("Debian {suite}"), || {
            cache.layer("base", &self.base_key, |to| {
                tree::base(
                    suite,
                    &self.packages,
                    &inputs.debian,
                    inputs.debian_epoch,
                    to,
                )
            })
        })?;
        if !base.made {
            cache::verify(&base)?;
        }
        let names: Vec<String> = inputs.image.roles.iter().map(ToString::to_string).collect();
        let what = match self.roles.packages.is_empty() {
            true => "seal".to_owned(),
            false => format!("roles: {}", names.join(", ")),
        };
        steps.take("roles", &what, || {
            cache.layer("roles", &self.roles_key, |to| {
                let (roles, seal) = (&self.roles, &self.seal);
                tree::roles(
                    suite,
                    &base.path,
                    roles,
                    seal,
                    &inputs.origin,
                    inputs.epoch,
                    to,
                )
            })
        })
    }
}

fn formats(image: &Image) -> String {
    let names: Vec<&str> = image.formats.iter().map(|f| f.extension()).collect();
    names.join(", ")
}

fn file_name(image: &Image, format: Format) -> String {
    format!("{}.{}", image.name, format.extension())
}

fn write_formats(image: &Image, shop: Workshop<'_>) -> Result<Vec<ImageFile>> {
    let mut files = Vec::new();
    for format in &image.formats {
        let name = file_name(image, *format);
        disk::convert(*format, image.compression, &name, shop)?;
        let path = shop.work.join(&name);
        let bytes = fs::metadata(&path)
            .map_err(BakeError::file("read", &path))?
            .len();
        files.push(ImageFile {
            sha256: cache::sha256(&path).map_err(BakeError::file("read", &path))?,
            name,
            bytes,
        });
    }
    Ok(files)
}

/// Leaves the image's files alone in the directory, with manifest, checksums and their signature, all on the disk.
fn seal_directory(half: &Path, manifest: &Manifest, sign: &Sign<'_>) -> Result<()> {
    for name in [
        "disk.raw",
        "esp.img",
        "core.img",
        "BOOTX64.EFI",
        "early.cfg",
    ] {
        remove(&half.join(name))?;
    }
    let mut json = serde_json::to_vec_pretty(manifest).expect("a manifest has a JSON form");
    json.push(b'\n');
    let path = half.join(MANIFEST);
    fs::write(&path, &json).map_err(BakeError::file("write", &path))?;
    let mut sums = String::new();
    for file in &manifest.files {
        sums.push_str(&format!("{}  {}\n", file.sha256, file.name));
    }
    let sum = cache::sha256(&path).map_err(BakeError::file("read", &path))?;
    sums.push_str(&format!("{sum}  {MANIFEST}\n"));
    let signature = sign(sums.as_bytes()).map_err(BakeError::Sign)?;
    for (name, bytes) in [(SUMS, sums.as_bytes()), ("SHA256SUMS.asc", &signature)] {
        let path = half.join(name);
        fs::write(&path, bytes).map_err(BakeError::file("write", &path))?;
    }
    let synced = fs::File::open(half).and_then(|dir| Ok(rustix::fs::syncfs(dir)?));
    synced.map_err(BakeError::file("write", half))
}

/// The image that stands there, if it is the one that these inputs give and nothing of it is missing.
fn whole(to: &Path, inputs: &str) -> Option<Manifest> {
    let manifest: Manifest = serde_json::from_slice(&fs::read(to.join(MANIFEST)).ok()?).ok()?;
    let there = manifest.inputs == inputs
        && manifest.files.iter().all(|file| {
            fs::metadata(to.join(&file.name)).is_ok_and(|data| data.len() == file.bytes)
        })
        && to.join(SUMS).exists()
        && to.join("SHA256SUMS.asc").exists();
    there.then_some(manifest)
}

/// What killed runs have left.
fn clear(parent: &Path) -> Result<()> {
    let entries = fs::read_dir(parent).map_err(BakeError::file("read", parent))?;
    for entry in entries {
        let path = entry.map_err(BakeError::file("read", parent))?.path();
        if path.file_name().is_some_and(atomic::is_temp) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Puts a directory in the place of another, at once.
fn replace(half: &Path, to: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    if to.exists() {
        let swapped = renameat_with(CWD, half, CWD, to, RenameFlags::EXCHANGE);
        swapped.map_err(|error| BakeError::file("replace", to)(error.into()))?;
        remove(half)?;
    } else {
        fs::rename(half, to).map_err(BakeError::file("rename", half))?;
    }
    let parent = to.parent().unwrap_or(Path::new("."));
    atomic::sync_directory(parent).map_err(BakeError::file("write", parent))
}

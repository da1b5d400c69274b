//! From a tree to a disk: partition table, boot loaders, root file system.
//!
//! | sectors | what |
//! | --- | --- |
//! | 0 to 33 | boot record, partition table |
//! | 2048 | GRUB's core image for a BIOS (1 MiB) |
//! | 4096 | EFI system partition (64 MiB) |
//! | 135168 | root file system, to the end |

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
};

use rolesmith_formats::gpt::{self, Guid, Partition};
use rolesmith_model::{
    image::Image,
    image_file::{Compression, Firmware, Format},
};

use crate::{
    cache::Layer,
    error::{BakeError, Result},
    program::run,
    tools::Tools,
};

/// Raised when disks are made in another way.
pub const RECIPE: u32 = 1;

const BIOS_FIRST: u64 = 2048;
const BIOS_SECTORS: u64 = 2048;
const ESP_FIRST: u64 = BIOS_FIRST + BIOS_SECTORS;
const ESP_MIB: u64 = 64;
const ESP_SECTORS: u64 = ESP_MIB * MIB_SECTORS;
const ROOT_FIRST: u64 = ESP_FIRST + ESP_SECTORS;
const MIB_SECTORS: u64 = (1 << 20) / gpt::SECTOR;

/// In GRUB's core images: what finds the root file system and reads its configuration, so that nothing beside them is needed to start.
const MODULES: [&str; 20] = [
    "part_gpt",
    "ext2",
    "normal",
    "configfile",
    "linux",
    "search",
    "search_fs_uuid",
    "search_label",
    "echo",
    "test",
    "true",
    "ls",
    "cat",
    "halt",
    "reboot",
    "sleep",
    "serial",
    "terminal",
    "minicmd",
    "gzio",
];

/// Identifiers of an image's disk, which follow from its name: the tree names them too, in fstab and in the boot loader's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// The disk.
    pub disk: Guid,
    /// The root file system.
    pub root: Guid,
    /// The EFI system partition's file system.
    pub esp: u32,
}

impl Ids {
    /// Those of the image `name` of the fleet `fleet`.
    #[must_use]
    pub fn of(fleet: &str, name: &str) -> Self {
        let id = |what: &str| Guid::derived(&format!("rolesmith image {fleet} {name} {what}"));
        let esp = id("esp file system").0;
        Self {
            disk: id("disk"),
            root: id("root file system"),
            esp: u32::from_be_bytes([esp[0], esp[1], esp[2], esp[3]]),
        }
    }

    fn partition(self, what: &str) -> Guid {
        Guid::derived(&format!("{} {what}", self.disk))
    }
}

/// Where things are done: the tools, the layer, and a directory that the tools may write into.
#[derive(Debug, Clone, Copy)]
pub struct Workshop<'a> {
    /// The tools.
    pub tools: &'a Tools,
    /// The directory.
    pub work: &'a Path,
    /// The tree.
    pub layer: &'a Layer,
    /// The time of everything.
    pub epoch: u64,
}

impl Workshop<'_> {
    fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let layers = self.layer.path.parent().unwrap_or(Path::new("/"));
        let mut command = self.tools.command(program, self.work, layers, self.epoch);
        run(program, command.args(arguments), None).map(drop)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.work.join(name);
        fs::write(&path, bytes).map_err(BakeError::file("write", path))
    }

    fn get(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.work.join(name);
        fs::read(&path).map_err(BakeError::file("read", path))
    }
}

/// Writes the disk into `disk.raw` of the working directory.
///
/// # Errors
/// [`BakeError`].
pub fn write(image: &Image, ids: Ids, shop: Workshop<'_>) -> Result<()> {
    let sectors = image.size / gpt::SECTOR;
    // In whole MiB, as everything before it.
    let root_mib = (gpt::last_usable(sectors) + 1 - ROOT_FIRST) / MIB_SECTORS;
    let partitions = [
        Partition {
            kind: Guid::BIOS_BOOT,
            id: ids.partition("bios"),
            first: BIOS_FIRST,
            sectors: BIOS_SECTORS,
            name: "bios",
        },
        Partition {
            kind: Guid::EFI_SYSTEM,
            id: ids.partition("esp"),
            first: ESP_FIRST,
            sectors: ESP_SECTORS,
            name: "esp",
        },
        // Last, so that it can grow to the end of the machine's disk.
        Partition {
            kind: Guid::LINUX_ROOT_X86_64,
            id: ids.partition("root"),
            first: ROOT_FIRST,
            sectors: root_mib * MIB_SECTORS,
            name: "root",
        },
    ];
    fits(shop.layer, root_mib)?;
    let mut tables = gpt::tables(sectors, ids.disk, &partitions)?;
    let early = format!(
        "search.fs_uuid {} root\nset prefix=($root)/boot/grub\n",
        ids.root
    );
    shop.put("early.cfg", early.as_bytes())?;
    let path = shop.work.join("disk.raw");
    let disk = File::create(&path).map_err(BakeError::file("make", &path))?;
    let at = |sector: u64, bytes: &[u8]| {
        disk.write_all_at(bytes, sector * gpt::SECTOR)
            .map_err(BakeError::file("write", &path))
    };
    disk.set_len(image.size)
        .map_err(BakeError::file("write", &path))?;
    if image.boots_with(Firmware::Bios) {
        core_image(shop, "i386-pc", &["biosdisk"], "core.img")?;
        let mut core = shop.get("core.img")?;
        let boot = shop.tools.file("usr/lib/grub/i386-pc/boot.img");
        let boot = fs::read(&boot).map_err(BakeError::file("read", boot))?;
        gpt::install_bios_boot(&mut tables.front, &boot, &mut core, BIOS_FIRST)?;
        if core.len() as u64 > BIOS_SECTORS * gpt::SECTOR {
            return Err(BakeError::Unfit {
                program: "grub-mkimage",
                reason: format!("its core image has {} bytes, more than 1 MiB", core.len()),
            });
        }
        at(BIOS_FIRST, &core)?;
    }
    at(0, &tables.front)?;
    at(tables.back_sector, &tables.back)?;
    esp(image, ids, shop)?;
    at(ESP_FIRST, &shop.get("esp.img")?)?;
    root(ids, root_mib, shop)
}

fn core_image(shop: Workshop<'_>, platform: &str, more: &[&str], name: &str) -> Result<()> {
    let output = format!("--output={name}");
    let directory = format!("--directory=/usr/lib/grub/{platform}");
    let format = format!("--format={platform}");
    let mut arguments = vec![
        format.as_str(),
        &output,
        &directory,
        "--config=early.cfg",
        "--prefix=/boot/grub",
    ];
    arguments.extend(MODULES);
    arguments.extend(more);
    shop.run("grub-mkimage", &arguments)
}

/// The EFI system partition: GRUB where firmware looks on a disk that it does not know (UEFI 2.10, 3.5.1.1).
fn esp(image: &Image, ids: Ids, shop: Workshop<'_>) -> Result<()> {
    let id = format!("{:08x}", ids.esp);
    let kib = (ESP_MIB * 1024).to_string();
    shop.run(
        "mkfs.vfat",
        &[
            "--invariant",
            "-C",
            "-F",
            "32",
            "-s",
            "1",
            "-n",
            "ESP",
            "-i",
            &id,
            "esp.img",
            &kib,
        ],
    )?;
    if !image.boots_with(Firmware::Uefi) {
        return Ok(());
    }
    core_image(
        shop,
        "x86_64-efi",
        &["fat", "efi_gop", "all_video"],
        "BOOTX64.EFI",
    )?;
    shop.run("mmd", &["-i", "esp.img", "::EFI", "::EFI/BOOT"])?;
    shop.run("mcopy", &["-i", "esp.img", "BOOTX64.EFI", "::EFI/BOOT/"])
}

fn root(ids: Ids, mib: u64, shop: Workshop<'_>) -> Result<()> {
    let uuid = ids.root.to_string();
    let tar = format!(
        "/layers/{}",
        shop.layer
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
    );
    shop.run(
        "mke2fs",
        &[
            "-q",
            "-F",
            "-t",
            "ext4",
            "-U",
            &uuid,
            "-L",
            "root",
            "-m",
            "2",
            "-E",
            &format!(
                "offset={},hash_seed={uuid},root_owner=0:0,nodiscard",
                ROOT_FIRST * gpt::SECTOR
            ),
            "-d",
            &tar,
            "disk.raw",
            &format!("{mib}M"),
        ],
    )
}

/// Whether the files fit, before mke2fs finds out half way.
fn fits(layer: &Layer, root_mib: u64) -> Result<()> {
    let file = File::open(&layer.path).map_err(BakeError::file("read", &layer.path))?;
    let mut archive = tar::Archive::new(file);
    let mut blocks = 0;
    let entries = archive
        .entries_with_seek()
        .map_err(BakeError::file("read", &layer.path))?;
    for entry in entries {
        let entry = entry.map_err(BakeError::file("read", &layer.path))?;
        // A block for the name and the inode, about.
        blocks += entry.size().div_ceil(4096) + u64::from(entry.header().entry_type().is_dir());
    }
    // Inode tables, journal and what is kept for root.
    let needed = blocks / 256 + root_mib / 20 + 64;
    if needed > root_mib {
        return Err(BakeError::TooSmall {
            needed,
            available: root_mib,
        });
    }
    Ok(())
}

/// Writes one of the forms of `disk.raw` into the working directory, under this name.
///
/// # Errors
/// [`BakeError`].
pub fn convert(
    format: Format,
    compression: Compression,
    name: &str,
    shop: Workshop<'_>,
) -> Result<()> {
    match format {
        // What it is already; hard links cost nothing.
        Format::Raw => link(&shop.work.join("disk.raw"), &shop.work.join(name)),
        Format::Tar => link(&shop.layer.path, &shop.work.join(name)),
        Format::Qcow2 => {
            let options = format!("compression_type={}", compression.as_str());
            // One coroutine (-m 1 and no -W): clusters are written in their order, so that the same disk gives the same bytes.
            shop.run(
                "qemu-img",
                &[
                    "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", &options, "disk.raw", name,
                ],
            )
        }
        // -n: neither name nor time.
        Format::Gzip => shop.run("sh", &["-c", &format!("exec gzip -n -c disk.raw >{name}")]),
    }
}

/// A hard link, or a copy where the two are on different file systems.
fn link(from: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)
        .map(drop)
        .map_err(BakeError::file("copy", from))
}

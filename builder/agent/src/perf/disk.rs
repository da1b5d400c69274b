//! /proc/self/mountinfo (proc_pid_mountinfo(5)) and /proc/diskstats (Documentation/admin-guide/iostats.rst of the kernel).

use std::collections::BTreeMap;

use rolesmith_model::perf::Disk;

use super::count::grown;

/// Bytes of a sector in /proc/diskstats, whatever the disk's own are.
const SECTOR: u64 = 512;
/// File systems whose source is no device.
const WITHOUT_DEVICE: [&str; 3] = ["btrfs", "bcachefs", "zfs"];
/// File systems that cannot be written and are as full as they will ever be.
const IMAGES: [&str; 4] = ["erofs", "iso9660", "squashfs", "udf"];

/// A line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// Which directory of the file system is mounted.
    pub root: String,
    /// Where.
    pub path: String,
    /// Its type.
    pub kind: String,
    /// The device, or what stands for it.
    pub source: String,
    /// Nobody can write to it, wherever it is mounted.
    pub read_only: bool,
}

/// Reads mountinfo; lines that are none are passed over.
#[must_use]
pub fn mountinfo(text: &str) -> Vec<MountInfo> {
    text.lines().filter_map(mount).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn mount(line: &str) -> Option<MountInfo> {
    let (own, of_system) = line.split_once(" - ")?;
    let mut own = own.split(' ').skip(3);
    let (root, path) = (unescape(own.next()?), unescape(own.next()?));
    let mut of_system = of_system.split(' ');
    let kind = of_system.next()?.to_owned();
    let source = unescape(of_system.next()?);
    let read_only = of_system.next()?.split(',').any(|option| option == "ro");
    Some(MountInfo {
        root,
        path,
        kind,
        source,
        read_only,
    })
}

/// Blanks, tabs, newlines and backslashes are written as `\` and three octal digits.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|c| u8::from_str_radix(c, 8).ok());
        match code {
            Some(code) if code.is_ascii() => {
                plain.push(char::from(code));
                plain.push_str(&part[3..]);
            }
            _ => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

/// The file systems on disks of this machine, each once: as it is mounted whole, else where its path is shortest. What is
/// in memory is counted as memory, and a server of files that does not answer would be waited for.
#[must_use]
pub fn real(mounts: &[MountInfo]) -> Vec<&MountInfo> {
    // What is mounted over something else is what can be looked at.
    let mut visible = BTreeMap::new();
    for mount in mounts {
        visible.insert(mount.path.as_str(), mount);
    }
    let mut chosen = BTreeMap::<&str, &MountInfo>::new();
    for mount in visible.into_values().filter(|mount| is_real(mount)) {
        let rank = |mount: &MountInfo| (mount.root != "/", mount.path.len());
        chosen
            .entry(mount.source.as_str())
            .and_modify(|known| {
                if rank(mount) < rank(known) {
                    *known = mount;
                }
            })
            .or_insert(mount);
    }
    let mut chosen: Vec<_> = chosen.into_values().collect();
    chosen.sort_by(|one, other| one.path.cmp(&other.path));
    chosen
}

fn is_real(mount: &MountInfo) -> bool {
    let kind = mount.kind.as_str();
    let on_disk = mount.source.starts_with("/dev/") && !kind.starts_with("fuse");
    (on_disk || WITHOUT_DEVICE.contains(&kind) || (kind == "overlay" && mount.path == "/"))
        && !IMAGES.contains(&kind)
}

/// Reads /proc/diskstats: disks that were ever used, by name, of those that `is_disk` says are no partitions. What counts is
/// since the boot.
#[must_use]
pub fn disks(text: &str, is_disk: impl Fn(&str) -> bool) -> BTreeMap<String, Disk> {
    text.lines()
        .filter_map(disk)
        .filter(|disk| disk.reads + disk.writes > 0 && is_disk(&disk.name))
        .map(|disk| (disk.name.clone(), disk))
        .collect()
}

fn disk(line: &str) -> Option<Disk> {
    let mut words = line.split_ascii_whitespace().skip(2);
    let name = words.next()?.to_owned();
    let mut values = [0_u64; 10];
    for value in &mut values {
        *value = words.next()?.parse().ok()?;
    }
    let [
        reads,
        _,
        sectors_read,
        read_ms,
        writes,
        _,
        sectors_written,
        write_ms,
        in_flight,
        busy_ms,
    ] = values;
    Some(Disk {
        name,
        reads,
        read_bytes: sectors_read.saturating_mul(SECTOR),
        read_ms,
        writes,
        write_bytes: sectors_written.saturating_mul(SECTOR),
        write_ms,
        busy_ms,
        in_flight,
    })
}

/// What was done to a disk; one that was not there before was at rest.
#[must_use]
pub fn disk_since(before: Option<&Disk>, now: &Disk) -> Disk {
    let nothing = Disk::default();
    let before = before.unwrap_or(&nothing);
    Disk {
        name: now.name.clone(),
        reads: grown(before.reads, now.reads),
        read_bytes: grown(before.read_bytes, now.read_bytes),
        read_ms: grown(before.read_ms, now.read_ms),
        writes: grown(before.writes, now.writes),
        write_bytes: grown(before.write_bytes, now.write_bytes),
        write_ms: grown(before.write_ms, now.write_ms),
        busy_ms: grown(before.busy_ms, now.busy_ms),
        in_flight: now.in_flight,
    }
}

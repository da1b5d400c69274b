//! Boots that fail, under a real qemu: what is said of them, how soon, and what is left.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rolesmith_bake::boot::{
    self, BootError, DataSource, DiskFormat, Firmware, Fleet, FleetSpec, Guest, Image, Test,
    Workshop,
};

/// Far more than any of these boots takes, and less than a test that hangs.
const LIMIT: Duration = Duration::from_secs(120);

fn guest() -> Guest {
    Guest {
        node: "app-1".into(),
        fleet: "acme".into(),
        instance_id: "acme-app-1-1".into(),
        user_data: "#cloud-config\n".into(),
        ssh_port: 22,
        public_interface: "eth0".into(),
        private_interface: "eth1".into(),
        private_address: None,
        memory: 128,
    }
}

/// A disk of 1 MiB whose boot sector has this code.
fn disk(directory: &Path, code: &[u8]) -> Image {
    let path = directory.join("disk.raw");
    let mut bytes = vec![0; 1 << 20];
    bytes[..code.len()].copy_from_slice(code);
    if !code.is_empty() {
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    }
    std::fs::write(&path, bytes).unwrap();
    Image {
        path,
        format: DiskFormat::Raw,
    }
}

/// `jmp $`: a machine that is busy for ever and says nothing.
const SPIN: [u8; 2] = [0xeb, 0xfe];

fn boot_it(image: &Image, below: &Path, firmware: Firmware, limit: Duration) -> BootError {
    let workshop = Workshop::open(below).unwrap();
    let test = Test {
        image,
        guest: &guest(),
        firmware,
        source: DataSource::NoCloud,
        repository: None,
        limit,
    };
    boot::test(&test, &workshop, &|_| {}).unwrap_err()
}

#[test]
#[ignore = "needs qemu: `make image-test`"]
fn a_disk_that_does_not_boot_is_given_up_at_once_and_the_firmwares_words_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let image = disk(dir.path(), &[]);
    let before = std::fs::read(&image.path).unwrap();
    for (firmware, words) in [
        (Firmware::Bios, "No bootable device"),
        (Firmware::Uefi, "UEFI Interactive Shell"),
    ] {
        let begun = Instant::now();
        let error = boot_it(&image, &dir.path().join("dist"), firmware, LIMIT).to_string();
        assert!(error.contains("stopped before its kernel"), "{error}");
        assert!(error.contains("the end of its console"), "{error}");
        assert!(error.contains(words), "{error}");
        assert!(begun.elapsed() < LIMIT, "{error}");
    }
    assert_eq!(std::fs::read(&image.path).unwrap(), before);
    assert_eq!(
        std::fs::read_dir(dir.path().join("dist")).unwrap().count(),
        0
    );
}

#[test]
#[ignore = "needs qemu: `make image-test`"]
fn a_machine_that_says_nothing_is_given_up_when_the_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let image = disk(dir.path(), &SPIN);
    let limit = Duration::from_secs(5);
    let error = boot_it(&image, dir.path(), Firmware::Bios, limit).to_string();
    assert!(
        error.contains("did not come to its kernel within 5 s"),
        "{error}"
    );
}

#[test]
#[ignore = "needs qemu: `make image-test`"]
fn what_qemu_says_is_shown_where_it_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let image = disk(dir.path(), &SPIN);
    let wrong = Image {
        format: DiskFormat::Qcow2,
        ..image
    };
    let error = boot_it(&wrong, dir.path(), Firmware::Bios, LIMIT);
    assert!(
        matches!(
            error,
            BootError::Tool {
                program: "qemu-img",
                ..
            }
        ),
        "{error}"
    );
    let absent = Image {
        path: dir.path().join("absent.raw"),
        format: DiskFormat::Raw,
    };
    let error = boot_it(&absent, dir.path(), Firmware::Bios, LIMIT).to_string();
    assert!(error.contains("absent.raw"), "{error}");
}

/// Run by the test below, in a process that is killed.
#[test]
#[ignore = "half of a test"]
fn child_switches_a_machine_on_and_waits() {
    let Some(dir) = std::env::var_os("BOOT_CHILD") else {
        return;
    };
    let dir = Path::new(&dir);
    let workshop = Workshop::open(&dir.join("dist")).unwrap();
    let nodes = [(disk(dir, &SPIN), guest())];
    let spec = FleetSpec {
        nodes: &nodes,
        firmware: Firmware::Bios,
        source: DataSource::NoCloud,
        repository: None,
        limit: LIMIT,
    };
    let mut fleet = Fleet::switch_on(spec, &workshop).unwrap();
    writeln!(std::io::stderr(), "qemu {}", fleet.machines()[0].id()).unwrap();
    let _ = fleet.wait(&|_| {});
}

#[test]
#[ignore = "needs qemu: `make image-test`"]
fn qemu_ends_with_a_test_that_is_killed_and_the_next_one_clears_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "child_switches_a_machine_on_and_waits",
        ])
        .env("BOOT_CHILD", dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let id: i32 = lines
        .find_map(|line| {
            line.unwrap()
                .strip_prefix("qemu ")
                .map(|id| id.parse().unwrap())
        })
        .expect("the child starts qemu");
    let process = rustix::process::Pid::from_raw(id).unwrap();
    let qemu = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // A pidfd becomes readable when its process has ended (pidfd_open(2)).
    let mut ended = [rustix::event::PollFd::new(
        &qemu,
        rustix::event::PollFlags::IN,
    )];
    let limit = rustix::event::Timespec {
        tv_sec: 20,
        tv_nsec: 0,
    };
    assert_eq!(
        rustix::event::poll(&mut ended, Some(&limit)),
        Ok(1),
        "qemu {id} outlives its test"
    );
    let dist = dir.path().join("dist");
    assert_eq!(std::fs::read_dir(&dist).unwrap().count(), 1);
    drop(Workshop::open(&dist).unwrap());
    assert_eq!(std::fs::read_dir(&dist).unwrap().count(), 0);
}

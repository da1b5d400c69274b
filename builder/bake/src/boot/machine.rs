//! A machine as qemu is told of it. Pure, but for [`Accelerator::detect`].

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
};

/// What a machine starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// SeaBIOS, which qemu brings.
    Bios,
    /// OVMF of Debian's package `ovmf`, without Secure Boot: nobody has signed the image's boot loader.
    Uefi,
}

impl std::fmt::Display for Firmware {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Firmware::Bios => "BIOS",
            Firmware::Uefi => "UEFI",
        })
    }
}

/// OVMF's code and the template of its variables.
pub(super) const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// See [`OVMF_CODE`].
pub(super) const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// How instructions are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// By the processor.
    Kvm,
    /// By qemu's translator: many times slower, and everywhere.
    Tcg,
}

impl Accelerator {
    /// KVM where this user may use it and the processor has it.
    ///
    /// Machines without the processor's extensions may have `/dev/kvm` all the same; real mode runs there, and Linux does not
    /// come up.
    #[must_use]
    pub fn detect() -> Accelerator {
        let device = OpenOptions::new().read(true).write(true).open("/dev/kvm");
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        if device.is_ok() && has_virtualization(&processor) {
            Accelerator::Kvm
        } else {
            Accelerator::Tcg
        }
    }

    fn arguments(self) -> [&'static str; 4] {
        match self {
            // A processor that is there after all, but not for us, is no reason to fail: qemu takes the next.
            Accelerator::Kvm => ["-cpu", "host", "-accel", "kvm"],
            // qemu64 has nothing beyond what Debian's amd64 asks for: what has to be emulated costs time, and programs use what
            // there is.
            Accelerator::Tcg => ["-cpu", "qemu64", "-accel", "tcg,thread=multi,tb-size=512"],
        }
    }
}

/// True where proc(5)'s cpuinfo lists Intel's or AMD's extension.
fn has_virtualization(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().filter_map(|line| {
        let (name, flags) = line.split_once(':')?;
        (name.trim() == "flags").then_some(flags)
    });
    flags
        .flat_map(str::split_whitespace)
        .any(|flag| matches!(flag, "vmx" | "svm"))
}

/// What of a guest's writes is on the host when the guest is told that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: a flush is passed over. For machines that nobody will look at again.
    None,
    /// What the guest flushed is in the host's file, and synced there (`cache=writeback`, qemu's own default).
    Flushes,
}

/// The address under which a guest finds the repository: none of the host's, and in the network that qemu gives to the guest.
pub(super) const REPOSITORY: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 2, 100);

/// A machine.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) name: String,
    pub(super) firmware: Firmware,
    pub(super) accelerator: Accelerator,
    /// MiB.
    pub(super) memory: u32,
    pub(super) processors: u32,
    /// A qcow2 file of its own.
    pub(super) disk: PathBuf,
    pub(super) durability: Durability,
    /// An ISO 9660 image.
    pub(super) seed: PathBuf,
    /// UEFI's variables, a file of its own.
    pub(super) variables: PathBuf,
    pub(super) public: Nic,
    pub(super) private: Nic,
    /// The host's loopback port that leads to the guest's sshd, and that one's port.
    pub(super) ssh: (u16, u16),
    /// The guest's port and the command that answers one connection to [`REPOSITORY`] on its standard input.
    pub(super) repository: Option<(u16, Vec<OsString>)>,
    /// The descriptor of a datagram socket on which Ethernet frames of the private network go; nothing: nobody is there.
    pub(super) wire: Option<i32>,
}

/// An interface of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nic {
    /// Its name in the guest.
    pub(super) name: String,
    /// `52:54:00` (qemu's) and three bytes.
    pub(super) mac: String,
}

impl Machine {
    /// qemu's arguments.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
        add(&["-name", &self.name, "-no-user-config", "-nodefaults"]);
        add(&[
            "-machine",
            match self.firmware {
                // Without graphics SeaBIOS writes on the serial port what it has to say.
                Firmware::Bios => "pc,graphics=off",
                Firmware::Uefi => "q35,graphics=off",
            },
        ]);
        add(&self.accelerator.arguments());
        add(&[
            "-smp",
            &self.processors.to_string(),
            "-m",
            &self.memory.to_string(),
        ]);
        // A droplet has a screen, too; nobody looks at it.
        add(&["-display", "none", "-vga", "std"]);
        add(&[
            "-chardev",
            "stdio,id=console,signal=off",
            "-serial",
            "chardev:console",
        ]);
        add(&["-device", "virtio-rng-pci"]);
        if self.firmware == Firmware::Uefi {
            add(&[
                "-drive",
                &format!("if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}"),
            ]);
            let variables = option(&self.variables.to_string_lossy());
            add(&[
                "-drive",
                &format!("if=pflash,unit=1,format=raw,file={variables}"),
            ]);
        }
        let cache = match self.durability {
            Durability::None => "unsafe",
            Durability::Flushes => "writeback",
        };
        // The guest is told of a host's full disk, and says so; qemu would stop it, and nobody would know why.
        let disk = option(&self.disk.to_string_lossy());
        let drive = format!(
            "if=none,id=disk,format=qcow2,discard=unmap,cache={cache},werror=report,file={disk}"
        );
        add(&["-drive", &drive]);
        // Nothing else is booted from: not the network, for which UEFI would wait minutes.
        add(&[
            "-device",
            "virtio-blk-pci,drive=disk,bootindex=0",
            "-boot",
            "strict=on",
        ]);
        let seed = option(&self.seed.to_string_lossy());
        add(&[
            "-drive",
            &format!("if=virtio,format=raw,readonly=on,file={seed}"),
        ]);
        add(&["-netdev", &self.public_network()]);
        // Without its ROM, whose only use is to boot from the network.
        add(&[
            "-device",
            &format!(
                "virtio-net-pci,netdev=public,romfile=,mac={}",
                self.public.mac
            ),
        ]);
        add(&[
            "-netdev",
            &match self.wire {
                Some(descriptor) => {
                    format!("dgram,id=private,local.type=fd,local.str={descriptor}")
                }
                // A network of its own: the interface is there, and so is its address.
                None => "hubport,id=private,hubid=1".to_owned(),
            },
        ]);
        add(&[
            "-device",
            &format!(
                "virtio-net-pci,netdev=private,romfile=,mac={}",
                self.private.mac
            ),
        ]);
        arguments
    }

    /// The guest's way out: ssh comes in, the repository is there, and nothing else.
    fn public_network(&self) -> String {
        let (host, guest) = self.ssh;
        let mut network =
            format!("user,id=public,restrict=on,hostfwd=tcp:127.0.0.1:{host}-:{guest}");
        if let Some((port, command)) = &self.repository {
            let words: Vec<String> = command
                .iter()
                .map(|word| quote(&word.to_string_lossy()))
                .collect();
            network += &format!(
                ",guestfwd=tcp:{REPOSITORY}:{port}-cmd:{}",
                option(&words.join(" "))
            );
        }
        network
    }
}

/// A value of one of qemu's options, in which a comma is written twice.
fn option(value: &str) -> String {
    value.replace(',', ",,")
}

/// A word of a command that glib's `g_shell_parse_argv` takes apart again, as a shell would.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Says which programs and files of Debian's packages are missing on this machine: each with its package.
pub(super) fn missing(firmware: Firmware) -> Vec<String> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let there =
        |program: &str| std::env::split_paths(&paths).any(|dir| dir.join(program).is_file());
    let mut missing: Vec<String> = [
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("qemu-img", "qemu-utils"),
        ("setpriv", "util-linux"),
        ("timeout", "coreutils"),
        ("ssh", "openssh-client"),
        ("ssh-keygen", "openssh-client"),
    ]
    .into_iter()
    .filter(|(program, _)| !there(program))
    .map(|(program, package)| format!("{program} (package {package})"))
    .collect();
    if firmware == Firmware::Uefi {
        let files = [OVMF_CODE, OVMF_VARIABLES].into_iter();
        let absent = files.filter(|file| !Path::new(file).is_file());
        missing.extend(absent.map(|file| format!("{file} (package ovmf)")));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        let nic = |name: &str, mac: &str| Nic {
            name: name.into(),
            mac: mac.into(),
        };
        Machine {
            name: "app-1".into(),
            firmware: Firmware::Bios,
            accelerator: Accelerator::Tcg,
            memory: 1024,
            processors: 2,
            disk: "/tmp/a,b/disk.qcow2".into(),
            durability: Durability::None,
            seed: "/tmp/a,b/seed.iso".into(),
            variables: "/tmp/a,b/variables.fd".into(),
            public: nic("eth0", "52:54:00:00:00:00"),
            private: nic("eth1", "52:54:00:00:00:01"),
            ssh: (40022, 22),
            repository: Some((80, vec!["/opt/o'neil/rolesmith".into(), "a,b".into()])),
            wire: None,
        }
    }

    fn text(machine: &Machine) -> String {
        let words: Vec<_> = machine
            .arguments()
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        words.join(" ")
    }

    #[test]
    fn commas_and_quotes_reach_qemu_and_glib_unharmed() {
        let text = text(&machine());
        assert!(text.contains("file=/tmp/a,,b/disk.qcow2"), "{text}");
        assert!(
            text.contains(r"guestfwd=tcp:10.0.2.100:80-cmd:'/opt/o'\''neil/rolesmith' 'a,,b'"),
            "{text}"
        );
    }

    #[test]
    fn firmware_wires_and_durability_are_what_was_asked_for() {
        let bios = text(&machine());
        assert!(
            bios.contains("cache=unsafe") && bios.contains("hubport") && !bios.contains("pflash")
        );
        let other = Machine {
            firmware: Firmware::Uefi,
            durability: Durability::Flushes,
            wire: Some(7),
            ..machine()
        };
        let uefi = text(&other);
        for part in [
            "-machine q35",
            "unit=1,format=raw,file=/tmp/a,,b/variables.fd",
            "cache=writeback",
            "local.type=fd,local.str=7",
        ] {
            assert!(uefi.contains(part), "{part}: {uefi}");
        }
    }

    #[test]
    fn the_processor_says_whether_it_can() {
        assert!(has_virtualization(
            "processor\t: 0\nflags\t\t: fpu vmx sse\n"
        ));
        assert!(has_virtualization("flags\t\t: fpu svm\n"));
        assert!(!has_virtualization(
            "flags\t\t: fpu hypervisor\nbugs\t\t: svm\n"
        ));
    }
}

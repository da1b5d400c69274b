//! Whether it starts, and finds its seed.

use rolesmith_model::image_file::Firmware;

use super::{
    Kind, Lint, Look,
    units::{self, State},
};

const GRUB_CFG: &str = "boot/grub/grub.cfg";
const GRUB_DEFAULT: &str = "etc/default/grub";

pub(super) const LINTS: &[Lint] = &[
    Lint {
        name: "mount-point",
        rule: "the directories are there over which systemd mounts",
        why: "A kernel that finds no /dev or /proc panics, or starts an init that can do nothing.",
        help: "make the directory in the tree; mmdebstrap leaves out what --skip names",
        check: |look| {
            for path in ["dev", "proc", "sys", "run", "tmp", "boot"] {
                if !look
                    .tree
                    .get(path)
                    .is_some_and(|entry| entry.is_directory())
                {
                    look.say(path, "there is no such directory");
                }
            }
        },
    },
    Lint {
        name: "fstab",
        rule: "/etc/fstab mounts the root file system by its UUID, and no disk by its place",
        why: "A disk is /dev/vda here and /dev/sda there; without a line for / it stays read-only.",
        help: "write the UUID of the disk plan into /etc/fstab",
        check: fstab,
    },
    Lint {
        name: "kernel",
        rule: "each kernel in /boot has its modules and its initrd, and /vmlinuz and /initrd.img lead to one",
        why: "Without its initrd a kernel finds no root file system.",
        help: "see whether update-initramfs ran when the kernel's package was configured",
        check: kernel,
    },
    Lint {
        name: "boot-loader",
        rule: "GRUB's configuration starts a kernel that is there with the root file system's UUID, and its modules are there",
        why: "What is wrong here ends at GRUB's prompt, on a console that nobody sees.",
        help: "write /boot/grub/grub.cfg with the UUID of the disk plan, and copy GRUB's modules beside it",
        check: boot_loader,
    },
    Lint {
        name: "serial-console",
        rule: "the kernel has the image's consoles, now and after update-grub",
        why: "Providers show the serial console, and the boot test reads it. A new kernel makes update-grub write grub.cfg anew from /etc/default/grub.",
        help: "put the console= arguments into GRUB_CMDLINE_LINUX in /etc/default/grub too, in the order of image.toml",
        check: serial_console,
    },
    Lint {
        name: "data-sources",
        rule: "cloud-init asks for the image's data sources, in one line, ConfigDrive before NoCloud",
        why: "cloud-init's generator reads datasource_list only where it stands on one line. NoCloud asked first takes a droplet's seed for nobody's, and no user-data is run.",
        help: "write `datasource_list: [ ConfigDrive, NoCloud, None ]` into the last file of /etc/cloud/cloud.cfg.d",
        check: data_sources,
    },
    Lint {
        name: "cloud-init",
        rule: "cloud-init is there, is enabled, and can grow the root file system",
        why: "Without it no seed is read; without growpart the machine has the image's few GB.",
        help: "install cloud-init and cloud-guest-utils; remove /etc/cloud/cloud-init.disabled",
        check: cloud_init,
    },
];

fn fstab(look: &mut Look<'_>) {
    let path = "etc/fstab";
    let Some(text) = look.tree.text(path) else {
        look.say(path, "it is missing");
        return;
    };
    let root = format!("UUID={}", look.expected.root);
    let mut mounts_root = false;
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [device, place, kind, _, ..] = fields[..] else {
            look.say(path, format!("{line:?} is no entry of fstab(5)"));
            continue;
        };
        if device.starts_with("/dev/") && !device.starts_with("/dev/disk/by-") {
            look.say(
                path,
                format!("{device} may be another disk on another machine"),
            );
        }
        if place == "/" {
            mounts_root = true;
            if device != root || kind != "ext4" {
                look.say(
                    path,
                    format!("/ is {device} ({kind}), and it should be {root} (ext4)"),
                );
            }
        }
        if place == "/boot/efi" && device != format!("UUID={}", look.expected.esp) {
            let reason = format!(
                "/boot/efi is {device}, and it should be UUID={}",
                look.expected.esp
            );
            look.say(path, reason);
        }
    }
    if !mounts_root {
        look.say(path, "no line is for /");
    }
}

fn kernel(look: &mut Look<'_>) {
    let mut kernels = 0;
    for path in look.tree.files_below("boot") {
        let Some(version) = path.strip_prefix("boot/vmlinuz-") else {
            continue;
        };
        kernels += 1;
        let initrd = format!("boot/initrd.img-{version}");
        if !look
            .tree
            .get(&initrd)
            .is_some_and(|entry| entry.is_file() && entry.size > 0)
        {
            look.say(&initrd, format!("the kernel {version} has no initrd"));
        }
        let modules = format!("usr/lib/modules/{version}");
        if look.tree.get(&modules).is_none() {
            look.say(&modules, format!("the kernel {version} has no modules"));
        }
    }
    if kernels == 0 {
        look.say("boot", "there is no kernel");
    }
    for link in ["vmlinuz", "initrd.img"] {
        if !look
            .tree
            .resolve(link)
            .is_some_and(|(_, entry)| entry.is_file() && entry.size > 0)
        {
            look.say(
                link,
                "it leads nowhere, and GRUB's configuration begins with it",
            );
        }
    }
}

/// Lines of grub.cfg that begin with one of these commands, without the command.
fn commands<'t>(text: &'t str, names: &'t [&str]) -> impl Iterator<Item = &'t str> {
    text.lines().filter_map(move |line| {
        let (command, rest) = line.trim().split_once(char::is_whitespace)?;
        names.contains(&command).then_some(rest.trim())
    })
}

fn boot_loader(look: &mut Look<'_>) {
    let Some(text) = look.tree.text(GRUB_CFG) else {
        look.say(GRUB_CFG, "it is missing");
        return;
    };
    let root = format!("root=UUID={}", look.expected.root);
    let mut entries = 0;
    for line in commands(&text, &["linux"]) {
        entries += 1;
        if !line.split_whitespace().any(|word| word == root) {
            look.say(GRUB_CFG, format!("a kernel is started without {root}"));
        }
    }
    if entries == 0 {
        look.say(GRUB_CFG, "it starts no kernel");
    }
    for line in commands(&text, &["linux", "initrd"]) {
        let file = line.split_whitespace().next().unwrap_or_default();
        if look.tree.resolve(file).is_none() {
            look.say(GRUB_CFG, format!("{file} is not there"));
        }
    }
    let searches = commands(&text, &["search"]).any(|line| line.contains(&look.expected.root));
    if !searches {
        look.say(
            GRUB_CFG,
            "it does not look for the root file system by its UUID",
        );
    }
    for firmware in &look.expected.firmware {
        let platform = match firmware {
            Firmware::Bios => "i386-pc",
            Firmware::Uefi => "x86_64-efi",
        };
        let module = format!("boot/grub/{platform}/normal.mod");
        if look.tree.get(&module).is_none() {
            look.say(&module, "GRUB's modules are missing");
        }
    }
}

/// Values of `console=` in a kernel's command line.
fn consoles(line: &str) -> Vec<&str> {
    line.split(|c: char| c.is_whitespace() || c == '"' || c == '\'')
        .filter_map(|word| word.strip_prefix("console="))
        .collect()
}

fn serial_console(look: &mut Look<'_>) {
    let wanted: Vec<&str> = look.expected.consoles.iter().map(String::as_str).collect();
    let named = wanted.join(", ");
    for line in commands(&look.tree.text(GRUB_CFG).unwrap_or_default(), &["linux"]) {
        if consoles(line) != wanted {
            look.say(
                GRUB_CFG,
                format!("a kernel is started without the consoles {named}"),
            );
        }
    }
    let text = look.tree.text(GRUB_DEFAULT).unwrap_or_default();
    let value = |name: &str| {
        let mut lines = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
        lines.next_back().unwrap_or_default()
    };
    // update-grub puts them in this order.
    let line = format!(
        "{} {}",
        value("GRUB_CMDLINE_LINUX"),
        value("GRUB_CMDLINE_LINUX_DEFAULT")
    );
    if consoles(&line) != wanted {
        look.say(
            GRUB_DEFAULT,
            format!("update-grub would lose the consoles {named}"),
        );
    }
    // systemd-getty-generator starts one on each serial console of the kernel.
    for console in wanted.iter().filter(|console| console.starts_with("ttyS")) {
        let device = console.split(',').next().unwrap_or(console);
        let unit = format!("serial-getty@{device}.service");
        if units::state(look.tree, &unit) != State::Present {
            look.say(
                &format!("usr/lib/systemd/system/{unit}"),
                "nobody can log in on the serial console",
            );
        }
    }
}

fn data_sources(look: &mut Look<'_>) {
    let mut files: Vec<&str> = look
        .tree
        .files_below("etc/cloud/cloud.cfg.d")
        .filter(|path| path.ends_with(".cfg"))
        .collect();
    files.sort_unstable();
    files.insert(0, "etc/cloud/cloud.cfg");
    // The last one counts.
    let mut found = None;
    for path in files {
        for line in look.tree.text(path).unwrap_or_default().lines() {
            if let Some(value) = line.strip_prefix("datasource_list:") {
                found = Some((
                    path,
                    value
                        .split('#')
                        .next()
                        .unwrap_or_default()
                        .trim()
                        .to_owned(),
                ));
            }
        }
    }
    let Some((path, value)) = found else {
        look.say("etc/cloud/cloud.cfg.d", "no file has a datasource_list");
        return;
    };
    let Some(inner) = value
        .strip_prefix('[')
        .and_then(|value| value.strip_suffix(']'))
    else {
        look.say(path, "datasource_list is not on one line");
        return;
    };
    let listed: Vec<&str> = inner
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let at = |name: &str| listed.iter().position(|listed| *listed == name);
    if let (Some(no_cloud), Some(config_drive)) = (at("NoCloud"), at("ConfigDrive"))
        && no_cloud < config_drive
    {
        look.say(path, "NoCloud is asked before ConfigDrive");
    } else if listed != look.expected.data_sources {
        let wanted = look.expected.data_sources.join(", ");
        look.say(
            path,
            format!(
                "the data sources are {}, and they should be {wanted}",
                listed.join(", ")
            ),
        );
    }
}

fn cloud_init(look: &mut Look<'_>) {
    let disabled = "etc/cloud/cloud-init.disabled";
    if look.tree.get(disabled).is_some() {
        look.say(disabled, "it keeps cloud-init from running");
    }
    for program in [
        "usr/bin/cloud-init",
        "usr/bin/growpart",
        "usr/sbin/resize2fs",
    ] {
        if look.tree.resolve(program).is_none() {
            look.say(program, "it is not installed");
        }
    }
    for unit in [
        "cloud-init-local.service",
        "cloud-config.service",
        "cloud-final.service",
    ] {
        if units::state(look.tree, unit) != State::Present {
            look.say(
                &format!("usr/lib/systemd/system/{unit}"),
                "it is missing or masked",
            );
        } else if !units::enabled(look.tree).contains_key(unit) {
            look.say(
                &format!("usr/lib/systemd/system/{unit}"),
                "it is not enabled",
            );
        }
    }
    let mask = "etc/systemd/system/cloud-init.target";
    if matches!(look.tree.get(mask).map(|entry| &entry.kind), Some(Kind::Symlink(to)) if to == "/dev/null")
    {
        look.say(mask, "it is masked");
    }
}

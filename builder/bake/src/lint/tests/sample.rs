//! A small tree that passes all lints.

use std::collections::BTreeMap;

use rolesmith_model::{ids::Suite, image_file::Firmware};

use crate::lint::Expected;

pub(super) const EPOCH: u64 = 1_790_000_000;
pub(super) const ROOT: &str = "8986d8d2-79bf-8df4-ada2-0b582769ac44";

pub(super) fn expected() -> Expected {
    Expected {
        fleet: "acme".into(),
        suite: Suite::Trixie,
        roles: vec!["redis".into()],
        masked: vec!["redis-server.service".into()],
        root: ROOT.into(),
        esp: "1A2B-3C4D".into(),
        firmware: vec![Firmware::Bios, Firmware::Uefi],
        consoles: vec!["tty0".into(), "ttyS0,115200".into()],
        data_sources: vec!["ConfigDrive".into(), "NoCloud".into(), "None".into()],
        debian_sources: false,
        epoch: EPOCH,
    }
}

/// One entry of a sample.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) kind: tar::EntryType,
    pub(super) content: Vec<u8>,
    pub(super) target: String,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: u64,
    pub(super) xattr: Option<&'static str>,
}

impl Item {
    fn new(kind: tar::EntryType, mode: u32) -> Self {
        Self {
            kind,
            content: Vec::new(),
            target: String::new(),
            mode,
            uid: 0,
            gid: 0,
            mtime: EPOCH,
            xattr: None,
        }
    }
}

/// A tree in the making.
#[derive(Clone)]
pub(super) struct Sample(BTreeMap<String, Item>);

impl Sample {
    pub(super) fn empty() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn good() -> Self {
        let mut tree = Self::empty();
        for path in [
            "dev",
            "proc",
            "sys",
            "run",
            "tmp",
            "boot",
            "var/log",
            "var/lib/rolesmith/conf",
        ] {
            tree.directory(path);
        }
        tree.at("tmp").mode = 0o1777;
        tree.link("lib", "usr/lib");
        tree.link("var/log/README", "../../usr/share/doc/systemd/README.logs");
        tree.file("etc/machine-id", "");
        tree.link("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
        tree.file(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\nredis:x:103:105::/var/lib/redis:/usr/sbin/nologin\n",
        );
        tree.file("etc/group", "root:x:0:\nshadow:x:42:\nredis:x:105:\n");
        tree.file(
            "etc/shadow",
            "root:*:20000:0:99999:7:::\nredis:!*:20000::::::\n",
        );
        tree.file("etc/gshadow", "root:*::\nshadow:*::\nredis:!::\n");
        tree.file("usr/bin/su", "program");
        tree.at("usr/bin/su").mode = 0o4755;
        tree.boots();
        tree.file("var/lib/dpkg/status", "Package: dpkg\nStatus: install ok installed\n\nPackage: held\nStatus: hold ok installed\n");
        tree.file("var/lib/apt/lists/lock", "");
        tree.file(
            "etc/apt/apt.conf.d/70debconf",
            "DPkg::Pre-Install-Pkgs {\"/usr/sbin/dpkg-preconfigure --apt\";};\n",
        );
        tree.file(
            "etc/apt/sources.list.d/acme.sources",
            "Types: deb\nURIs: http://apt.acme.internal\nSuites: trixie\n",
        );
        tree.unit(
            "ssh.service",
            "[Service]\nExecStart=/usr/sbin/sshd -D\n[Install]\nWantedBy=multi-user.target\n",
        );
        tree.enable("ssh.service", "multi-user.target");
        tree.unit(
            "dbus.socket",
            "[Socket]\nListenStream=/run/dbus/system_bus_socket\n",
        );
        tree.enable("dbus.socket", "sockets.target");
        tree.role();
        tree
    }

    fn boots(&mut self) {
        let version = "6.12.1-cloud-amd64";
        let line = format!("root=UUID={ROOT} ro console=tty0 console=ttyS0,115200 net.ifnames=0");
        self.file(&format!("boot/vmlinuz-{version}"), "kernel");
        self.file(&format!("boot/initrd.img-{version}"), "initrd");
        self.directory(&format!("usr/lib/modules/{version}"));
        self.link("vmlinuz", &format!("boot/vmlinuz-{version}"));
        self.link("initrd.img", &format!("/boot/initrd.img-{version}"));
        self.file(
            "boot/grub/grub.cfg",
            &format!("search --no-floppy --fs-uuid --set=root {ROOT}\nmenuentry Debian {{\n    linux /vmlinuz {line}\n    initrd /initrd.img\n}}\n"),
        );
        for platform in ["i386-pc", "x86_64-efi"] {
            self.file(&format!("boot/grub/{platform}/normal.mod"), "module");
        }
        self.file(
            "etc/default/grub",
            "GRUB_CMDLINE_LINUX_DEFAULT=\"\"\nGRUB_CMDLINE_LINUX=\"console=tty0 console=ttyS0,115200 net.ifnames=0\"\n",
        );
        self.file(
            "etc/fstab",
            &format!("# comment\nUUID={ROOT} / ext4 rw 0 1\nUUID=1A2B-3C4D /boot/efi vfat umask=0077 0 1\n"),
        );
        self.file("etc/cloud/cloud.cfg", "users: [ default ]\n");
        self.file(
            "etc/cloud/cloud.cfg.d/90_image.cfg",
            "datasource_list: [ ConfigDrive, NoCloud, None ]\n",
        );
        for program in [
            "usr/bin/cloud-init",
            "usr/bin/growpart",
            "usr/sbin/resize2fs",
        ] {
            self.file(program, "program");
        }
        for unit in [
            "cloud-init-local.service",
            "cloud-config.service",
            "cloud-final.service",
        ] {
            self.unit(unit, "[Install]\nWantedBy=cloud-init.target\n");
            self.enable(unit, "cloud-init.target");
        }
        self.unit(
            "serial-getty@.service",
            "[Service]\nExecStart=/sbin/agetty\n",
        );
    }

    fn role(&mut self) {
        self.file(
            "usr/lib/rolesmith/roles/redis.json",
            &manifest(
                "redis",
                &["rolesmith-redis.service", "rolesmith-redis.path"],
            ),
        );
        self.unit(
            "rolesmith-redis.service",
            "[Unit]\nConditionPathExists=/var/lib/rolesmith/conf/redis/redis.conf\n[Install]\nWantedBy=multi-user.target\n",
        );
        self.enable("rolesmith-redis.service", "multi-user.target");
        self.unit(
            "rolesmith-redis.path",
            "[Path]\nPathChanged=/run/rolesmith-redis/new\n[Install]\nWantedBy=paths.target\n",
        );
        self.enable("rolesmith-redis.path", "paths.target");
        self.unit(
            "redis-server.service",
            "[Install]\nWantedBy=multi-user.target\n",
        );
        self.link("etc/systemd/system/redis-server.service", "/dev/null");
        self.file("var/lib/rolesmith/roles/redis", "1\n");
        self.directory("var/lib/redis");
    }

    fn put(&mut self, path: &str, item: Item) {
        let mut at = String::new();
        for part in path.split('/') {
            if !at.is_empty() {
                let parent = Item::new(tar::EntryType::Directory, 0o755);
                self.0.entry(at.clone()).or_insert(parent);
                at.push('/');
            }
            at.push_str(part);
        }
        self.0.insert(at, item);
    }

    pub(super) fn directory(&mut self, path: &str) {
        self.put(path, Item::new(tar::EntryType::Directory, 0o755));
    }

    pub(super) fn file(&mut self, path: &str, content: &str) {
        let mut item = Item::new(tar::EntryType::Regular, 0o644);
        item.content = content.into();
        self.put(path, item);
    }

    pub(super) fn link(&mut self, path: &str, target: &str) {
        let mut item = Item::new(tar::EntryType::Symlink, 0o777);
        item.target = target.to_owned();
        self.put(path, item);
    }

    pub(super) fn hard_link(&mut self, path: &str, target: &str) {
        let mut item = Item::new(tar::EntryType::Link, 0o644);
        item.target = target.to_owned();
        self.put(path, item);
    }

    pub(super) fn unit(&mut self, name: &str, text: &str) {
        self.file(&format!("usr/lib/systemd/system/{name}"), text);
    }

    pub(super) fn enable(&mut self, name: &str, by: &str) {
        self.link(
            &format!("etc/systemd/system/{by}.wants/{name}"),
            &format!("/usr/lib/systemd/system/{name}"),
        );
    }

    /// Text in a file replaced by another one; it must be there.
    pub(super) fn replace(&mut self, path: &str, from: &str, to: &str) {
        let text = String::from_utf8(self.at(path).content.clone()).unwrap();
        assert!(text.contains(from), "{path} has no {from}");
        self.at(path).content = text.replace(from, to).into_bytes();
    }

    pub(super) fn remove(&mut self, path: &str) {
        self.0
            .remove(path)
            .unwrap_or_else(|| panic!("there is no {path}"));
    }

    pub(super) fn at(&mut self, path: &str) -> &mut Item {
        self.0
            .get_mut(path)
            .unwrap_or_else(|| panic!("there is no {path}"))
    }

    /// As mmdebstrap writes it.
    pub(super) fn archive(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, item) in &self.0 {
            if let Some(xattr) = item.xattr {
                builder
                    .append_pax_extensions([(xattr, b"\x01\0\0\x02".as_slice())])
                    .unwrap();
            }
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(item.kind);
            header.set_mode(item.mode);
            header.set_uid(item.uid);
            header.set_gid(item.gid);
            header.set_mtime(item.mtime);
            header.set_size(item.content.len() as u64);
            let path = format!("./{path}");
            if item.target.is_empty() {
                builder
                    .append_data(&mut header, path, item.content.as_slice())
                    .unwrap();
            } else {
                builder
                    .append_link(&mut header, path, &item.target)
                    .unwrap();
            }
        }
        builder.into_inner().unwrap()
    }
}

/// A role's manifest, with units that start when the node is enrolled.
pub(super) fn manifest(role: &str, units: &[&str]) -> String {
    let units: Vec<String> = units
        .iter()
        .map(|unit| {
            format!(
                r#"{{"name": "{unit}", "start": "enrolled", "on_change": "restart", "own": true}}"#
            )
        })
        .collect();
    let units = units.join(", ");
    format!(r#"{{"role": "{role}", "requires": [], "units": [{units}]}}"#)
}

//! Trees that fail a lint, each wrong in one way.

use super::{
    SECRET,
    sample::{EPOCH, Sample, manifest},
};
use crate::lint::Expected;

type Spoil = fn(&mut Sample, &mut Expected);

const UNITS: &str = "/usr/lib/systemd/system";
const LINKS: &str = "/etc/systemd/system";
const GRUB: &str = "boot/grub/grub.cfg";
const REDIS: &str = "usr/lib/systemd/system/rolesmith-redis.service";

/// The lint, the begin of the path of which it complains, what is done to the good tree.
pub(super) const FAILING: &[(&str, &str, Spoil)] = &[
    ("machine-id", "/etc/machine-id", |tree, _| {
        tree.remove("etc/machine-id")
    }),
    ("machine-id", "/etc/machine-id", |tree, _| {
        tree.file("etc/machine-id", "uninitialized\n")
    }),
    ("machine-id", "/var/lib/dbus/machine-id", |tree, _| {
        tree.file("var/lib/dbus/machine-id", "")
    }),
    (
        "ssh-host-key",
        "/etc/ssh/ssh_host_ed25519_key",
        |tree, _| tree.file("etc/ssh/ssh_host_ed25519_key", "key"),
    ),
    ("random-seed", "/var/lib/systemd/random-seed", |tree, _| {
        tree.file("var/lib/systemd/random-seed", "seed")
    }),
    (
        "random-seed",
        "/var/lib/systemd/credential.secret",
        |tree, _| tree.file("var/lib/systemd/credential.secret", "seed"),
    ),
    (
        "cloud-init-state",
        "/var/lib/cloud/data/instance-id",
        |tree, _| tree.file("var/lib/cloud/data/instance-id", "i-1"),
    ),
    ("node-identity", "/etc/rolesmith/node.json", |tree, _| {
        tree.file("etc/rolesmith/node.json", "{}")
    }),
    (
        "node-identity",
        "/var/lib/rolesmith/cluster/state.json",
        |tree, _| tree.file("var/lib/rolesmith/cluster/state.json", "{}"),
    ),
    ("sentinel-id", "/etc/redis/sentinel.conf", |tree, _| {
        tree.file(
            "etc/redis/sentinel.conf",
            "port 26379\nsentinel myid 0f3c\n",
        );
    }),
    ("redis-data", "/var/lib/redis/dump.rdb", |tree, _| {
        tree.file("var/lib/redis/dump.rdb", "REDIS0011")
    }),
    (
        "postgresql-cluster",
        "/etc/postgresql/17/main",
        |tree, _| tree.directory("etc/postgresql/17/main"),
    ),
    (
        "postgresql-cluster",
        "/var/lib/postgresql/17/main/PG_VERSION",
        |tree, _| {
            tree.file("var/lib/postgresql/17/main/PG_VERSION", "17\n");
        },
    ),
    ("fleet-secret", "/usr/share/doc/notes", |tree, _| {
        tree.file("usr/share/doc/notes", SECRET)
    }),
    ("fleet-secret", "/etc/motd", |tree, _| {
        // Across two pieces that are read.
        tree.file(
            "etc/motd",
            &format!("{}{SECRET}", "x".repeat((1 << 20) - 7)),
        );
    }),
    ("private-key", "/etc/ssl/private/key.pem", |tree, _| {
        tree.file(
            "etc/ssl/private/key.pem",
            "-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n",
        );
    }),
    ("private-key", "/root/.ssh/id_ed25519", |tree, _| {
        tree.file("root/.ssh/id_ed25519", "key")
    }),
    ("log", "/var/log/dpkg.log", |tree, _| {
        tree.file("var/log/dpkg.log", "")
    }),
    ("transient-file", "/run/lock/x", |tree, _| {
        tree.file("run/lock/x", "")
    }),
    ("transient-file", "/dev/null", |tree, _| {
        tree.file("dev/null", "")
    }),
    ("host-name", "/etc/hostname", |tree, _| {
        tree.file("etc/hostname", "builder\n")
    }),
    ("host-name", "/etc/resolv.conf", |tree, _| {
        tree.file("etc/resolv.conf", "nameserver 192.0.2.1\n")
    }),
    ("host-name", "/etc/resolv.conf", |tree, _| {
        tree.link("etc/resolv.conf", "/run/resolvconf/resolv.conf")
    }),
    ("history", "/root/.bash_history", |tree, _| {
        tree.file("root/.bash_history", "ls\n")
    }),
    ("user-password", "/etc/shadow", |tree, _| {
        tree.replace("etc/shadow", "root:*", "root:$y$j9T$abc")
    }),
    ("user-password", "/etc/shadow", |tree, _| {
        tree.replace("etc/shadow", "root:*", "root:")
    }),
    // Locked, and one `usermod --unlock` from being let in.
    ("user-password", "/etc/shadow", |tree, _| {
        tree.replace("etc/shadow", "root:*", "root:!$y$j9T$abc")
    }),
    ("user-password", "/etc/gshadow", |tree, _| {
        tree.replace("etc/gshadow", "shadow:*", "shadow:$y$j9T$abc")
    }),
    ("user-password", "/etc/passwd", |tree, _| {
        tree.replace("etc/passwd", "root:x", "root:")
    }),
    (
        "authorized-keys",
        "/root/.ssh/authorized_keys",
        |tree, _| tree.file("root/.ssh/authorized_keys", "ssh-ed25519 AAAA\n"),
    ),
    ("authorized-keys", "/etc/ssh/authorized_keys2", |tree, _| {
        tree.file("etc/ssh/authorized_keys2", "")
    }),
    ("setuid-file", "/usr/bin/bash", |tree, _| {
        tree.file("usr/bin/bash", "program");
        tree.at("usr/bin/bash").mode = 0o4755;
    }),
    ("setuid-file", "/usr/bin/su", |tree, _| {
        tree.at("usr/bin/su").mode = 0o6755
    }),
    // Known in bookworm only.
    ("setuid-file", "/usr/bin/wall", |tree, _| {
        tree.file("usr/bin/wall", "program");
        tree.at("usr/bin/wall").mode = 0o2755;
    }),
    ("file-capability", "/usr/bin/python3", |tree, _| {
        tree.file("usr/bin/python3", "program");
        tree.at("usr/bin/python3").xattr = Some("SCHILY.xattr.security.capability");
    }),
    ("world-writable", "/etc/motd", |tree, _| {
        tree.file("etc/motd", "");
        tree.at("etc/motd").mode = 0o666;
    }),
    ("world-writable", "/srv", |tree, _| {
        tree.directory("srv");
        tree.at("srv").mode = 0o777;
    }),
    ("unknown-owner", "/etc/fstab", |tree, _| {
        tree.at("etc/fstab").uid = 100_000
    }),
    ("unknown-owner", "/etc/fstab", |tree, _| {
        tree.at("etc/fstab").gid = 65_534
    }),
    ("device", "/srv/console", |tree, _| {
        tree.file("srv/console", "");
        tree.at("srv/console").kind = tar::EntryType::Char;
    }),
    ("package-state", "/var/lib/dpkg/status", |tree, _| {
        tree.replace(
            "var/lib/dpkg/status",
            "Status: install ok installed",
            "Status: install ok half-configured",
        );
    }),
    ("package-state", "/var/lib/dpkg/status", |tree, _| {
        tree.replace(
            "var/lib/dpkg/status",
            "Status: install ok installed",
            "Status: deinstall ok config-files",
        );
    }),
    ("package-state", "/var/lib/dpkg/status", |tree, _| {
        tree.remove("var/lib/dpkg/status")
    }),
    (
        "dpkg-leftover",
        "/etc/redis/redis.conf.dpkg-new",
        |tree, _| tree.file("etc/redis/redis.conf.dpkg-new", ""),
    ),
    ("dpkg-leftover", "/var/lib/dpkg/updates/0001", |tree, _| {
        tree.file("var/lib/dpkg/updates/0001", "")
    }),
    ("policy-rc.d", "/usr/sbin/policy-rc.d", |tree, _| {
        tree.file("usr/sbin/policy-rc.d", "exit 101\n")
    }),
    (
        "apt-lists",
        "/var/lib/apt/lists/deb.example_Packages",
        |tree, _| tree.file("var/lib/apt/lists/deb.example_Packages", ""),
    ),
    ("apt-lists", "/var/cache/apt/archives/x.deb", |tree, _| {
        tree.file("var/cache/apt/archives/x.deb", "")
    }),
    ("apt-sources", "/etc/apt/sources.list", |tree, _| {
        tree.file(
            "etc/apt/sources.list",
            "deb http://mirror.example trixie main\n",
        )
    }),
    (
        "apt-sources",
        "/etc/apt/sources.list.d/debian.sources",
        |tree, _| {
            tree.file(
                "etc/apt/sources.list.d/debian.sources",
                "Types: deb\nURIs: http://mirror.example\n",
            );
        },
    ),
    (
        "apt-sources",
        "/etc/apt/sources.list.d/acme.sources",
        |tree, _| {
            tree.replace(
                "etc/apt/sources.list.d/acme.sources",
                "http://apt.acme.internal",
                "http://127.0.0.1:4711",
            );
        },
    ),
    (
        "apt-configuration",
        "/etc/apt/apt.conf.d/99mmdebstrap",
        |tree, _| {
            tree.file(
                "etc/apt/apt.conf.d/99mmdebstrap",
                "Acquire::Retries \"3\";\n",
            );
        },
    ),
    (
        "apt-configuration",
        "/etc/apt/apt.conf.d/proxy",
        |tree, _| {
            tree.file(
                "etc/apt/apt.conf.d/proxy",
                "Acquire::http::Proxy \"http://192.0.2.1:3142\";\n",
            );
        },
    ),
    ("late-time", "/etc/fstab", |tree, _| {
        tree.at("etc/fstab").mtime = EPOCH + 1
    }),
    ("late-time", "/etc/shadow", |tree, _| {
        let day = EPOCH / 86_400 + 1;
        tree.replace("etc/shadow", "redis:!*:20000", &format!("redis:!*:{day}"));
    }),
    ("unexpected-listener", LINKS, |tree, _| {
        tree.unit(
            "rpcbind.socket",
            "[Socket]\nListenStream=/run/rpcbind.sock\nListenStream=0.0.0.0:111\n",
        );
        tree.enable("rpcbind.socket", "sockets.target");
    }),
    ("unexpected-listener", LINKS, |tree, _| {
        tree.unit("nginx.service", "[Service]\nExecStart=/usr/sbin/nginx\n");
        tree.enable("nginx.service", "multi-user.target");
    }),
    ("unexpected-listener", LINKS, |tree, _| {
        tree.unit(
            "postgresql@.service",
            "[Service]\nExecStart=/usr/bin/pg_ctlcluster\n",
        );
        tree.link(
            "etc/systemd/system/multi-user.target.wants/postgresql@17-main.service",
            "/lib/systemd/system/postgresql@.service",
        );
    }),
    (
        "role-manifest",
        "/usr/lib/rolesmith/roles/edge.json",
        |_, expected| expected.roles.push("edge".into()),
    ),
    (
        "role-manifest",
        "/usr/lib/rolesmith/roles/app.json",
        |tree, _| {
            tree.file(
                "usr/lib/rolesmith/roles/app.json",
                &manifest("app", &["rolesmith-redis.service"]),
            );
        },
    ),
    (
        "role-manifest",
        "/usr/lib/rolesmith/roles/app.json",
        |tree, _| tree.file("usr/lib/rolesmith/roles/app.json", "{"),
    ),
    (
        "role-unit",
        "/usr/lib/rolesmith/roles/redis.json",
        |tree, _| {
            tree.remove("etc/systemd/system/multi-user.target.wants/rolesmith-redis.service");
        },
    ),
    (
        "role-unit",
        "/usr/lib/rolesmith/roles/redis.json",
        |tree, _| tree.remove("usr/lib/systemd/system/rolesmith-redis.service"),
    ),
    (
        "role-unit",
        "/usr/lib/rolesmith/roles/redis.json",
        |tree, _| {
            tree.link("etc/systemd/system/rolesmith-redis.service", "/dev/null");
        },
    ),
    (
        "unit-mask",
        "/etc/systemd/system/redis-server.service",
        |tree, _| tree.remove("etc/systemd/system/redis-server.service"),
    ),
    ("early-start", LINKS, |tree, _| {
        tree.replace(REDIS, "ConditionPathExists", "Documentation");
    }),
    ("early-start", LINKS, |tree, _| {
        // A condition that is met on every machine.
        tree.replace(REDIS, "conf/redis/redis.conf", "roles/redis");
    }),
    ("early-start", LINKS, |tree, _| {
        // A drop-in that takes it back.
        tree.file(
            "etc/systemd/system/rolesmith-redis.service.d/any.conf",
            "[Unit]\nConditionPathExists=\n",
        );
    }),
    ("ssh", UNITS, |tree, _| {
        tree.remove("etc/systemd/system/multi-user.target.wants/ssh.service")
    }),
    ("mount-point", "/dev", |tree, _| tree.remove("dev")),
    ("fstab", "/etc/fstab", |tree, _| tree.remove("etc/fstab")),
    ("fstab", "/etc/fstab", |tree, _| {
        tree.replace("etc/fstab", " / ", " /srv ")
    }),
    ("fstab", "/etc/fstab", |tree, _| {
        tree.replace("etc/fstab", "UUID=8986", "UUID=0000")
    }),
    ("fstab", "/etc/fstab", |tree, _| {
        tree.replace("etc/fstab", "UUID=1A2B-3C4D", "/dev/vda2")
    }),
    ("fstab", "/etc/fstab", |tree, _| {
        tree.replace("etc/fstab", " / ext4 rw 0 1", " /")
    }),
    ("kernel", "/boot/initrd.img-", |tree, _| {
        // The link to it is a file of its own, so that one thing is wrong.
        tree.file("initrd.img", "initrd");
        tree.remove("boot/initrd.img-6.12.1-cloud-amd64");
    }),
    ("kernel", "/usr/lib/modules/", |tree, _| {
        tree.remove("usr/lib/modules/6.12.1-cloud-amd64")
    }),
    ("kernel", "/boot", |tree, _| {
        tree.file("vmlinuz", "kernel");
        tree.remove("boot/vmlinuz-6.12.1-cloud-amd64");
    }),
    ("boot-loader", "/boot/grub/grub.cfg", |tree, _| {
        tree.remove(GRUB)
    }),
    ("boot-loader", "/boot/grub/grub.cfg", |tree, _| {
        tree.replace(GRUB, "root=UUID=8986", "root=UUID=0000")
    }),
    ("boot-loader", "/boot/grub/grub.cfg", |tree, _| {
        tree.replace(GRUB, "--set=root 8986", "--set=root 0000")
    }),
    ("boot-loader", "/boot/grub/grub.cfg", |tree, _| {
        tree.replace(GRUB, "initrd /initrd.img", "initrd /initrd.gz")
    }),
    ("boot-loader", "/boot/grub/grub.cfg", |tree, _| {
        tree.replace(GRUB, "    linux ", "    # ")
    }),
    (
        "boot-loader",
        "/boot/grub/x86_64-efi/normal.mod",
        |tree, _| tree.remove("boot/grub/x86_64-efi/normal.mod"),
    ),
    ("serial-console", "/boot/grub/grub.cfg", |tree, _| {
        tree.replace(GRUB, "console=ttyS0,115200", "quiet")
    }),
    // The other one would be /dev/console.
    ("serial-console", "/etc/default/grub", |tree, _| {
        tree.replace(
            "etc/default/grub",
            "console=tty0 console=ttyS0,115200",
            "console=ttyS0,115200 console=tty0",
        );
    }),
    ("serial-console", UNITS, |tree, _| {
        tree.link("etc/systemd/system/serial-getty@.service", "/dev/null")
    }),
    (
        "data-sources",
        "/etc/cloud/cloud.cfg.d/90_image.cfg",
        |tree, _| {
            tree.replace(
                "etc/cloud/cloud.cfg.d/90_image.cfg",
                "ConfigDrive, NoCloud",
                "NoCloud, ConfigDrive",
            );
        },
    ),
    (
        "data-sources",
        "/etc/cloud/cloud.cfg.d/90_image.cfg",
        |tree, _| {
            tree.file(
                "etc/cloud/cloud.cfg.d/90_image.cfg",
                "datasource_list:\n  - ConfigDrive\n  - NoCloud\n  - None\n",
            );
        },
    ),
    (
        "data-sources",
        "/etc/cloud/cloud.cfg.d/95_later.cfg",
        |tree, _| {
            tree.file(
                "etc/cloud/cloud.cfg.d/95_later.cfg",
                "datasource_list: [ Ec2 ]\n",
            );
        },
    ),
    ("data-sources", "/etc/cloud/cloud.cfg.d", |tree, _| {
        tree.remove("etc/cloud/cloud.cfg.d/90_image.cfg")
    }),
    ("cloud-init", "/etc/cloud/cloud-init.disabled", |tree, _| {
        tree.file("etc/cloud/cloud-init.disabled", "")
    }),
    ("cloud-init", "/usr/bin/growpart", |tree, _| {
        tree.remove("usr/bin/growpart")
    }),
    ("cloud-init", UNITS, |tree, _| {
        tree.remove("etc/systemd/system/cloud-init.target.wants/cloud-final.service")
    }),
];

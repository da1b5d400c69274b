//! What belongs to one machine: the one that baked, or one that has run.

use super::{Kind, Lint, Look};

pub(super) const LINTS: &[Lint] = &[
    Lint {
        name: "machine-id",
        rule: "/etc/machine-id is an empty file, and D-Bus has none of its own",
        why: "Machines with one id get one address by DHCP and mix up their journals. Empty, and not absent, makes systemd fill it in at the first boot (machine-id(5)).",
        help: "empty /etc/machine-id and link /var/lib/dbus/machine-id to it, as the last thing that is done to the tree",
        check: machine_id,
    },
    Lint {
        name: "ssh-host-key",
        rule: "there are no ssh host keys",
        why: "Whoever has the image could pass for every machine that boots from it. The seed brings a key, or cloud-init makes one.",
        help: "remove /etc/ssh/ssh_host_*",
        check: ssh_host_key,
    },
    Lint {
        name: "random-seed",
        rule: "there is no saved random seed or host secret",
        why: "Machines that begin with the same seed may make the same keys.",
        help: "remove /var/lib/systemd/random-seed and credential.secret",
        check: random_seed,
    },
    Lint {
        name: "cloud-init-state",
        rule: "cloud-init has never run",
        why: "With an instance of its own in /var/lib/cloud it takes the first boot for a later one and leaves out what it does once.",
        help: "remove everything below /var/lib/cloud (cloud-init clean --logs)",
        check: |look| {
            look.say_all(
                look.tree.files_below("var/lib/cloud"),
                "state of an instance of cloud-init",
            );
        },
    },
    Lint {
        name: "node-identity",
        rule: "it is no node: no identity, no secrets, no configuration of a node, no state of the agent",
        why: "An image is the same for all; who a machine is comes with its seed. Two machines with one identity refuse each other.",
        help: "bake from packages alone; nothing may be enrolled in the tree",
        check: node_identity,
    },
    Lint {
        name: "sentinel-id",
        rule: "no configuration has a Sentinel's own id",
        why: "Sentinels with the same myid count as one, so that a majority is never reached.",
        help: "remove the configuration that a running Sentinel wrote",
        check: sentinel_id,
    },
    Lint {
        name: "redis-data",
        rule: "Redis has no data",
        why: "A node would offer old keys to its fleet, or be the one that has the newest.",
        help: "remove what is below /var/lib/redis; no Redis may run while the image is made",
        check: |look| {
            for path in ["var/lib/redis", "var/lib/rolesmith-redis"] {
                look.say_all(look.tree.files_below(path), "data of Redis");
            }
        },
    },
    Lint {
        name: "postgresql-cluster",
        rule: "PostgreSQL has no cluster",
        why: "Nodes get theirs from the primary or found it once; clusters from one image have the same system identifier and would take each other's WAL.",
        help: "set create_main_cluster = false in /etc/postgresql-common/createcluster.d before the server's package is installed",
        check: postgresql_cluster,
    },
    Lint {
        name: "fleet-secret",
        rule: "no file holds a secret of the fleet",
        why: "Images are copied, uploaded and kept; secrets reach a node in its seed and no other way.",
        help: "find out which package or file brought it; take the secret out and replace it, since it was shipped",
        check: |look| {
            for (path, found) in look.tree.leaks() {
                look.say(path, found);
            }
        },
    },
    Lint {
        name: "private-key",
        rule: "/etc and the homes of users hold no private key",
        why: "A key that is on every machine proves nothing about any of them.",
        help: "remove the key; ssl-cert's snakeoil key is made again by make-ssl-cert",
        check: private_key,
    },
    Lint {
        name: "log",
        rule: "/var/log has no files",
        why: "They tell of the machine that baked, differ from build to build, and would be shipped to the log servers.",
        help: "remove the files below /var/log, and leave the directories",
        check: |look| {
            // systemd's README is a link.
            let files = look
                .tree
                .below("var/log")
                .filter(|(_, entry)| entry.is_file());
            look.say_all(
                files.map(|(path, _)| path),
                "a log from before the first boot",
            );
        },
    },
    Lint {
        name: "transient-file",
        rule: "/run, /tmp, /var/tmp, /dev, /proc and /sys are empty",
        why: "They are mounted over or emptied at boot; what is in them are traces of the building.",
        help: "remove them when the packages are installed",
        check: |look| {
            for place in ["run", "tmp", "var/tmp", "dev", "proc", "sys"] {
                look.say_all(
                    look.tree.files_below(place),
                    "a file of the time of building",
                );
            }
        },
    },
    Lint {
        name: "host-name",
        rule: "it has no name and no resolver of the machine that baked",
        why: "mmdebstrap lends the tree /etc/hostname and /etc/resolv.conf; machines would have the builder's name and ask its name servers.",
        help: "remove /etc/hostname, and link /etc/resolv.conf to ../run/systemd/resolve/stub-resolv.conf",
        check: host_name,
    },
    Lint {
        name: "history",
        rule: "nobody has worked in it",
        why: "Histories of shells and tools hold commands, names and sometimes passwords.",
        help: "remove the file",
        check: history,
    },
];

fn machine_id(look: &mut Look<'_>) {
    match look.tree.get("etc/machine-id") {
        Some(entry) if entry.kind == Kind::File && entry.size == 0 => {}
        Some(_) => look.say("etc/machine-id", "it is not an empty file"),
        None => look.say("etc/machine-id", "it is missing"),
    }
    let path = "var/lib/dbus/machine-id";
    match look.tree.get(path).map(|entry| &entry.kind) {
        None => {}
        Some(Kind::Symlink(target)) if target == "/etc/machine-id" => {}
        Some(_) => look.say(path, "it is not a link to /etc/machine-id"),
    }
}

fn ssh_host_key(look: &mut Look<'_>) {
    let keys = look.tree.files_below("etc/ssh");
    look.say_all(
        keys.filter(|path| path.starts_with("etc/ssh/ssh_host_")),
        "a host key",
    );
}

fn random_seed(look: &mut Look<'_>) {
    for path in [
        "var/lib/systemd/random-seed",
        "var/lib/systemd/credential.secret",
        "var/lib/urandom/random-seed",
        "boot/loader/random-seed",
        "boot/efi/loader/random-seed",
    ] {
        if look.tree.get(path).is_some() {
            look.say(path, "a seed that all machines would share");
        }
    }
}

/// What packages leave below /var/lib/rolesmith: nothing of it depends on the node.
const OF_PACKAGES: [&str; 3] = ["masks/", "roles/", "pooler/"];

fn node_identity(look: &mut Look<'_>) {
    // No package ships anything there: a seed does, or a person.
    look.say_all(
        look.tree.files_below("etc/rolesmith"),
        "an identity, or what comes with one",
    );
    let state = "var/lib/rolesmith/";
    let of_a_node = look.tree.files_below("var/lib/rolesmith").filter(|path| {
        let rest = &path[state.len()..];
        !OF_PACKAGES
            .iter()
            .any(|directory| rest.starts_with(directory))
    });
    look.say_all(of_a_node, "state of a node");
}

fn sentinel_id(look: &mut Look<'_>) {
    for (path, _) in look.tree.iter().filter(|(path, _)| path.ends_with(".conf")) {
        let Some(text) = look.tree.text(path) else {
            continue;
        };
        let has = text
            .lines()
            .any(|line| line.split_whitespace().take(2).eq(["sentinel", "myid"]));
        if has {
            look.say(path, "a Sentinel has written its id here");
        }
    }
}

fn postgresql_cluster(look: &mut Look<'_>) {
    for (path, entry) in look.tree.iter() {
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["etc", "postgresql", version, name] if entry.is_directory() => {
                look.say(
                    path,
                    format!("the configuration of the cluster {version}/{name}"),
                );
            }
            ["var", "lib", "postgresql", .., "PG_VERSION"] if parts.len() == 6 => {
                look.say(path, "the data of a cluster");
            }
            _ => {}
        }
    }
}

fn private_key(look: &mut Look<'_>) {
    for (path, _) in look.tree.below("etc") {
        let text = look.tree.text(path).unwrap_or_default();
        // A line of its own: programs that handle keys have the words in their texts.
        let key = text.lines().any(|line| {
            line.starts_with("-----BEGIN ")
                && (line.ends_with("PRIVATE KEY-----") || line.ends_with("PRIVATE KEY BLOCK-----"))
        });
        if key {
            look.say(path, "a private key");
        }
    }
    for (path, _) in look.tree.iter().filter(|(path, _)| in_a_home(path)) {
        let name = path.rsplit('/').next().unwrap_or(path);
        if path.contains("/.ssh/") && name.starts_with("id_") && !name.ends_with(".pub") {
            look.say(path, "a private key");
        }
    }
}

fn in_a_home(path: &str) -> bool {
    path.starts_with("root/") || path.starts_with("home/")
}

fn host_name(look: &mut Look<'_>) {
    if look
        .tree
        .text("etc/hostname")
        .is_some_and(|name| !name.trim().is_empty())
    {
        look.say("etc/hostname", "a name that all machines would share");
    }
    let path = "etc/resolv.conf";
    match look.tree.get(path).map(|entry| &entry.kind) {
        None => {}
        Some(Kind::Symlink(target)) if target.contains("run/systemd/resolve/") => {}
        Some(Kind::Symlink(target)) => {
            let reason =
                format!("it leads to {target}, and systemd-resolved is what resolves names");
            look.say(path, reason);
        }
        Some(_) => look.say(path, "name servers of the machine that baked"),
    }
}

fn history(look: &mut Look<'_>) {
    const NAMES: [&str; 6] = [
        ".bash_history",
        ".lesshst",
        ".psql_history",
        ".python_history",
        ".viminfo",
        ".wget-hsts",
    ];
    let homes = look.tree.iter().map(|(path, _)| path);
    let found = homes.filter(|path| {
        (in_a_home(path) || path.starts_with("var/lib/"))
            && path
                .rsplit('/')
                .next()
                .is_some_and(|name| NAMES.contains(&name))
    });
    look.say_all(found, "traces of somebody's work");
}

//! What starts by itself, and what may listen.

use rolesmith_model::manifest::Start;

use super::{
    Lint, Look,
    units::{self, State},
};

pub(super) const LINTS: &[Lint] = &[
    Lint {
        name: "unexpected-listener",
        rule: "no service or socket that listens on the network starts, unless a role asked for it",
        why: "What listens can be attacked, from the first boot on and before the firewall's rules come. Only ssh is there without a role.",
        help: "disable it, or let a role name it under `units`; `systemctl mask` for what a package always enables",
        check: unexpected_listener,
    },
    Lint {
        name: "role-manifest",
        rule: "the manifests in the tree are those of the image's roles",
        why: "The agent learns from them what to start; a role without one is never applied.",
        help: "publish the fleet's packages and bake again",
        check: role_manifest,
    },
    Lint {
        name: "role-unit",
        rule: "every unit of the roles is there and is enabled, unless it says that something else starts it",
        why: "After a reboot only what is enabled starts.",
        help: "see whether the package that brings the unit is installed, and whether its postinst ran (deb-systemd-helper enable)",
        check: role_unit,
    },
    Lint {
        name: "unit-mask",
        rule: "units that the roles mask are masked",
        why: "The roles run instances of their own; Debian's would take their ports and their data.",
        help: "mask them before the packages are installed, as a seed does",
        check: |look| {
            for unit in &look.expected.masked {
                if units::state(look.tree, unit) != State::Masked {
                    look.say(&format!("etc/systemd/system/{unit}"), "it is not masked");
                }
            }
        },
    },
    Lint {
        name: "early-start",
        rule: "what needs to know who the machine is starts only when it does",
        why: "Nothing may join, listen or found a cluster before a seed is there. The unit's own condition keeps it back, whoever starts it.",
        help: "add ConditionPathExists= with a file of the node to the unit, such as its file below /var/lib/rolesmith/conf",
        check: early_start,
    },
    Lint {
        name: "ssh",
        rule: "sshd is installed and enabled",
        why: "It is the way in when nothing else works, and providers ask for it of custom images.",
        help: "install openssh-server and leave ssh.service or ssh.socket enabled",
        check: |look| {
            let enabled = units::enabled(look.tree);
            if !enabled.contains_key("ssh.service") && !enabled.contains_key("ssh.socket") {
                look.say("usr/lib/systemd/system/ssh.service", "nothing starts it");
            }
        },
    },
];

/// Services that are known to listen on the network, without suffix and instance.
///
/// postgresql.service is not among them: it starts clusters, of which there are none.
const LISTENERS: &[&str] = &[
    "apache2",
    "avahi-daemon",
    "bind9",
    "caddy",
    "cassandra",
    "consul",
    "cups",
    "dnsmasq",
    "docker",
    "dovecot",
    "etcd",
    "exim4",
    "gunicorn",
    "haproxy",
    "inetd",
    "isc-dhcp-server",
    "kea-dhcp4-server",
    "lighttpd",
    "mariadb",
    "memcached",
    "mongod",
    "mosquitto",
    "munin-node",
    "mysql",
    "named",
    "nfs-server",
    "nginx",
    "nmbd",
    "nrpe",
    "ntpsec",
    "openvpn",
    "pgbouncer",
    "postfix",
    "postgresql@",
    "prometheus",
    "prometheus-node-exporter",
    "proftpd",
    "rabbitmq-server",
    "redis-sentinel",
    "redis-server",
    "redis",
    "rpcbind",
    "smbd",
    "snmpd",
    "squid",
    "stunnel4",
    "systemd-journal-gatewayd",
    "systemd-journal-remote",
    "tftpd-hpa",
    "tinyproxy",
    "unbound",
    "valkey-sentinel",
    "valkey-server",
    "varnish",
    "vsftpd",
    "xinetd",
];

/// Whether an address of a socket unit is reached over a network (ListenStream= in systemd.socket(5)).
fn is_network(address: &str) -> bool {
    !address.starts_with(['/', '@', '%']) && !address.starts_with("vsock:")
}

fn unexpected_listener(look: &mut Look<'_>) {
    let asked = units::of_roles(look.tree);
    let enabled = units::enabled(look.tree);
    for (unit, links) in &enabled {
        let Some((stem, kind)) = unit.rsplit_once('.') else {
            continue;
        };
        let service = format!("{stem}.service");
        if stem == "ssh" || asked.contains(unit) || asked.contains(&service) {
            continue;
        }
        let reason = match kind {
            "socket" => ["ListenStream", "ListenDatagram", "ListenSequentialPacket"]
                .iter()
                .flat_map(|key| units::values(look.tree, unit, "Socket", key))
                .find(|address| is_network(address))
                .map(|address| format!("{unit} listens on {address}, and no role asked for it")),
            "service" => {
                let name = stem.split_inclusive('@').next().unwrap_or(stem);
                let known =
                    LISTENERS.contains(&name) || LISTENERS.contains(&name.trim_end_matches('@'));
                known.then(|| format!("{unit} listens, and no role asked for it"))
            }
            _ => None,
        };
        if let (Some(reason), Some(link)) = (reason, links.first()) {
            look.say(link, reason);
        }
    }
}

fn role_manifest(look: &mut Look<'_>) {
    let manifests = units::manifests(look.tree);
    for (path, manifest) in &manifests {
        match manifest {
            Err(error) => look.say(path, error.clone()),
            Ok(manifest) if !look.expected.roles.contains(&manifest.role) => {
                look.say(path, format!("the image has no role {}", manifest.role));
            }
            Ok(_) => {}
        }
    }
    for role in &look.expected.roles {
        let path = format!("usr/lib/rolesmith/roles/{role}.json");
        if !manifests.contains_key(&path) {
            look.say(&path, "it is missing, and the image has that role");
        }
    }
}

fn role_unit(look: &mut Look<'_>) {
    let enabled = units::enabled(look.tree);
    for (path, manifest) in units::manifests(look.tree) {
        let Ok(manifest) = manifest else {
            continue;
        };
        for unit in manifest.units {
            let reason = match units::state(look.tree, &unit.name) {
                State::Absent => "is not there",
                State::Masked => "is masked",
                State::Present
                    if unit.start != Start::Never
                        && units::can_be_enabled(look.tree, &unit.name)
                        && !enabled.contains_key(&unit.name) =>
                {
                    "is not enabled"
                }
                State::Present => continue,
            };
            look.say(
                &path,
                format!("{} of the role {} {reason}", unit.name, manifest.role),
            );
        }
    }
}

/// Keys whose condition fails where a file of the node is missing (systemd.unit(5)).
const CONDITIONS: [&str; 6] = [
    "ConditionPathExists",
    "ConditionPathIsDirectory",
    "ConditionDirectoryNotEmpty",
    "ConditionFileNotEmpty",
    "AssertPathExists",
    "AssertFileNotEmpty",
];

/// What a path unit waits for (systemd.path(5)).
const TRIGGERS: [&str; 4] = [
    "PathExists",
    "PathChanged",
    "PathModified",
    "DirectoryNotEmpty",
];

/// Where files of a node are.
const OF_A_NODE: [&str; 3] = ["/etc/rolesmith/", "/var/lib/rolesmith/", "/run/rolesmith"];

fn early_start(look: &mut Look<'_>) {
    let enabled = units::enabled(look.tree);
    for manifest in units::manifests(look.tree).into_values().flatten() {
        for unit in manifest.units {
            // Groups of units do nothing themselves, and Debian's own services know nothing of a fleet.
            let acts = [".service", ".socket", ".timer", ".path"]
                .iter()
                .any(|kind| unit.name.ends_with(kind));
            let late = unit.own && acts && unit.start == Start::Enrolled;
            let Some(link) = enabled
                .get(&unit.name)
                .and_then(|links| links.first())
                .filter(|_| late)
            else {
                continue;
            };
            let conditions = CONDITIONS
                .iter()
                .flat_map(|key| units::values(look.tree, &unit.name, "Unit", key));
            let triggers = TRIGGERS
                .iter()
                .flat_map(|key| units::values(look.tree, &unit.name, "Path", key));
            let mut awaited = conditions
                .chain(triggers)
                .filter(|path| OF_A_NODE.iter().any(|place| path.starts_with(place)));
            let reason = match awaited.next() {
                None => format!(
                    "{} starts at the first boot: it waits for no file of the node",
                    unit.name
                ),
                Some(path) if look.tree.resolve(&path[1..]).is_some() => {
                    format!("{} waits for {path}, which is there already", unit.name)
                }
                Some(_) => continue,
            };
            look.say(link, reason);
        }
    }
}

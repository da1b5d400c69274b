//! The machine itself: what it runs, who it is, how it is doing.

use super::{
    Conflict, Expectations, Probe,
    Weight::{Blocks, Impossible, Note},
    add,
};
use crate::enroll::probe::Enrolled;

/// MiB that packages of all roles need, with some room for logs.
const ROOM: u64 = 2_048;
/// Seconds by which the clocks may differ. apt refuses a Release file from the future after 10 (Acquire::Max-FutureTime).
const CLOCK: u64 = 10;

pub(super) fn find(probe: &Probe, wanted: &Expectations, found: &mut Vec<Conflict>) {
    system(probe, wanted, found);
    identity(probe, wanted, found);
    state(probe, wanted, found);
    address(probe, wanted, found);
}

fn system(probe: &Probe, wanted: &Expectations, found: &mut Vec<Conflict>) {
    if probe.distribution != "debian" {
        add(
            found,
            "distribution",
            Impossible,
            format!("the machine runs {}, not Debian", probe.distribution),
            "the fleet's packages depend on Debian's, in the versions that Debian has",
            format!(
                "install Debian {} on it, or take another machine",
                wanted.suite
            ),
        );
    } else if probe.suite != wanted.suite.codename() {
        let suite = if probe.suite.is_empty() {
            "testing or unstable"
        } else {
            &probe.suite
        };
        add(
            found,
            "suite",
            Impossible,
            format!(
                "the machine runs Debian {suite}, the fleet {}",
                wanted.suite
            ),
            format!(
                "the fleet's packages depend on those of {}; apt would refuse them",
                wanted.suite
            ),
            format!(
                "upgrade the machine to {} (Debian's release notes say how), or change `suite` in fleet.toml for the whole fleet",
                wanted.suite
            ),
        );
    }
    if probe.architecture != "amd64" {
        add(
            found,
            "architecture",
            Impossible,
            format!("the machine's packages are for {}", probe.architecture),
            "the agent is built for amd64 alone",
            "take a machine with amd64",
        );
    }
    if !probe.systemd {
        add(
            found,
            "systemd",
            Impossible,
            "systemd is not the init that runs",
            "neither the agent nor any service of a role would start",
            "install systemd-sysv and reboot; a container without an init cannot be a node",
        );
    }
}

fn identity(probe: &Probe, wanted: &Expectations, found: &mut Vec<Conflict>) {
    match &probe.enrolled {
        Enrolled::No => {}
        Enrolled::Unreadable => add(
            found,
            "other-identity",
            Blocks,
            "/etc/rolesmith/node.json is there and is no identity",
            "whose machine this is cannot be told; it becomes this node, and whatever it was before is forgotten",
            "look at the file; move it away if nothing needs it",
        ),
        Enrolled::As(identity)
            if identity.fleet != wanted.fleet || identity.node != wanted.node =>
        {
            add(
                found,
                "other-identity",
                Blocks,
                format!(
                    "the machine is the node {} of the fleet {}",
                    identity.node, identity.fleet
                ),
                format!(
                    "its key and identity are overwritten, so that the fleet {} loses this member with the data that it holds",
                    identity.fleet
                ),
                format!(
                    "take {} out of that fleet first and purge its packages, or enroll another machine",
                    identity.node
                ),
            )
        }
        Enrolled::As(identity) if identity.incarnation > wanted.incarnation => add(
            found,
            "other-identity",
            Blocks,
            format!(
                "the machine is incarnation {} of {}, newer than {} which these secrets know",
                identity.incarnation, identity.node, wanted.incarnation
            ),
            "the node goes back to an identity that its fleet may have replaced, and is refused by the other members",
            "use the secrets directory that made the newer identity",
        ),
        Enrolled::As(identity) => add(
            found,
            "enrolled",
            Note,
            format!(
                "the machine is {} already (incarnation {})",
                identity.node, identity.incarnation
            ),
            "only what differs is changed",
            "nothing to do",
        ),
    }
    if probe.hostname != wanted.node {
        add(
            found,
            "hostname",
            Blocks,
            format!(
                "the machine is called {}, the node {}",
                probe.hostname, wanted.node
            ),
            format!(
                "it is renamed to {}: prompts, mail, logs and monitoring that go by the old name meet the new one",
                wanted.node
            ),
            format!(
                "enroll it as the node it is called, as [nodes.{}] in fleet.toml, or accept the new name",
                probe.hostname
            ),
        );
    }
}

fn state(probe: &Probe, wanted: &Expectations, found: &mut Vec<Conflict>) {
    if let Some(process) = probe.dpkg_busy {
        add(
            found,
            "dpkg-busy",
            Impossible,
            format!("the process {process} holds dpkg's lock"),
            "nothing can be installed now",
            format!(
                "wait for it (`ps -fp {process}` on the machine says what it is; often unattended-upgrades), then run this again"
            ),
        );
    }
    if let Some(first) = probe.dpkg_broken.first() {
        add(
            found,
            "dpkg-broken",
            Blocks,
            format!("dpkg finds half-installed packages: {}", first.trim()),
            "apt tries to complete them together with the fleet's packages, and stops at the first that fails",
            "run `dpkg --audit` and `dpkg --configure -a` on the machine and mend what they name",
        );
    }
    let room = |path: &str| probe.free.get(path).is_some_and(|free| *free < ROOM);
    for path in ["/", "/usr", "/var"].into_iter().filter(|path| room(path)) {
        add(
            found,
            "disk",
            Blocks,
            format!("{} MiB are free on {path}", probe.free[path]),
            "packages, logs and data may fill the disk; a full disk stops the database",
            format!("make room: {ROOM} MiB is the least for a node"),
        );
    }
    // A machine of 1024 MiB shows about 960: the kernel keeps some for itself.
    if probe.memory * 10 < wanted.memory * 9 {
        add(
            found,
            "memory",
            Note,
            format!(
                "the machine has {} MiB of memory, fleet.toml says {}",
                probe.memory, wanted.memory
            ),
            "services take their share of what fleet.toml says; together they may be killed for want of memory",
            format!(
                "set `memory = {}` under [nodes.{}] in fleet.toml",
                probe.memory, wanted.node
            ),
        );
    }
    let off = probe.time.abs_diff(wanted.now);
    if off > CLOCK && probe.synchronised != Some(true) {
        let side = if probe.time < wanted.now {
            "behind"
        } else {
            "ahead of"
        };
        add(
            found,
            "clock",
            Blocks,
            format!(
                "the machine's clock is {off} s {side} this computer's and follows no time server"
            ),
            "apt refuses a repository that was signed in its future, and TLS a certificate that is not valid yet",
            "set the clock (`timedatectl set-ntp true` on the machine), or this computer's if that one is wrong",
        );
    }
    let managers = ["puppet", "salt-minion", "chef-client", "cfengine3"];
    let running: Vec<_> = managers
        .into_iter()
        .filter(|name| probe.is_active(&format!("{name}.service")))
        .map(ToOwned::to_owned)
        .chain(
            probe
                .managers
                .iter()
                .filter_map(|trace| trace.strip_prefix("ansible-pull "))
                .map(|file| format!("ansible-pull ({file})")),
        )
        .collect();
    let traces: Vec<_> = probe
        .managers
        .iter()
        .filter_map(|trace| trace.strip_prefix("directory "))
        .collect();
    if !running.is_empty() {
        add(
            found,
            "management",
            Blocks,
            format!(
                "{} manages this machine's configuration",
                super::list(running)
            ),
            "two masters change the same files: what one sets the other takes back, sshd and the firewall among it",
            "stop it on this machine, or exclude ssh, the firewall, apt's sources and the services of the node's roles from it",
        );
    } else if !traces.is_empty() {
        add(
            found,
            "management",
            Note,
            format!(
                "there are traces of another configuration management: {}",
                super::list(traces)
            ),
            "if it is run from elsewhere, it and the fleet's packages change the same files",
            "make sure that it leaves this machine alone from now on",
        );
    }
    let foreign =
        |entry: &str| entry.rsplit_once(':').map_or(entry, |(file, _)| file) != wanted.sources_file;
    let own = |url: &str| url.trim_end_matches('/') == wanted.repository.trim_end_matches('/');
    if let Some((entry, _)) = probe
        .sources
        .iter()
        .find(|(entry, url)| own(url) && foreign(entry))
    {
        add(
            found,
            "repository",
            Impossible,
            format!("{entry} names the fleet's repository already"),
            "two entries for one repository with different Signed-By make apt refuse to read its sources at all",
            format!("remove that entry; {} takes its place", wanted.sources_file),
        );
    }
}

fn address(probe: &Probe, wanted: &Expectations, found: &mut Vec<Conflict>) {
    let interface = &wanted.private_interface;
    let there = |name: &str| probe.addresses.iter().any(|(found, _)| found == name);
    let inside: Vec<_> = probe
        .addresses
        .iter()
        .filter_map(|(name, address)| match address {
            std::net::IpAddr::V4(v4) if wanted.private.has_host(*v4) => Some((name, *v4)),
            _ => None,
        })
        .collect();
    let seen = inside
        .iter()
        .map(|(name, address)| format!("{address} on {name}"));
    let seen = if inside.is_empty() {
        format!("it has no address in {}", wanted.private)
    } else {
        format!("it has {}", super::list(seen))
    };
    if !there(interface) || inside.iter().all(|(name, _)| *name != interface) {
        add(
            found,
            "interface",
            Blocks,
            format!("the machine has no address of the private network on {interface}; {seen}"),
            "the firewall lets other members in on that interface alone, so this node would hear none of them",
            match inside.first() {
                Some((name, _)) => format!(
                    "set `private_interface = \"{name}\"` under [network] in fleet.toml, if all nodes call it so, or rename the interface (systemd.link(5))"
                ),
                None => format!("attach the machine to {} first", wanted.private),
            },
        );
    } else if let Some(address) = wanted
        .address
        .filter(|address| inside.iter().all(|(_, seen)| seen != address))
    {
        add(
            found,
            "address",
            Blocks,
            format!(
                "fleet.toml says that {} has the address {address}; {seen}",
                wanted.node
            ),
            "services that bind to the address do not start, and the other members look for the node in the wrong place",
            format!(
                "run `rolesmith record {} ADDRESS` with the machine's address, then publish",
                wanted.node
            ),
        );
    } else if wanted.address.is_none() {
        add(
            found,
            "address",
            Note,
            format!(
                "fleet.toml does not know the address of {}; {seen}",
                wanted.node
            ),
            "the other members cannot find the node until it does",
            format!(
                "run `rolesmith record {} ADDRESS`, then publish",
                wanted.node
            ),
        );
    }
}

//! Who gets in, and how: nobody may be locked out unawares.

use super::{
    Conflict, Expectations, Probe,
    Weight::{Blocks, Note},
    add, list,
};

pub(super) fn find(probe: &Probe, wanted: &Expectations, found: &mut Vec<Conflict>) {
    ports(probe, wanted, found);
    passwords(probe, wanted, found);
    settings(probe, wanted, found);
}

fn ports(probe: &Probe, wanted: &Expectations, found: &mut Vec<Conflict>) {
    let ports = &probe.ssh.ports;
    if ports.is_empty() || ports.contains(&wanted.ssh_port) {
        return;
    }
    let now = list(ports.iter().map(u16::to_string));
    add(
        found,
        "ssh-port",
        Blocks,
        format!(
            "sshd listens on port {now}, fleet.toml says {}",
            wanted.ssh_port
        ),
        format!(
            "sshd listens on {} too, and the firewall closes {now}: whoever comes by the old port is locked out",
            wanted.ssh_port
        ),
        format!(
            "set `ssh_port = {}` under [nodes.{}] in fleet.toml, or move sshd first",
            ports[0], wanted.node
        ),
    );
}

fn passwords(probe: &Probe, wanted: &Expectations, found: &mut Vec<Conflict>) {
    let ssh = &probe.ssh;
    let locked_out: Vec<&str> = probe
        .accounts
        .iter()
        .filter(|account| account.password && !account.keys)
        .filter(|account| match account.uid {
            // The fleet's keys are put for root.
            0 => ssh.root_passwords && wanted.admin_keys == 0,
            _ => ssh.passwords,
        })
        .map(|account| account.name.as_str())
        .collect();
    if !locked_out.is_empty() {
        let (names, first) = (list(locked_out.iter().copied()), locked_out[0]);
        add(
            found,
            "password-login",
            Blocks,
            format!(
                "{names} can log in by password and {} no ssh key",
                if locked_out.len() == 1 { "has" } else { "have" }
            ),
            format!("a node's sshd takes keys only: {names} can no longer log in over ssh"),
            format!(
                "put a public key into the account first (`ssh-copy-id {first}@…`), or accept that it stays out"
            ),
        );
    }
    if wanted.admin_keys == 0 && !probe.accounts.iter().any(|account| account.keys) {
        add(
            found,
            "no-ssh-key",
            Blocks,
            "no account of the machine has an ssh key, and fleet.toml names none",
            "a node's sshd takes keys only: nobody could log in over ssh",
            "set `admin_ssh_keys` under [network] in fleet.toml",
        );
    }
}

fn settings(probe: &Probe, wanted: &Expectations, found: &mut Vec<Conflict>) {
    let ssh = &probe.ssh;
    if !ssh.ports.is_empty() && !ssh.includes {
        add(
            found,
            "ssh-include",
            Note,
            "/etc/ssh/sshd_config does not include /etc/ssh/sshd_config.d",
            "the fleet's settings for sshd (keys only, ciphers, its port) have no effect on this machine",
            "put `Include /etc/ssh/sshd_config.d/*.conf` on the file's first line, as Debian's own has it",
        );
    }
    let root = |line: &String| {
        line.split_whitespace()
            .skip(1)
            .any(|name| name.split('@').next() == Some("root"))
    };
    if wanted.admin_keys > 0 && !ssh.allowed.is_empty() && !ssh.allowed.iter().any(root) {
        add(
            found,
            "ssh-allow",
            Note,
            format!("sshd_config says `{}`, without root", ssh.allowed[0]),
            "the fleet's admin_ssh_keys are put into root's account, and sshd refuses root",
            "add root there, or go on logging in as those who are named and use sudo",
        );
    }
}

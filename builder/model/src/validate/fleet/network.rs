//! [network] and [discovery]

use std::{collections::BTreeSet, net::Ipv4Addr, str::FromStr as _};

use toml::Spanned;

use super::Check;
use crate::{
    facts::{AGENT_PORT, DigitalOcean, Discovery},
    finding::Place,
    fleet::Network,
    fleet_file::{DiscoveryEntry, NetworkEntry},
    network::Ipv4Network,
    validate::syntax,
};

impl Check<'_> {
    fn interface(&mut self, value: Option<&Spanned<String>>, default: &str) -> String {
        let Some(value) = value else {
            return default.into();
        };
        if !syntax::interface(value.get_ref()) {
            self.error(
                "fleet::interface",
                value.span(),
                format!(
                    "{:?} is not the name of a network interface",
                    value.get_ref()
                ),
                "at most 15 letters, digits, dots, hyphens and underscores",
                "see `ip link` on a node",
            );
        }
        value.get_ref().clone()
    }

    pub(super) fn network(&mut self, entry: &NetworkEntry) -> Option<Network> {
        let private = match Ipv4Network::from_str(entry.private.get_ref()) {
            Ok(net) => {
                if !net.is_private() {
                    self.error(
                        "fleet::network-public",
                        entry.private.span(),
                        format!("{net} is not a private network"),
                        "its addresses belong to somebody on the internet (RFC 1918, RFC 6598)",
                        "write the network that the provider gave the machines between themselves",
                    );
                }
                if !(8..=29).contains(&net.prefix()) {
                    self.error(
                        "fleet::network-size",
                        entry.private.span(),
                        format!("a /{} cannot be the fleet's private network", net.prefix()),
                        "prefixes from 8 to 29 have room for a fleet",
                        "write a network such as \"10.77.0.0/24\"",
                    );
                }
                Some(net)
            }
            Err(why) => {
                self.error(
                    "fleet::network",
                    entry.private.span(),
                    format!("{:?} is not a network: {why}", entry.private.get_ref()),
                    "not an IPv4 network in CIDR notation",
                    "write a network such as \"10.77.0.0/24\"",
                );
                None
            }
        };
        let private_interface = self.interface(entry.private_interface.as_ref(), "eth1");
        let public_interface = self.interface(entry.public_interface.as_ref(), "eth0");
        if private_interface == public_interface {
            let span = entry
                .private_interface
                .as_ref()
                .or(entry.public_interface.as_ref())
                .map_or(0..0, Spanned::span);
            self.error(
                "fleet::same-interface",
                span,
                format!("{private_interface} is both the public and the private interface"),
                "the firewall tells public from private traffic by its interface",
                "name the two interfaces that `ip link` shows on a node",
            );
        }
        let mut seen = BTreeSet::new();
        for key in &entry.admin_ssh_keys {
            if let Err(why) = syntax::ssh_public_key(key.get_ref()) {
                self.error(
                    "fleet::ssh-key",
                    key.span(),
                    format!("the key {why}"),
                    "not a line of authorized_keys",
                    "copy the one line of a .pub file, such as ~/.ssh/id_ed25519.pub",
                );
            } else if !seen.insert(key.get_ref()) {
                self.error(
                    "fleet::ssh-key-twice",
                    key.span(),
                    "the same key stands here twice".into(),
                    "a duplicate",
                    "remove one of them",
                );
            }
        }
        if entry.admin_ssh_keys.is_empty() {
            self.findings.warning(
                "fleet::no-ssh-key",
                Place::new(self.id, entry.private.span()),
                "admin_ssh_keys is empty: nobody can log in to the nodes",
                "sshd on nodes takes keys alone",
                "add the line of your ~/.ssh/id_ed25519.pub to [network] admin_ssh_keys",
            );
        }
        let load_balancer = entry
            .load_balancer
            .as_ref()
            .and_then(|lb| self.address(lb, private, "load balancer"));
        let agent_port = self.port("agent_port", entry.agent_port.as_ref(), AGENT_PORT);
        let edge_port = self.port("edge_port", entry.edge_port.as_ref(), 8443);
        Some(Network {
            private: private?,
            private_interface,
            public_interface,
            admin_ssh_keys: entry
                .admin_ssh_keys
                .iter()
                .map(|k| k.get_ref().clone())
                .collect(),
            load_balancer,
            agent_port,
            edge_port,
        })
    }

    pub(super) fn discovery(&mut self, entry: &DiscoveryEntry) -> Discovery {
        let digitalocean = entry.digitalocean.as_ref().map(|digitalocean| {
            let tag = &digitalocean.tag;
            if !syntax::tag(tag.get_ref()) {
                self.error(
                    "fleet::discovery-tag",
                    tag.span(),
                    format!("{:?} cannot be a tag at DigitalOcean", tag.get_ref()),
                    "not 1 to 255 letters, digits, hyphens, underscores and colons",
                    "write the tag that all droplets of the fleet have, such as \"acme\"",
                );
            }
            DigitalOcean {
                tag: tag.get_ref().clone(),
            }
        });
        Discovery {
            dns: entry.dns,
            digitalocean,
        }
    }

    pub(super) fn address(
        &mut self,
        text: &Spanned<String>,
        network: Option<Ipv4Network>,
        whose: &str,
    ) -> Option<Ipv4Addr> {
        let Ok(address) = text.get_ref().parse::<Ipv4Addr>() else {
            self.error(
                "fleet::address",
                text.span(),
                format!("{:?} is not an IPv4 address", text.get_ref()),
                "not four numbers from 0 to 255",
                format!("write the private address of the {whose}"),
            );
            return None;
        };
        if let Some(network) = network
            && !network.has_host(address)
        {
            self.error(
                "fleet::address-outside",
                text.span(),
                format!("{address} cannot be a host of the private network {network}"),
                "outside, or the network's own or broadcast address",
                format!("write the private address of the {whose}, or mend [network] private"),
            );
            return None;
        }
        Some(address)
    }
}

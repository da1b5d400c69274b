//! What a provider would tell a machine: its seed, its network and where it finds the repository. Pure.

use std::net::Ipv4Addr;

use rolesmith_formats::iso9660::{self, IsoError};
use serde_json::json;

use super::machine::{Nic, REPOSITORY};

pub use crate::execute::DataSource;

/// A node of a fleet that is to be booted.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Its name: its host name, too.
    pub node: String,
    /// Its fleet's name.
    pub fleet: String,
    /// What cloud-init tells machines apart by.
    pub instance_id: String,
    /// Its seed as `#cloud-config`, with the ssh key by which the test comes in.
    pub user_data: String,
    /// Port of its sshd.
    pub ssh_port: u16,
    /// Name of the interface to the world.
    pub public_interface: String,
    /// Name of the interface to the other nodes.
    pub private_interface: String,
    /// Its address there and the length of the network's prefix; nothing where none is known yet.
    pub private_address: Option<(Ipv4Addr, u8)>,
    /// MiB.
    pub memory: u32,
}

/// How a fleet's repository is reached from a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// The host of its URL.
    pub host: String,
    /// The port of its URL.
    pub port: u16,
    /// A command that answers one HTTP connection on its standard input, which is a socket.
    pub answer: Vec<std::ffi::OsString>,
}

impl Guest {
    /// The interfaces of the guest's machine, the `number`-th of all that share a private network: public, then private.
    pub(super) fn nics(&self, number: u8) -> (Nic, Nic) {
        let nic = |name: &str, network: u8| Nic {
            name: name.to_owned(),
            mac: format!("52:54:00:72:{network:02x}:{number:02x}"),
        };
        (
            nic(&self.public_interface, 0),
            nic(&self.private_interface, 1),
        )
    }

    /// The disk with all of it: an ISO 9660 image.
    ///
    /// Names of interfaces are bound to their hardware addresses, as providers do it: an image does not know how its kernel will
    /// call them.
    pub(super) fn seed(
        &self,
        source: DataSource,
        nics: &(Nic, Nic),
        repository: Option<&Repository>,
    ) -> Result<Vec<u8>, IsoError> {
        let vendor = repository.map(|repository| hosts(&repository.host));
        match source {
            DataSource::NoCloud => {
                let meta_data = format!(
                    "instance-id: {}\nlocal-hostname: {}\n",
                    self.instance_id, self.node
                );
                let network = self.network_config(nics);
                let mut files = vec![
                    ("meta-data", meta_data.as_bytes()),
                    ("network-config", network.as_bytes()),
                    ("user-data", self.user_data.as_bytes()),
                ];
                files.extend(vendor.iter().map(|text| ("vendor-data", text.as_bytes())));
                iso9660::image("cidata", &files)
            }
            DataSource::ConfigDrive => {
                let meta_data =
                    json!({ "uuid": self.instance_id, "hostname": self.node, "name": self.node });
                let network = self.network_data(nics);
                let vendor = vendor.map(|text| json!({ "cloud-init": text }).to_string());
                let (meta_data, network) = (meta_data.to_string(), network.to_string());
                let mut files = vec![
                    ("openstack/latest/meta_data.json", meta_data.as_bytes()),
                    ("openstack/latest/network_data.json", network.as_bytes()),
                    ("openstack/latest/user_data", self.user_data.as_bytes()),
                ];
                files.extend(
                    vendor
                        .iter()
                        .map(|text| ("openstack/latest/vendor_data.json", text.as_bytes())),
                );
                iso9660::image("config-2", &files)
            }
        }
    }

    /// cloud-init's network configuration, version 2.
    fn network_config(&self, (public, private): &(Nic, Nic)) -> String {
        let addresses = match self.private_address {
            Some((address, length)) => format!("\x20   addresses: [{address}/{length}]\n"),
            None => String::new(),
        };
        let ethernet = |nic: &Nic| {
            format!(
                "\x20 {0}:\n\x20   match: {{macaddress: '{1}'}}\n\x20   set-name: {0}\n",
                nic.name, nic.mac
            )
        };
        format!(
            "version: 2\nethernets:\n{}\x20   dhcp4: true\n{}{addresses}",
            ethernet(public),
            ethernet(private)
        )
    }

    /// OpenStack's network_data.json.
    fn network_data(&self, (public, private): &(Nic, Nic)) -> serde_json::Value {
        let link = |nic: &Nic| json!({ "id": nic.name, "name": nic.name, "type": "phy", "ethernet_mac_address": nic.mac });
        let mut networks =
            vec![json!({ "id": "public", "link": public.name, "type": "ipv4_dhcp" })];
        networks.extend(self.private_address.map(|(address, length)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            json!({ "id": "private", "link": private.name, "type": "ipv4",
                "ip_address": address, "netmask": Ipv4Addr::from(mask), "routes": [] })
        }));
        json!({ "links": [link(public), link(private)], "networks": networks, "services": [] })
    }
}

/// What a provider's vendor-data may say, and a seed need not know: the repository's name leads to where it is served. A boot hook
/// is run at each boot, before anything of the user-data.
fn hosts(host: &str) -> String {
    format!(
        "#cloud-boothook\n#!/bin/sh\ngrep -q ' {host}$' /etc/hosts || echo '{REPOSITORY} {host}' >>/etc/hosts\n"
    )
}

#[cfg(test)]
mod tests;

//! What the machine finds on its disk: who it is, its networks, and what its services read.

use std::net::Ipv4Addr;

use super::{Authority, NAME, Outside};
use crate::{
    network::NETWORKD_DROP_IN,
    spec::{LabSpec, Prefix},
};

/// A file of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Where, from the root directory.
    pub(crate) path: String,
    /// What it says.
    pub(crate) text: String,
    /// The unit that takes over a change while the machine runs; nothing where a change is not possible, or needs nothing done.
    pub(crate) reload: Option<&'static str>,
}

/// All of its files that are not in its root tree. They are made what they are here each time that the lab is brought up, also
/// while the machine runs.
pub(crate) fn files(spec: &LabSpec, outside: &Outside, public: Ipv4Addr) -> Vec<File> {
    let file = |path: &str, text: String, reload| File {
        path: path.to_owned(),
        text,
        reload,
    };
    let network = &spec.network;
    let private_network = networkd(
        &network.private_interface,
        outside.address,
        network.private_prefix,
        false,
    );
    let public_network = networkd(
        &network.public_interface,
        public,
        network.public_prefix,
        true,
    );
    let mut files = vec![
        file("etc/hostname", format!("{NAME}\n"), None),
        file("etc/hosts", hosts(spec, outside, public), None),
        // The tree has that of the machine on which it was made.
        file(
            "etc/resolv.conf",
            "# There is no name server.\n".to_owned(),
            None,
        ),
        file(
            "etc/systemd/network/10-private.network",
            private_network,
            None,
        ),
        file(
            "etc/systemd/network/10-public.network",
            public_network,
            None,
        ),
        file(
            "etc/haproxy/haproxy.cfg",
            outside.balancer.configuration(outside.address),
            Some("haproxy.service"),
        ),
    ];
    files.extend(outside.authority.iter().flat_map(Authority::files));
    files
}

/// systemd.network(5) of one interface. The public network's gateway is the way to whoever comes from an address of neither network.
fn networkd(interface: &str, address: Ipv4Addr, prefix: Prefix, gateway: bool) -> String {
    let gateway = match gateway {
        true => format!("Gateway={}\n", prefix.first()),
        false => String::new(),
    };
    format!(
        "[Match]\nName={interface}\n\n{NETWORKD_DROP_IN}Address={address}/{}\n{gateway}",
        prefix.length()
    )
}

fn hosts(spec: &LabSpec, outside: &Outside, public: Ipv4Addr) -> String {
    let mut text = format!("127.0.0.1\tlocalhost\n127.0.1.1\t{NAME}\n::1\tlocalhost\n");
    for host in spec.all_hosts() {
        text += &format!("{}\t{}\n", host.address, host.name);
    }
    let authority = outside.authority.iter();
    text.extend(authority.map(|authority| authority.hosts(public)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_its_address_and_the_public_one_the_way_to_everybody_else() {
        let prefix: Prefix = "203.0.113.0/24".parse().expect("a prefix");
        let address = Ipv4Addr::new(203, 0, 113, 2);
        let public = networkd("eth0", address, prefix, true);
        assert!(public.starts_with("[Match]\nName=eth0\n\n[Network]\n"));
        assert!(public.ends_with("\nAddress=203.0.113.2/24\nGateway=203.0.113.1\n"));
        assert!(!networkd("eth1", address, prefix, false).contains("Gateway"));
    }
}

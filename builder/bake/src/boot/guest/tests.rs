use super::*;

fn guest() -> Guest {
    Guest {
        node: "app-1".into(),
        fleet: "acme".into(),
        instance_id: "acme-app-1-1".into(),
        user_data: "#cloud-config\nhostname: app-1\n".into(),
        ssh_port: 22,
        public_interface: "eth0".into(),
        private_interface: "eth1".into(),
        private_address: Some((Ipv4Addr::new(10, 77, 0, 11), 20)),
        memory: 1024,
    }
}

fn has(image: &[u8], text: &str) -> bool {
    image
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[test]
fn a_provider_names_interfaces_by_their_hardware_addresses() {
    let guest = guest();
    let nics = guest.nics(3);
    assert_eq!(
        guest.network_config(&nics),
        "version: 2\nethernets:\n  \
         eth0:\n    match: {macaddress: '52:54:00:72:00:03'}\n    set-name: eth0\n    dhcp4: true\n  \
         eth1:\n    match: {macaddress: '52:54:00:72:01:03'}\n    set-name: eth1\n    addresses: [10.77.0.11/20]\n"
    );
    let told = guest.network_data(&nics);
    assert_eq!(
        told["links"][1]["ethernet_mac_address"],
        "52:54:00:72:01:03"
    );
    assert_eq!(told["networks"][1]["netmask"], "255.255.240.0");
}

#[test]
fn without_a_private_address_the_interface_has_none() {
    let guest = Guest {
        private_address: None,
        ..guest()
    };
    let nics = guest.nics(0);
    assert!(!guest.network_config(&nics).contains("addresses"));
    assert_eq!(
        guest.network_data(&nics)["networks"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
}

#[test]
fn both_disks_have_the_user_data_as_it_is() {
    let guest = guest();
    let repository = Repository {
        host: "apt.acme.internal".into(),
        port: 80,
        answer: Vec::new(),
    };
    for (source, label, hook) in [
        (
            DataSource::NoCloud,
            "cidata",
            "echo '10.0.2.100 apt.acme.internal' >>/etc/hosts\n",
        ),
        (
            DataSource::ConfigDrive,
            "config-2",
            r"echo '10.0.2.100 apt.acme.internal' >>/etc/hosts\n",
        ),
    ] {
        let image = guest
            .seed(source, &guest.nics(0), Some(&repository))
            .unwrap();
        for text in [label, guest.user_data.as_str(), hook] {
            assert!(has(&image, text), "{source:?}: {text}");
        }
        let alone = guest.seed(source, &guest.nics(0), None).unwrap();
        assert!(!has(&alone, "boothook"));
    }
}

//! Fleets with baked images of their nodes, and their nodes as guests of qemu.

use std::path::PathBuf;

use rolesmith_bake::boot::{DiskFormat, Guest, Image, Repository};

use crate::{Fleet, bare::step, checkout};

/// A node of the example.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// Its name.
    pub name: &'static str,
    /// Its address on the private network.
    pub address: [u8; 4],
    /// The image of its roles.
    pub image: &'static str,
}

/// The first node of the example.
pub const EXAMPLE: Node = Node {
    name: "app-1",
    address: [10, 77, 0, 11],
    image: "all-in-one-logs",
};

/// A fleet called acme that is made as told and published; or the one that `ROLESMITH_FLEET` names, which is taken as it is.
///
/// # Panics
/// Where the program fails.
#[must_use]
pub fn published(make: impl FnOnce() -> Fleet) -> Fleet {
    if let Some(dir) = std::env::var_os("ROLESMITH_FLEET") {
        return Fleet { dir: dir.into() };
    }
    let fleet = make();
    step("mirror and publish", || {
        fleet.run(&["mirror"]);
        fleet.run(&["publish"]);
    });
    fleet
}

/// The image of a node, baked; or the file that `ROLESMITH_IMAGE` names.
///
/// # Panics
/// Where the program fails.
#[must_use]
pub fn image(fleet: &Fleet, node: Node) -> Image {
    let path = std::env::var_os("ROLESMITH_IMAGE").map_or_else(
        || {
            let name = node.image;
            step(&format!("bake {name}"), || fleet.run(&["bake", name]));
            fleet.dir.join(format!("dist/images/{name}/{name}.qcow2"))
        },
        PathBuf::from,
    );
    let format = match path.extension() {
        Some(extension) if extension == "qcow2" => DiskFormat::Qcow2,
        _ => DiskFormat::Raw,
    };
    Image { path, format }
}

/// The fleet's repository as guests reach it.
///
/// # Panics
/// Where there is no current directory.
#[must_use]
pub fn repository(fleet: &Fleet) -> Repository {
    let dir = std::path::absolute(fleet.dir.join("dist/repo")).expect("a path");
    Repository {
        host: "apt.acme.internal".into(),
        port: 80,
        answer: [
            checkout().join("target/debug/rolesmith").into(),
            "lab".into(),
            "__answer".into(),
            "--dir".into(),
            dir.into(),
        ]
        .to_vec(),
    }
}

/// The node as its seed describes it, with the test's key beside the operators'.
///
/// # Panics
/// Where the program fails, or the fleet names no operator's key.
#[must_use]
pub fn guest(fleet: &Fleet, key: &str, node: Node) -> Guest {
    let seed = tempfile::tempdir().expect("a temporary directory");
    let dir = seed.path().to_str().expect("its name is text");
    fleet.run(&["user-data", node.name, "--nocloud", dir]);
    let read = |name: &str| std::fs::read_to_string(seed.path().join(name)).expect("a seed has it");
    let meta_data = read("meta-data");
    let id = meta_data
        .lines()
        .find_map(|line| line.strip_prefix("instance-id: "));
    let user_data = read("user-data").replacen(
        "ssh_authorized_keys:\n",
        &format!("ssh_authorized_keys:\n- {key}\n"),
        1,
    );
    assert!(user_data.contains(key), "the fleet names no operator's key");
    Guest {
        node: node.name.to_owned(),
        fleet: "acme".to_owned(),
        instance_id: id.expect("a seed has an id").to_owned(),
        user_data,
        ssh_port: 22,
        public_interface: "eth0".to_owned(),
        private_interface: "eth1".to_owned(),
        private_address: Some((node.address.into(), 24)),
        memory: 1024,
    }
}

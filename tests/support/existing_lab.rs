//! A lab of machines that were there before the fleet: an ordinary administrator's Debian, with services and data of its own.

use std::path::PathBuf;

use rolesmith_lab::{
    Host, Lab, LabSpec, Network, NodeReport, NodeSpec, Progress, Purpose, Repository, TreeSpec,
    UpOptions,
};
use rolesmith_tests::{Fleet, work_dir};

use crate::existing::{Operator, SSH_PORT, WIKI_PORT, tell};

/// The administrator's password as `openssl passwd -6` makes it.
const PASSWORD_HASH: &str = "$6$rolesmithtest$qNNztunLBam2huYYGgM22vzTa4ETMtRT.zoxOyCxXCu7n4b/AyiFDQ0ScZ3LVzaevoU82wRgkyjLEo6kTen7T.";
/// The lab's address in the public network, from which the operator comes.
const OPERATOR: &str = "203.0.113.1";

/// Says what the lab does on the test's standard error.
struct Words;

impl Progress for Words {
    fn step(&self, node: Option<&str>, text: &str) {
        tell(&format!("{}: {text}", node.unwrap_or("lab")));
    }
}

/// Where the lab is: not where `rolesmith lab` would have that of the fleet, which knows other machines.
fn state_dir(fleet: &Fleet) -> PathBuf {
    let name = fleet.dir.file_name().expect("a fleet's directory");
    work_dir().join("lab/existing").join(name)
}

/// The lab of the machines.
pub fn lab(fleet: &Fleet) -> Lab {
    Lab::open(&state_dir(fleet)).expect("the lab is up")
}

/// Ends the lab that an earlier run may have left, and this one's when the test ends, also when it fails.
pub struct LabGuard<'a>(&'a Fleet);

impl<'a> LabGuard<'a> {
    /// With nothing of an earlier run left.
    pub fn new(fleet: &'a Fleet) -> Self {
        rolesmith_lab::down(&state_dir(fleet), &Words).expect("an old lab ends");
        Self(fleet)
    }
}

impl Drop for LabGuard<'_> {
    fn drop(&mut self) {
        if std::env::var_os("ROLESMITH_KEEP_LAB").is_some() {
            return;
        }
        if let Err(error) = rolesmith_lab::down(&state_dir(self.0), &Words) {
            tell(&format!("the lab does not end: {error}"));
        }
    }
}

/// Brings the machines up; gives what they complain of.
pub fn up(spec: &LabSpec) -> Vec<String> {
    let options = UpOptions::default();
    let report = rolesmith_lab::up(spec, &options, &Words).expect("the machines boot");
    let complaints = |node: &NodeReport| -> Vec<String> {
        let all = node.complaints().into_iter();
        all.map(|text| format!("{}: {text}", node.name)).collect()
    };
    report.nodes.iter().flat_map(complaints).collect()
}

/// A lab of existing machines. Debian comes from the fleet's mirrored component under another name, so that they know
/// nothing of the fleet.
pub fn machines(fleet: &Fleet, operator: &Operator, names: &[(&str, &str, u8)]) -> LabSpec {
    let name = fleet.dir.file_name().expect("a fleet's directory");
    let rolesmith = fleet.command(&[]).get_program().to_owned();
    LabSpec {
        name: name.to_string_lossy().into_owned(),
        tree: TreeSpec {
            purpose: Purpose::Node,
            suite: "trixie".to_owned(),
            cache_dir: work_dir().join("lab/trees"),
            key_extra: None,
            sources: None,
        },
        network: Network {
            private_prefix: "10.77.0.0/24".parse().expect("a prefix"),
            public_prefix: "203.0.113.0/24".parse().expect("a prefix"),
            private_interface: "eth1".to_owned(),
            public_interface: "eth0".to_owned(),
        },
        nodes: names
            .iter()
            .map(|(name, called, host)| NodeSpec {
                name: (*name).to_owned(),
                address: [10, 77, 0, *host].into(),
                roles: Vec::new(),
                user_data: user_data(operator),
                meta_data: format!("instance-id: {called}-before\nlocal-hostname: {called}\n"),
                memory_limit: None,
                baked: None,
            })
            .collect(),
        outside: None,
        repository: Some(Repository {
            dir: fleet.dir.join("dist/repo"),
            host: "apt.old.example".to_owned(),
            port: 80,
            server: vec![rolesmith, "lab".into(), "__serve".into()],
        }),
        hosts: vec![Host {
            address: OPERATOR.parse().expect("an address"),
            name: "debian.example".to_owned(),
        }],
        state_dir: state_dir(fleet),
    }
}

/// fleet.toml for both machines. `ssh_port` is that of shop-1; sshd of shop-2 is always to move to 22.
pub fn fleet_toml(operator: &Operator, ssh_port: u16, database_port: u16) -> String {
    let key = operator.public_key("fleet");
    let mut text = format!(
        r#"[fleet]
name = "old"
suite = "trixie"
maintainer = "Operations <ops@old.example>"
domain = "old.example"

[repository]
url = "http://apt.old.example"
upstream = "mirror"

[network]
private = "10.77.0.0/24"
private_interface = "eth1"
public_interface = "eth0"
admin_ssh_keys = ["{key}"]

[database]
port = {database_port}
"#
    );
    // One Redis alone: of two, the first to come would wait for the other, since one is no majority.
    for (node, host, ssh_port, roles) in [
        (
            "shop-1",
            11,
            ssh_port,
            r#""db-primary-capable", "redis", "edge""#,
        ),
        ("shop-2", 12, 22, r#""db-primary-capable", "edge""#),
    ] {
        text.push_str(&format!(
            r#"
[nodes.{node}]
roles = [{roles}]
address = "10.77.0.{host}"
ssh_port = {ssh_port}
"#
        ));
    }
    text
}

/// An ordinary machine: password logins, sshd on another port, a site, a database and a Redis with something in them.
fn user_data(operator: &Operator) -> String {
    let key = operator.public_key("old-root");
    format!(
        r#"#cloud-config
disable_root: false
ssh_pwauth: true
users:
  - name: root
    ssh_authorized_keys: ["{key}"]
  - name: admin
    shell: /bin/bash
    lock_passwd: false
    passwd: "{PASSWORD_HASH}"
write_files:
  - path: /etc/ssh/sshd_config.d/20-port.conf
    content: |
      Port {SSH_PORT}
      PasswordAuthentication yes
  - path: /etc/apt/sources.list.d/debian.sources
    content: |
      Types: deb
      URIs: http://debian.example
      Suites: trixie
      Components: debian debian-security
      Trusted: yes
  - path: /etc/nginx/sites-available/shop
    content: |
      server {{
          listen 80 default_server;
          server_name _;
          root /srv/shop;
      }}
  - path: /srv/shop/index.html
    content: |
      the old shop
  - path: /etc/systemd/system/wiki.service
    content: |
      [Service]
      ExecStart=/usr/bin/python3 -m http.server --directory /srv/wiki {WIKI_PORT}
      [Install]
      WantedBy=multi-user.target
  - path: /srv/wiki/index.html
    content: |
      the old wiki
apt:
  preserve_sources_list: true
package_update: true
packages: [nginx, postgresql-17, redis-server]
runcmd:
  - set -eu
  - ln -sf /etc/nginx/sites-available/shop /etc/nginx/sites-enabled/default
  - systemctl reload nginx
  - systemctl restart ssh
  - systemctl enable --now wiki
  - runuser -u postgres -- createdb shop
  - runuser -u postgres -- psql -q -d shop -c "CREATE TABLE customers (id int PRIMARY KEY, name text); INSERT INTO customers VALUES (1, 'Ada'), (2, 'Grace')"
  - redis-cli set visits 1815
  - redis-cli save
"#
    )
}

//! What machines say, and what is concluded from it.

use rolesmith_host::enroll::Weight::{self, Blocks, Impossible, Note};

/// Sections of the answer in which a machine differs from the plain one.
pub(super) type Answer = &'static [(&'static str, &'static str)];

/// An answer and its one conflict: code, weight, words of what was found, of what follows, of the way out.
pub(super) type Row = (Answer, &'static str, Weight, [&'static str; 3]);

const fn row(
    answer: Answer,
    code: &'static str,
    weight: Weight,
    what: &'static str,
    consequence: &'static str,
    help: &'static str,
) -> Row {
    (answer, code, weight, [what, consequence, help])
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row(&[("os", "~id debian\n suite trixie~id ubuntu\n suite noble")], "distribution", Impossible, "ubuntu", "packages depend", "Debian trixie"),
    row(&[("os", "~suite trixie~suite bookworm")], "suite", Impossible, "runs Debian bookworm, the fleet trixie", "apt would refuse", "upgrade the machine"),
    row(&[("os", "~suite trixie~suite ")], "suite", Impossible, "testing or unstable", "apt would refuse", "upgrade"),
    row(&[("os", "~amd64~arm64")], "architecture", Impossible, "arm64", "amd64 alone", "amd64"),
    row(&[("os", "~systemd yes~systemd ")], "systemd", Impossible, "systemd is not", "would start", "systemd-sysv"),
    row(&[("os", "~hostname app-1~hostname web7.example.com")], "hostname", Blocks, "called web7, the node app-1", "renamed", "[nodes.web7]"),
    row(&[("os", "~memory 24684084~memory 503520")], "memory", Note, "491 MiB", "killed", "memory = 491"),
    row(&[("os", "~forwarding 0~forwarding 1")], "forwarding", Blocks, "forwards", "VPN", "ip_forward"),
    row(&[("os", "~time 1795416307~time 1795416246")], "clock", Blocks, "61 s behind", "certificate", "set-ntp"),
    row(&[("disks", "/ 9000000 /\n/var 512000 /var")], "disk", Blocks, "500 MiB are free on /var", "stops the database", "make room"),
    row(&[("dpkg-lock", "4711")], "dpkg-busy", Impossible, "4711", "nothing can be installed", "ps -fp 4711"),
    row(&[("dpkg-audit", "The following packages are only half configured:")], "dpkg-broken", Blocks, "half configured", "stops at the first", "dpkg --configure -a"),
    row(&[("managers", "directory /etc/puppet")], "management", Note, "/etc/puppet", "same files", "leaves this machine alone"),
    row(&[("managers", "ansible-pull /etc/cron.d/ansible")], "management", Blocks, "/etc/cron.d/ansible", "two masters", "stop it"),
    row(&[("units", "+active salt-minion.service")], "management", Blocks, "salt-minion", "takes back", "stop it"),
    row(&[("sources", "/etc/apt/sources.list.d/old.list:1 https://packages.example.com/acme/")], "repository", Impossible, "old.list:1", "refuse to read its sources", "remove that entry"),
    row(&[("addresses", "1: lo    inet 127.0.0.1/8\n2: eth1    inet 10.77.0.11/24")], "interface", Blocks, "10.77.0.11 on eth1", "hear none", "private_interface = \"eth1\""),
    row(&[("addresses", "2: host0    inet 192.0.2.7/24")], "interface", Blocks, "no address in 10.77.0.0/24", "hear none", "attach"),
    row(&[("addresses", "2: host0    inet 10.77.0.99/24")], "address", Blocks, "10.77.0.11; it has 10.77.0.99 on host0", "do not start", "rolesmith record app-1"),
    row(&[("identity", "{\"fleet\":\"other\",\"node\":\"db-9\",\"incarnation\":1,\"origin\":\"seed\"}")], "other-identity", Blocks, "db-9 of the fleet other", "loses this member", "take db-9 out"),
    row(&[("identity", "{\"fleet\":\"acme\",\"node\":\"app-1\",\"incarnation\":3,\"origin\":\"seed\"}")], "other-identity", Blocks, "incarnation 3 of app-1, newer than 2", "refused by the other members", "secrets directory"),
    row(&[("identity", "{\"fleet\":\"acme\",\"node\":\"app-1\",\"incarnation\":1,\"origin\":\"enroll\"}")], "enrolled", Note, "app-1 already (incarnation 1)", "only what differs", "nothing to do"),
    row(&[("identity", "{}")], "other-identity", Blocks, "is no identity", "forgotten", "move it away"),
    row(&[("sshd", "port 2222\npasswordauthentication no\nInclude /etc/ssh/sshd_config.d/*.conf")], "ssh-port", Blocks, "port 2222, fleet.toml says 22", "locked out", "ssh_port = 2222"),
    row(&[("sshd", "port 22\npasswordauthentication no")], "ssh-include", Note, "does not include", "no effect", "Include /etc/ssh"),
    row(&[("sshd", "port 22\nallowusers ann bob\nInclude /etc/ssh/sshd_config.d/*.conf")], "ssh-allow", Note, "allowusers ann bob", "refuses root", "add root"),
    row(&[("accounts", "+admin 1000 password none")], "password-login", Blocks, "admin can log in by password and has no ssh key", "admin can no longer log in", "ssh-copy-id admin@"),
    row(&[("accounts", "+admin 1000 password none\nbob 1001 password none")], "password-login", Blocks, "admin and bob can log in by password and have", "admin and bob can no longer", "ssh-copy-id admin@"),
    row(&[("filters", "ufw active\nrule INPUT -j ufw-before-input")], "ufw", Blocks, "ufw is active", "by turns", "ufw disable"),
    row(&[("units", "+active firewalld.service"), ("filters", "nft input")], "firewalld", Blocks, "firewalld", "is closed", "disable --now firewalld"),
    row(&[("filters", "nft input")], "nftables", Blocks, "nftables", "has to pass both", "/etc/nftables.conf"),
    row(&[("filters", "drop INPUT\nrule INPUT -p tcp --dport 8080 -j ACCEPT\nrule INPUT -j f2b-sshd")], "iptables", Blocks, "1 rules of iptables are loaded, the first: INPUT -p tcp --dport 8080", "whole filter table", "roles"),
    row(&[("units", "+active docker.service"), ("filters", "rule FORWARD -j DOCKER-USER")], "containers", Blocks, "docker.service", "lose their network", "another machine"),
    row(&[("tcp", "+LISTEN 0 100 0.0.0.0:25 0.0.0.0:* users:((\"master\",pid=1,fd=13))\nLISTEN 0 100 [::]:25 [::]:* users:((\"master\",pid=1,fd=14))"), ("udp", "UNCONN 0 0 0.0.0.0:51820 0.0.0.0:*")], "ports-closed", Blocks, "the kernel (port 51820/udp) and master (port 25) can be reached", "no longer be reached", "[[firewall]]"),
    row(&[("tcp", "+LISTEN 0 100 0.0.0.0:443 0.0.0.0:* users:((\"apache2\",pid=1,fd=13))")], "port-taken", Blocks, "apache2 (port 443) listens where https", "https does not start", "move it to another port"),
    row(&[("tcp", "+LISTEN 0 100 127.0.0.1:6432 0.0.0.0:* users:((\"pgbouncer\",pid=1,fd=13))")], "port-taken", Blocks, "pgbouncer (port 6432)", "not become healthy", "[database]"),
    row(&[("clusters", "17 main 5432 online postgres 3 /var/lib/postgresql/17/main"), ( "tcp", "+LISTEN 0 200 127.0.0.1:5432 0.0.0.0:* users:((\"postgres\",pid=1,fd=6))")], "database-port", Blocks, "17/main has port 5432, runs and holds 3 databases", "never touched", "pg_conftool 17 main set port 5433"),
    row(&[("clusters", "15 old 5432 down postgres 0 /srv/old")], "database-port", Blocks, "15/old has port 5432, is stopped and holds no database of its own", "makes no cluster", "[database]"),
    row(&[("clusters", "17 acme 5499 online postgres 1 /srv/acme")], "database-port", Blocks, "cluster 17/acme already, in /srv/acme", "stays without a database", "pg_renamecluster 17 acme NEW"),
    row(&[("clusters", "17 main 5433 online postgres 1 /srv/main")], "postgresql", Note, "17/main on port 5433 runs and holds 1 database", "left alone", "pg_dump"),
    row(&[("tcp", "+LISTEN 0 511 127.0.0.1:6379 0.0.0.0:* users:((\"redis-server\",pid=1,fd=6))")], "redis", Note, "port 6379", "another instance on port 6380", "nothing to do"),
    row(&[("units", "+enabled redis-server.service")], "masked-units", Note, "redis-server.service is in use", "would mask", "stop and disable"),
    row(&[("nginx", "/etc/nginx/sites-enabled/shop 80\n/etc/nginx/sites-enabled/shop 443 ssl"), ( "tcp", "+LISTEN 0 511 0.0.0.0:80 0.0.0.0:* users:((\"nginx\",pid=1,fd=6))")], "nginx-sites", Blocks, "sites of its own: /etc/nginx/sites-enabled/shop", "80 and 443 to the load balancer alone", "edge"),
    row(&[("packages", "ii  nginx")], "nginx-sites", Note, "without a site of its own", "added to it", "nothing to do"),
    row(&[("packages", "+ii  ntpsec")], "replaced-packages", Blocks, "ntpsec is installed", "removes it for chrony", "/etc/chrony/sources.d"),
    row(&[("packages", "+ii  exim4-daemon-light")], "replaced-packages", Blocks, "exim4-daemon-light is installed", "for postfix, by which mail is sent", "[mail] of fleet.toml"),
    row(&[("packages", "+ii  postfix"), ("mail", "postfix")], "mail-configuration", Blocks, "/etc/postfix/main.cf", "goes as it says", "move that file away"),
    row(&[("packages", "+hi  syslog-ng-core")], "replaced-packages", Blocks, "syslog-ng-core", "for rsyslog, by which the system's log is written", "accept it"),
];

//! What is in a root tree.

use crate::{outside, spec::Purpose};

/// What is installed in a node's tree besides Essential and apt: what Debian's cloud images have and nodes rely on. cloud-init
/// brings python3, locales and adduser. Nothing that a role should depend on by itself (no firewall, no curl, no logrotate).
const NODE: [&str; 16] = [
    "ca-certificates",
    "cloud-init",
    "dbus",
    "iproute2",
    "iputils-ping",
    "libpam-systemd",
    "netbase",
    "openssh-server",
    "procps",
    "sudo",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
    "systemd-timesyncd",
    "tzdata",
    "udev",
];

/// What is installed in such a tree.
pub(super) fn packages(purpose: Purpose) -> &'static [&'static str] {
    match purpose {
        Purpose::Node => &NODE,
        Purpose::Outside => &outside::PACKAGES,
    }
}

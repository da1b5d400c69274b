//! What is in the machine's root tree.

/// What is installed besides Essential and apt, in alphabetical order. Recommended packages are not. Who needs one more adds it
/// here: the tree is made anew, once.
pub(crate) const PACKAGES: [&str; 17] = [
    "ca-certificates",
    "curl",
    "dbus",
    // The load balancer.
    "haproxy",
    "iproute2",
    "iputils-ping",
    "netbase",
    // Whoever scans the fleet's ports.
    "nmap",
    // Whoever tries to log in.
    "openssh-client",
    "openssl",
    // Let's Encrypt's server for tests (ACME, RFC 8555).
    "pebble",
    "procps",
    "python3-minimal",
    "systemd",
    "systemd-sysv",
    "udev",
    // Load over HTTP.
    "wrk",
];

//! Programs that may run with rights that their caller does not have, by suite, each with its reason.

use rolesmith_model::ids::Suite;

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const BOTH: &[Suite] = &Suite::ALL;
const BOOKWORM: &[Suite] = &[Suite::Bookworm];

/// A program that Debian ships so.
struct Program {
    path: &'static str,
    bits: u32,
    suites: &'static [Suite],
    /// Why it needs it; people read it here, where the list is changed.
    #[expect(dead_code, reason = "a reason is written for whoever changes the list")]
    reason: &'static str,
}

const fn program(
    path: &'static str,
    bits: u32,
    suites: &'static [Suite],
    reason: &'static str,
) -> Program {
    Program {
        path,
        bits,
        suites,
        reason,
    }
}

const PROGRAMS: &[Program] = &[
    program(
        "usr/bin/chage",
        SETGID,
        BOTH,
        "passwd: group shadow, to read when one's password expires",
    ),
    program(
        "usr/bin/chfn",
        SETUID,
        BOTH,
        "passwd: writes one's line of /etc/passwd",
    ),
    program(
        "usr/bin/chsh",
        SETUID,
        BOTH,
        "passwd: writes one's line of /etc/passwd",
    ),
    program(
        "usr/bin/crontab",
        SETGID,
        BOTH,
        "cron: group crontab, to write one's table",
    ),
    program(
        "usr/bin/dotlockfile",
        SETGID,
        BOTH,
        "liblockfile-bin: group mail, to lock mailboxes",
    ),
    program(
        "usr/bin/expiry",
        SETGID,
        BOTH,
        "passwd: group shadow, to read when one's password expires",
    ),
    program(
        "usr/bin/fusermount3",
        SETUID,
        BOTH,
        "fuse3: mounts one's own file systems",
    ),
    program(
        "usr/bin/gpasswd",
        SETUID,
        BOTH,
        "passwd: administrators of groups write /etc/gshadow",
    ),
    program(
        "usr/bin/mount",
        SETUID,
        BOTH,
        "mount: file systems with `user` in /etc/fstab",
    ),
    program("usr/bin/newgrp", SETUID, BOTH, "another of one's groups"),
    program(
        "usr/bin/passwd",
        SETUID,
        BOTH,
        "passwd: writes one's line of /etc/shadow",
    ),
    program(
        "usr/bin/pkexec",
        SETUID,
        BOTH,
        "pkexec: runs what polkit allows",
    ),
    program(
        "usr/bin/ssh-agent",
        SETGID,
        BOTH,
        "openssh-client: its group keeps others from tracing it",
    ),
    program(
        "usr/bin/su",
        SETUID,
        BOTH,
        "util-linux: another user, with the password of that one",
    ),
    program(
        "usr/bin/sudo",
        SETUID,
        BOTH,
        "sudo: what /etc/sudoers allows",
    ),
    program(
        "usr/bin/umount",
        SETUID,
        BOTH,
        "mount: file systems with `user` in /etc/fstab",
    ),
    program(
        "usr/bin/wall",
        SETGID,
        BOOKWORM,
        "bsdutils: group tty, to write to terminals",
    ),
    program(
        "usr/bin/write.ul",
        SETGID,
        BOOKWORM,
        "bsdextrautils: group tty, to write to terminals",
    ),
    program(
        "usr/lib/dbus-1.0/dbus-daemon-launch-helper",
        SETUID,
        BOTH,
        "dbus: starts services for the bus, which alone may call it",
    ),
    program(
        "usr/lib/openssh/ssh-keysign",
        SETUID,
        BOTH,
        "openssh-client: signs with the host's key, where that is switched on",
    ),
    program(
        "usr/lib/polkit-1/polkit-agent-helper-1",
        SETUID,
        BOTH,
        "polkitd: asks PAM",
    ),
    program(
        "usr/lib/x86_64-linux-gnu/utempter/utempter",
        SETGID,
        BOTH,
        "libutempter0: group utmp, to note sessions",
    ),
    program(
        "usr/sbin/postdrop",
        SETGID,
        BOTH,
        "postfix: group postdrop, to hand in mail",
    ),
    program(
        "usr/sbin/postqueue",
        SETGID,
        BOTH,
        "postfix: group postdrop, to show the queue",
    ),
    program(
        "usr/sbin/unix_chkpwd",
        SETGID,
        BOTH,
        "libpam-modules-bin: group shadow, to compare one's own password",
    ),
];

/// Programs with file capabilities (capabilities(7)).
const CAPABLE: &[Program] = &[
    program(
        "usr/bin/ping",
        0,
        BOTH,
        "iputils-ping: cap_net_raw, for raw ICMP sockets",
    ),
    program(
        "usr/bin/newuidmap",
        0,
        BOTH,
        "uidmap: cap_setuid, for ids that /etc/subuid grants",
    ),
    program(
        "usr/bin/newgidmap",
        0,
        BOTH,
        "uidmap: cap_setgid, for ids that /etc/subgid grants",
    ),
];

fn find(programs: &'static [Program], path: &str, suite: Suite) -> Option<&'static Program> {
    programs
        .iter()
        .find(|program| program.path == path && program.suites.contains(&suite))
}

/// The setuid and setgid bits that the program may have.
pub(super) fn setuid(path: &str, suite: Suite) -> Option<u32> {
    find(PROGRAMS, path, suite).map(|program| program.bits)
}

/// Whether the program may have file capabilities.
pub(super) fn capabilities(path: &str, suite: Suite) -> bool {
    find(CAPABLE, path, suite).is_some()
}

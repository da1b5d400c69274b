//! /proc/net/dev, /proc/net/snmp, /proc/net/netstat and /proc/net/sockstat (proc_pid_net(5)).

use std::collections::BTreeMap;

use rolesmith_model::perf::{Interface, Tcp, Udp};

use super::count::{grown, grown_if_known};

/// Reads /proc/net/dev, by name. What counts is since the interface was made.
#[must_use]
pub fn interfaces(text: &str) -> BTreeMap<String, Interface> {
    text.lines()
        .filter_map(interface)
        .map(|interface| (interface.name.clone(), interface))
        .collect()
}

fn interface(line: &str) -> Option<Interface> {
    // The name stands right before the colon, and the first number may stand right after it.
    let (name, numbers) = line.split_once(':')?;
    let mut words = numbers.split_ascii_whitespace();
    let mut values = [0_u64; 12];
    for value in &mut values {
        *value = words.next()?.parse().ok()?;
    }
    let [
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_drops,
        _,
        _,
        _,
        _,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_drops,
    ] = values;
    Some(Interface {
        name: name.trim().to_owned(),
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_drops,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_drops,
    })
}

/// What went through an interface; one that was not there before is new.
#[must_use]
pub fn interface_since(before: Option<&Interface>, now: &Interface) -> Interface {
    let nothing = Interface::default();
    let before = before.unwrap_or(&nothing);
    Interface {
        name: now.name.clone(),
        rx_bytes: grown(before.rx_bytes, now.rx_bytes),
        rx_packets: grown(before.rx_packets, now.rx_packets),
        rx_errors: grown(before.rx_errors, now.rx_errors),
        rx_drops: grown(before.rx_drops, now.rx_drops),
        tx_bytes: grown(before.tx_bytes, now.tx_bytes),
        tx_packets: grown(before.tx_packets, now.tx_packets),
        tx_errors: grown(before.tx_errors, now.tx_errors),
        tx_drops: grown(before.tx_drops, now.tx_drops),
    }
}

/// A value of snmp or netstat: a line of names, and one of numbers, begin with the same word.
fn named(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut of_group = text
        .lines()
        .filter_map(|line| line.strip_prefix(group)?.strip_prefix(':'));
    let (names, values) = (of_group.next()?, of_group.next()?);
    let place = names
        .split_ascii_whitespace()
        .position(|word| word == name)?;
    values.split_ascii_whitespace().nth(place)?.parse().ok()
}

/// A value of the line `TCP: inuse 5 orphan 0 tw 2 alloc 9 mem 3` of sockstat.
fn of_sockets(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

/// Reads /proc/net/snmp and, where they are there, netstat and sockstat; a page has so many bytes. What counts is since the boot.
#[must_use]
pub fn tcp(snmp: &str, netstat: Option<&str>, sockstat: Option<&str>, page: u64) -> Option<Tcp> {
    let of = |name| named(snmp, "Tcp", name);
    let more = |name| named(netstat?, "TcpExt", name);
    let sockets = |name| of_sockets(sockstat?, name);
    Some(Tcp {
        established: of("CurrEstab")?,
        time_wait: sockets("tw"),
        orphans: sockets("orphan"),
        memory: sockets("mem").and_then(|pages| pages.checked_mul(page)),
        opened: of("ActiveOpens")?,
        accepted: of("PassiveOpens")?,
        failed: of("AttemptFails")?,
        reset: of("EstabResets")?,
        segments_in: of("InSegs")?,
        segments_out: of("OutSegs")?,
        retransmitted: of("RetransSegs")?,
        in_errors: of("InErrs")?,
        resets_sent: of("OutRsts")?,
        listen_overflows: more("ListenOverflows"),
        listen_drops: more("ListenDrops"),
        timeouts: more("TCPTimeouts"),
    })
}

/// Reads /proc/net/snmp. What counts is since the boot.
#[must_use]
pub fn udp(snmp: &str) -> Option<Udp> {
    let of = |name| named(snmp, "Udp", name);
    Some(Udp {
        received: of("InDatagrams")?,
        sent: of("OutDatagrams")?,
        no_port: of("NoPorts")?,
        in_errors: of("InErrors")?,
    })
}

/// What is now, and what happened since.
#[must_use]
pub fn tcp_since(before: &Tcp, now: &Tcp) -> Tcp {
    Tcp {
        established: now.established,
        time_wait: now.time_wait,
        orphans: now.orphans,
        memory: now.memory,
        opened: grown(before.opened, now.opened),
        accepted: grown(before.accepted, now.accepted),
        failed: grown(before.failed, now.failed),
        reset: grown(before.reset, now.reset),
        segments_in: grown(before.segments_in, now.segments_in),
        segments_out: grown(before.segments_out, now.segments_out),
        retransmitted: grown(before.retransmitted, now.retransmitted),
        in_errors: grown(before.in_errors, now.in_errors),
        resets_sent: grown(before.resets_sent, now.resets_sent),
        listen_overflows: grown_if_known(before.listen_overflows, now.listen_overflows),
        listen_drops: grown_if_known(before.listen_drops, now.listen_drops),
        timeouts: grown_if_known(before.timeouts, now.timeouts),
    }
}

/// What happened since.
#[must_use]
pub fn udp_since(before: &Udp, now: &Udp) -> Udp {
    Udp {
        received: grown(before.received, now.received),
        sent: grown(before.sent, now.sent),
        no_port: grown(before.no_port, now.no_port),
        in_errors: grown(before.in_errors, now.in_errors),
    }
}

//! Whether a new set leaves the way into the machine as the confirmed one has it.
//!
//! Judged by the texts alone, and only what is understood counts as harmless: everything else goes on trial.

use std::collections::BTreeSet;

use super::fallback::ssh_ports;
use super::set::Set;

/// Whether whoever gets in under `confirmed` gets in under `wanted`, too.
///
/// Members of sets may change, openings and limits of other ports come and go, and rules that refuse something may go. Everything
/// else may lock somebody out: another setting of the ssh server, an opening of its port that is gone or narrower, a new
/// rule that refuses, another order of rules.
#[must_use]
pub fn keeps_way_in(confirmed: &Set, wanted: &Set) -> bool {
    let settings = |set: &Set| set.text("sshd.conf").map(|text| owned(settings(text)));
    if settings(confirmed) != settings(wanted) {
        return false;
    }
    // Without its drop-in nobody knows here where the ssh server listens.
    let Some(ports) = confirmed.text("sshd.conf").map(ssh_ports) else {
        return false;
    };
    ["firewall.v4", "firewall.v6"].into_iter().all(|path| {
        match (confirmed.text(path), wanted.text(path)) {
            (None, None) => true,
            (Some(before), Some(after)) => rules_keep(before, after, &ports),
            _ => false,
        }
    })
}

/// Lines that mean something, in the files of sshd(8) and iptables-restore(8) alike.
fn settings(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn owned<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    lines.map(str::to_owned).collect()
}

fn rules_keep(before: &str, after: &str, ssh_ports: &BTreeSet<u16>) -> bool {
    let before: Vec<&str> = settings(before).collect();
    let after: Vec<&str> = settings(after).collect();
    let gone = |line: &&&str| !after.contains(line);
    let new = |line: &&&str| !before.contains(line);
    let stays = |lines: &[&str], other: &[&str]| -> Vec<String> {
        owned(lines.iter().copied().filter(|line| other.contains(line)))
    };
    before
        .iter()
        .filter(gone)
        .all(|line| refuses(line) || opens_another_port(line, ssh_ports))
        && after
            .iter()
            .filter(new)
            .all(|line| lets_in(line) || limits_another_port(line, ssh_ports))
        && stays(&before, &after) == stays(&after, &before)
}

fn lets_in(rule: &str) -> bool {
    rule.starts_with("-A INPUT ") && rule.ends_with(" -j ACCEPT")
}

fn refuses(rule: &str) -> bool {
    rule.starts_with("-A ") && (rule.ends_with(" -j DROP") || rule.contains(" -j REJECT"))
}

/// An opening, which unlike the rules for answers is for new connections.
fn opens_another_port(rule: &str, ssh_ports: &BTreeSet<u16>) -> bool {
    lets_in(rule) && is_for_another_port(rule, ssh_ports)
}

/// A limit of new connections.
fn limits_another_port(rule: &str, ssh_ports: &BTreeSet<u16>) -> bool {
    rule.starts_with("-A INPUT ")
        && rule.ends_with(" -j DROP")
        && is_for_another_port(rule, ssh_ports)
}

fn is_for_another_port(rule: &str, ssh_ports: &BTreeSet<u16>) -> bool {
    // A negated port is every other one.
    let port = rule
        .split_once(" --dport ")
        .filter(|(before, _)| !before.ends_with('!'))
        .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    rule.contains(" --ctstate NEW ") && port.is_some_and(|port| !ssh_ports.contains(&port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::SetFile;

    const SSHD: &str = "# sshd of n1\nPort 2222\nPasswordAuthentication no\n";
    const SETS: &str = "create a hash:ip family inet\nadd a 10.0.0.1\n";

    const INVALID: &str = "-A INPUT -m conntrack --ctstate INVALID -j DROP\n";
    const LIMIT: &str = "-A INPUT -p tcp -m tcp --dport PORT -m conntrack --ctstate NEW -m hashlimit --hashlimit-above 9/minute -j DROP\n";
    const DHCP: &str = "-A INPUT -p udp -m udp --sport 67 --dport 68 -j ACCEPT\n";

    fn set(sshd: &str, v4: &str, ipset: &str) -> Set {
        let file = |path: &str, text: &str| SetFile {
            path: path.into(),
            mode: 0o600,
            owner: (0, 0),
            text: text.into(),
        };
        Set {
            files: vec![
                file("firewall.ipset", ipset),
                file("firewall.v4", v4),
                file("sshd.conf", sshd),
            ],
        }
    }

    fn opening(source: &str, port: u16) -> String {
        format!(
            "-A INPUT {source}-p tcp -m tcp --dport {port} -m conntrack --ctstate NEW -m comment --comment \"x\" -j ACCEPT\n"
        )
    }

    /// Rules with these openings, and with others before them.
    fn rules(before: &str, openings: &[(&str, u16)]) -> String {
        let openings: String = openings
            .iter()
            .map(|(from, port)| opening(from, *port))
            .collect();
        format!("*filter\n:INPUT DROP [0:0]\n{before}{INVALID}{DHCP}{openings}COMMIT\n")
    }

    #[test]
    fn what_members_and_services_bring_is_harmless() {
        let confirmed = set(SSHD, &rules("", &[("", 80), ("", 2222)]), SETS);
        for (what, wanted) in [
            ("nothing", confirmed.clone()),
            (
                "a member",
                set(
                    SSHD,
                    &rules("", &[("", 80), ("", 2222)]),
                    "add a 10.0.0.2\n",
                ),
            ),
            (
                "an opening goes",
                set(SSHD, &rules("", &[("", 2222)]), SETS),
            ),
            (
                "openings come, around that of ssh",
                set(
                    SSHD,
                    &rules("", &[("", 80), ("", 443), ("", 2222), ("", 5432)]),
                    SETS,
                ),
            ),
            (
                "a limit for another port",
                set(
                    SSHD,
                    &rules(LIMIT, &[("", 80), ("", 2222)]).replace("PORT", "80"),
                    SETS,
                ),
            ),
            (
                "ssh from elsewhere, too",
                set(SSHD, &rules("", &[("-i eth1 ", 2222), ("", 2222)]), SETS),
            ),
            (
                "a comment",
                set(
                    &SSHD.replace("n1", "n2"),
                    &format!("# Made anew\n{}", rules("", &[("", 80), ("", 2222)])),
                    SETS,
                ),
            ),
            (
                "less is refused",
                set(
                    SSHD,
                    &rules("", &[("", 80), ("", 2222)]).replace(INVALID, ""),
                    SETS,
                ),
            ),
        ] {
            assert!(keeps_way_in(&confirmed, &wanted), "{what}");
        }
    }

    #[test]
    fn what_may_lock_somebody_out_is_not() {
        let good = rules("", &[("", 80), ("", 2222)]);
        let confirmed = set(SSHD, &good, SETS);
        for (what, wanted) in [
            ("ssh is closed", set(SSHD, &rules("", &[("", 80)]), SETS)),
            (
                "ssh is for some",
                set(
                    SSHD,
                    &rules("", &[("", 80), ("-s 10.0.0.0/8 ", 2222)]),
                    SETS,
                ),
            ),
            (
                "ssh moves",
                set(
                    &SSHD.replace("2222", "22"),
                    &rules("", &[("", 80), ("", 22)]),
                    SETS,
                ),
            ),
            (
                "ssh wants another key",
                set(&format!("{SSHD}PubkeyAuthentication no\n"), &good, SETS),
            ),
            (
                "a new refusal",
                set(
                    SSHD,
                    &rules(
                        "-A INPUT -s 192.0.2.1/32 -j DROP\n",
                        &[("", 80), ("", 2222)],
                    ),
                    SETS,
                ),
            ),
            (
                "a limit for ssh",
                set(
                    SSHD,
                    &format!("{}{good}", LIMIT.replace("PORT", "2222")),
                    SETS,
                ),
            ),
            (
                "a limit for all ports but one",
                set(
                    SSHD,
                    &format!("{}{good}", LIMIT.replace("--dport PORT", "! --dport 80")),
                    SETS,
                ),
            ),
            (
                "a refusal moves",
                set(
                    SSHD,
                    &good.replace(&format!("{INVALID}{DHCP}"), &format!("{DHCP}{INVALID}")),
                    SETS,
                ),
            ),
            (
                "answers of DHCP are lost",
                set(SSHD, &good.replace(DHCP, ""), SETS),
            ),
            (
                "another table",
                set(
                    SSHD,
                    &format!("{good}*raw\n:PREROUTING DROP [0:0]\nCOMMIT\n"),
                    SETS,
                ),
            ),
            (
                "no rules",
                Set {
                    files: confirmed.files[..1].to_vec(),
                },
            ),
        ] {
            assert!(!keeps_way_in(&confirmed, &wanted), "{what}");
        }
        // Nothing is known of the way in.
        assert!(!keeps_way_in(&Set::default(), &confirmed));
        assert!(!keeps_way_in(&Set::default(), &Set::default()));
    }
}

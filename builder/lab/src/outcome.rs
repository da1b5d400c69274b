//! What a node says of its boot: systemd's state, cloud-init's status and complaints, and where the seconds went.
//!
//! Everything is asked in one visit to the node and understood by pure functions here.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

/// How a node came to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// It was made and booted for the first time.
    New,
    /// It had stopped, and was booted again from its disk.
    Again,
    /// It was running and has been left alone.
    Running,
}

/// A part of the work and the time it took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phase {
    /// What was done.
    pub name: String,
    /// Seconds.
    pub seconds: f64,
}

/// What came of one node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeReport {
    /// Host name.
    pub name: String,
    /// How it came to run.
    pub start: Start,
    /// What `systemctl is-system-running` says: `running`, `degraded`, ...
    pub system: String,
    /// Units that failed.
    pub failed_units: Vec<String>,
    /// What cloud-init says; the machine outside the fleet has none.
    pub cloud_init: Option<CloudInit>,
    /// Interfaces that are not up or lack their address. cloud-init says `done` even then.
    pub network_problems: Vec<String>,
    /// Where the time went, in order. Names: `launch` (until the node's first process), `boot` (until systemd had nothing more to
    /// do, cloud-init's stages included), then the shares of it: `cloud-init STAGE`, `cloud-init STAGE/MODULE` of the modules that took
    /// at least 0.1 s, `apt` (as apt logged it, to the second).
    pub phases: Vec<Phase>,
}

impl NodeReport {
    /// True when there is nothing to complain about: systemd is `running`, no unit failed, cloud-init, where there is one, is `done`
    /// without an error, a recoverable error or a warning, and both interfaces are up with their addresses.
    pub fn is_clean(&self) -> bool {
        self.complaints().is_empty()
    }

    /// Everything there is to complain about, one line each.
    pub fn complaints(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.system != "running" {
            found.push(format!("systemd is {}", self.system));
        }
        found.extend(
            self.failed_units
                .iter()
                .map(|unit| format!("unit {unit} failed")),
        );
        found.extend(self.cloud_init.iter().flat_map(CloudInit::complaints));
        found.extend(self.network_problems.iter().cloned());
        found
    }
}

/// cloud-init's own account.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CloudInit {
    /// `done`, `error`, `running`, `not started`, `disabled` or, where nothing could be asked, `unknown`.
    pub status: String,
    /// `done`, `degraded done`, ...: since cloud-init 23.4 from itself, before that worked out from its log.
    pub extended_status: String,
    /// Errors that made a stage fail.
    pub errors: Vec<String>,
    /// Complaints after which it went on, by level (`WARNING`, `DEPRECATED`, ...): from its status, and from its log, since 22.4
    /// reports `done` on a broken configuration.
    pub recoverable: BTreeMap<String, Vec<String>>,
}

impl CloudInit {
    /// What is not as it should be, one line each.
    fn complaints(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.status != "done" {
            found.push(format!("cloud-init is {}", self.status));
        }
        let errors = self.errors.iter();
        found.extend(errors.map(|error| format!("cloud-init error: {error}")));
        for (level, texts) in &self.recoverable {
            let level = level.to_lowercase();
            let texts = texts.iter();
            found.extend(texts.map(|text| format!("cloud-init {level}: {text}")));
        }
        found
    }
}

/// Asks everything at once. Sections begin with a line of `@` and a name. A node that has only just been started, by a program that
/// was then killed, has no bus to ask systemd on yet: it is asked again, until whoever runs this sets an end to it.
pub(crate) const QUESTIONS: &str = r#"
echo @system
s=
while case "$s" in ''|unknown|offline|initializing|starting) ;; *) false ;; esac; do
    s=$(systemctl is-system-running --wait) || sleep 0.1
done
echo "$s"
echo @failed; systemctl list-units --failed --no-legend --plain
echo @status; cloud-init status --wait --format json
echo @addresses; ip -json address show
echo @apt; cat /var/log/apt/history.log
echo @log; cat /var/log/cloud-init.log
exit 0
"#;

/// The answers, by section.
#[derive(Debug)]
pub(crate) struct Answers<'a> {
    sections: BTreeMap<&'a str, &'a str>,
}

impl<'a> Answers<'a> {
    pub(crate) fn parse(text: &'a str) -> Answers<'a> {
        // Only the first six can be ours; the log at the end may hold anything.
        let mut sections = BTreeMap::new();
        let mut rest = text;
        for (name, next) in [
            ("system", "failed"),
            ("failed", "status"),
            ("status", "addresses"),
            ("addresses", "apt"),
            ("apt", "log"),
        ] {
            let body = rest.strip_prefix(&format!("@{name}\n")).unwrap_or(rest);
            let end = if body.starts_with(&format!("@{next}\n")) {
                Some(0)
            } else {
                body.find(&format!("\n@{next}\n")).map(|at| at + 1)
            };
            let Some(end) = end else { break };
            sections.insert(name, body[..end].trim());
            rest = &body[end..];
        }
        sections.insert("log", rest.strip_prefix("@log\n").unwrap_or(rest));
        Answers { sections }
    }

    fn get(&self, name: &str) -> &'a str {
        self.sections.get(name).copied().unwrap_or("")
    }

    /// systemd's word.
    pub(crate) fn system(&self) -> String {
        let word = self.get("system");
        if word.is_empty() {
            "unknown".to_owned()
        } else {
            word.to_owned()
        }
    }

    /// The units that failed.
    pub(crate) fn failed_units(&self) -> Vec<String> {
        self.get("failed")
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect()
    }

    /// cloud-init's status together with its log.
    pub(crate) fn cloud_init(&self) -> CloudInit {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Said {
            status: String,
            extended_status: String,
            errors: Vec<serde_json::Value>,
            recoverable_errors: BTreeMap<String, Vec<String>>,
        }
        // 22.4 with --wait writes a line of dots before the document.
        let text = self.get("status");
        let said: Said = text
            .find('{')
            .and_then(|at| serde_json::from_str(&text[at..]).ok())
            .unwrap_or_default();
        let mut recoverable = said.recoverable_errors;
        for (level, complaint) in self.get("log").lines().filter_map(complaint) {
            let texts: &mut Vec<String> = recoverable.entry(level.to_owned()).or_default();
            if !texts.iter().any(|text| text == complaint) {
                texts.push(complaint.to_owned());
            }
        }
        let errors = said
            .errors
            .iter()
            .map(|e| e.as_str().map_or_else(|| e.to_string(), str::to_owned))
            .collect();
        let status = if said.status.is_empty() {
            "unknown".to_owned()
        } else {
            said.status
        };
        let extended_status = match said.extended_status {
            known if !known.is_empty() => known,
            _ if status == "done" && !recoverable.is_empty() => "degraded done".to_owned(),
            _ => status.clone(),
        };
        CloudInit {
            status,
            extended_status,
            errors,
            recoverable,
        }
    }

    /// What is wrong with the interfaces, given which address each must have.
    pub(crate) fn network_problems(&self, wanted: &[(&str, Ipv4Addr)]) -> Vec<String> {
        #[derive(Deserialize)]
        struct Link {
            ifname: String,
            operstate: String,
            addr_info: Vec<Address>,
        }
        #[derive(Deserialize)]
        struct Address {
            local: Option<String>,
        }
        let links: Vec<Link> = serde_json::from_str(self.get("addresses")).unwrap_or_default();
        let check = |(name, address): &(&str, Ipv4Addr)| {
            let Some(link) = links.iter().find(|link| link.ifname == *name) else {
                return Some(format!("interface {name} is not there"));
            };
            let address = address.to_string();
            if link.operstate != "UP" {
                Some(format!(
                    "interface {name} is {}",
                    link.operstate.to_lowercase()
                ))
            } else if !link
                .addr_info
                .iter()
                .any(|info| info.local.as_ref() == Some(&address))
            {
                Some(format!("interface {name} lacks its address {address}"))
            } else {
                None
            }
        };
        wanted.iter().filter_map(check).collect()
    }

    /// Where cloud-init's and apt's seconds went.
    pub(crate) fn phases(&self) -> Vec<Phase> {
        let mut phases = cloud_init_phases(self.get("log"));
        let apt = apt_seconds(self.get("apt"));
        if apt > 0 {
            phases.push(Phase {
                name: "apt".to_owned(),
                seconds: apt as f64,
            });
        }
        phases
    }
}

/// A line of cloud-init.log of a level that is a complaint: the level and what was said.
fn complaint(line: &str) -> Option<(&str, &str)> {
    // "2026-11-23 05:47:53,494 - util.py[WARNING]: text"
    let (_, rest) = line.split_once(" - ")?;
    let (origin, text) = rest.split_once("]: ")?;
    let (_, level) = origin.split_once('[')?;
    matches!(level, "WARNING" | "ERROR" | "CRITICAL").then_some((level, text))
}

/// Shortest module that is worth a line.
const WORTH: f64 = 0.1;

/// Durations of the stages, and of the modules that took long, in the order in which they ended.
fn cloud_init_phases(log: &str) -> Vec<Phase> {
    let mut begun: BTreeMap<&str, f64> = BTreeMap::new();
    let mut phases: Vec<Phase> = Vec::new();
    for line in log.lines() {
        let Some((stamp, rest)) = line.split_once(" - ") else {
            continue;
        };
        let (Some(time), Some((_, event))) = (clock(stamp), rest.split_once("]: ")) else {
            continue;
        };
        if let Some(event) = event.strip_prefix("start: ") {
            let Some((name, _)) = event.split_once(": ") else {
                continue;
            };
            begun.entry(name).or_insert(time);
            // A stage's own start is not always logged: the first of its parts begins it.
            if let Some((stage, _)) = name.split_once('/') {
                begun.entry(stage).or_insert(time);
            }
        } else if let Some((name, _)) = event
            .strip_prefix("finish: ")
            .and_then(|event| event.split_once(": "))
        {
            let Some(start) = begun.remove(name) else {
                continue;
            };
            // Midnight may have passed.
            let seconds = (time - start).rem_euclid(86_400.0);
            let Some((stage, part)) = name.split_once('/') else {
                phases.push(Phase {
                    name: format!("cloud-init {name}"),
                    seconds,
                });
                continue;
            };
            if seconds >= WORTH {
                let part = part.strip_prefix("config-").unwrap_or(part);
                phases.push(Phase {
                    name: format!("cloud-init {stage}/{part}"),
                    seconds,
                });
            }
        }
    }
    for phase in &mut phases {
        phase.seconds = (phase.seconds * 1000.0).round() / 1000.0;
    }
    phases
}

/// Seconds since midnight of "2026-11-23 05:50:59,034" or "2026-11-23  05:50:59".
fn clock(stamp: &str) -> Option<f64> {
    let time = stamp.split_whitespace().nth(1)?.replace(',', ".");
    let mut parts = time.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    Some(
        hours.parse::<f64>().ok()? * 3600.0
            + minutes.parse::<f64>().ok()? * 60.0
            + seconds.parse::<f64>().ok()?,
    )
}

/// Seconds between the `Start-Date` and `End-Date` of all runs in apt's history.log.
fn apt_seconds(history: &str) -> u64 {
    let (mut total, mut start) = (0.0, None);
    for line in history.lines() {
        if let Some(stamp) = line.strip_prefix("Start-Date: ") {
            start = clock(stamp);
        } else if let Some(stamp) = line.strip_prefix("End-Date: ")
            && let (Some(from), Some(to)) = (start.take(), clock(stamp))
        {
            total += (to - from).rem_euclid(86_400.0);
        }
    }
    total as u64
}

#[cfg(test)]
mod tests;

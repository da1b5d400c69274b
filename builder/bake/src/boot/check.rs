//! What a machine that has joined must be like from inside. One visit asks everything; what the answers mean is pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    guest::{DataSource, Guest},
    machine::Firmware,
};

/// Asks everything. Each answer is introduced by a line of `@` and its name, and what cannot be asked is no answer.
///
/// `is-system-running --wait` returns when systemd has no more jobs, so a unit that still starts is waited for.
pub(super) const QUESTIONS: &str = r#"
echo @system; systemctl is-system-running --wait
echo @failed; systemctl list-units --failed --no-legend --plain
echo @why; for unit in $(systemctl list-units --failed --no-legend --plain | cut -d' ' -f1); do journalctl --boot --unit "$unit" --no-pager --output=short-monotonic --lines=8; done
echo @agent; rolesmith-agent status --json
echo @cloud-init; cloud-init status --format json
echo @result; cat /run/cloud-init/result.json
echo @firmware; test -d /sys/firmware/efi && echo uefi || echo bios
echo @machine-id; cat /etc/machine-id
echo @host-keys; ls /etc/ssh/ssh_host_*_key
echo @root; lsblk --nodeps --bytes --noheadings --output SIZE "/dev/$(lsblk --noheadings --output PKNAME "$(findmnt --noheadings --output SOURCE /)")"; findmnt --bytes --noheadings --output SIZE /
echo @addresses; ip -json address show
echo @uptime; cat /proc/uptime
exit 0
"#;

/// A machine's own account.
pub(super) struct Answers<'a>(BTreeMap<&'a str, &'a str>);

/// What has to be so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) guest: &'a Guest,
    pub(super) source: DataSource,
    pub(super) firmware: Firmware,
    /// Whether the fleet's repository could be reached. Where not, cloud-init complains of that, and rightly.
    pub(super) repository: bool,
}

impl<'a> Answers<'a> {
    pub(super) fn parse(text: &'a str) -> Answers<'a> {
        let mut answers = BTreeMap::new();
        for part in text.split("\n@").map(|part| part.trim_start_matches('@')) {
            let (name, answer) = part.split_once('\n').unwrap_or((part, ""));
            answers.insert(name.trim(), answer.trim());
        }
        Answers(answers)
    }

    fn get(&self, name: &str) -> &'a str {
        self.0.get(name).copied().unwrap_or("")
    }

    /// Everything there is to complain about, one line each; nothing of a machine that is as it should be.
    pub(super) fn complaints(&self, wanted: &Wanted<'_>) -> Vec<String> {
        let mut found = Vec::new();
        found.extend(self.system(wanted));
        found.extend(self.agent(wanted.guest));
        found.extend(self.cloud_init(wanted));
        let firmware = match wanted.firmware {
            Firmware::Bios => "bios",
            Firmware::Uefi => "uefi",
        };
        if self.get("firmware") != firmware {
            found.push(format!("it did not start with {}", wanted.firmware));
        }
        let id = self.get("machine-id");
        if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            found.push(format!("its machine-id is {id:?}"));
        }
        if self.get("host-keys").is_empty() {
            found.push("its sshd has no host key in /etc/ssh".to_owned());
        }
        found.extend(self.root());
        found.extend(self.addresses(wanted.guest));
        found
    }

    /// What the journal says of the units that failed.
    pub(super) fn why(&self) -> &'a str {
        self.get("why")
    }

    /// Units that failed: none, but for cloud-init's own where the repository is out of reach.
    fn system(&self, wanted: &Wanted<'_>) -> Vec<String> {
        let failed: Vec<&str> = self
            .get("failed")
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .filter(|unit| wanted.repository || *unit != "cloud-final.service")
            .collect();
        let state = self.get("system");
        if !failed.is_empty() {
            vec![format!("units failed: {}", failed.join(", "))]
        } else if state == "running" || (state == "degraded" && !wanted.repository) {
            Vec::new()
        } else {
            vec![format!("systemd says that it is {state:?}")]
        }
    }

    fn agent(&self, guest: &Guest) -> Option<String> {
        let status: serde_json::Value = serde_json::from_str(self.get("agent")).unwrap_or_default();
        let report = &status["report"];
        let (state, node) = (report["state"].as_str(), report["node"].as_str());
        let (state, node) = (state.unwrap_or("silent"), node.unwrap_or("nobody"));
        if node != guest.node {
            return Some(format!("its agent takes it for {node}"));
        }
        (state != "converged").then(|| format!("its agent is {state}"))
    }

    fn cloud_init(&self, wanted: &Wanted<'_>) -> Vec<String> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Status {
            status: String,
            errors: Vec<serde_json::Value>,
            recoverable_errors: BTreeMap<String, Vec<String>>,
        }
        let mut found = Vec::new();
        let result: serde_json::Value =
            serde_json::from_str(self.get("result")).unwrap_or_default();
        let source = result["v1"]["datasource"].as_str().unwrap_or("none");
        if !source.starts_with(wanted.source.class()) {
            found.push(format!("cloud-init's data source is {source}"));
        }
        if !wanted.repository {
            return found;
        }
        let status: Status = serde_json::from_str(self.get("cloud-init")).unwrap_or_default();
        if status.status != "done" {
            found.push(format!("cloud-init is {:?}", status.status));
        }
        found.extend(
            status
                .errors
                .iter()
                .map(|error| format!("cloud-init error: {error}")),
        );
        for (level, texts) in &status.recoverable_errors {
            let level = level.to_lowercase();
            found.extend(
                texts
                    .iter()
                    .map(|text| format!("cloud-init {level}: {text}")),
            );
        }
        found
    }

    /// The root file system has grown to its disk, but for the first partitions and its own tables.
    fn root(&self) -> Option<String> {
        let sizes: Vec<u64> = self
            .get("root")
            .lines()
            .filter_map(|size| size.trim().parse().ok())
            .collect();
        match sizes[..] {
            [disk, root] if root >= disk / 100 * 90 => None,
            [disk, root] => Some(format!(
                "its root file system has {} MB on a disk of {} MB",
                root >> 20,
                disk >> 20
            )),
            _ => Some("the sizes of its disk and its root file system are not known".to_owned()),
        }
    }

    fn addresses(&self, guest: &Guest) -> Vec<String> {
        #[derive(Deserialize)]
        struct Link {
            ifname: String,
            operstate: String,
            addr_info: Vec<Address>,
        }
        #[derive(Deserialize)]
        struct Address {
            family: String,
            local: String,
        }
        let links: Vec<Link> = serde_json::from_str(self.get("addresses")).unwrap_or_default();
        let check = |name: &str, wanted: Option<String>| {
            let Some(link) = links.iter().find(|link| link.ifname == name) else {
                return Some(format!("it has no interface {name}"));
            };
            if link.operstate != "UP" {
                return Some(format!("{name} is {}", link.operstate.to_lowercase()));
            }
            let mut addresses = link.addr_info.iter().filter(|info| info.family == "inet");
            let there = match &wanted {
                Some(address) => addresses.any(|info| info.local == *address),
                None => addresses.next().is_some(),
            };
            let address = wanted.unwrap_or_else(|| "by DHCP".to_owned());
            (!there).then(|| format!("{name} lacks its address {address}"))
        };
        let private = guest
            .private_address
            .and_then(|(address, _)| check(&guest.private_interface, Some(address.to_string())));
        check(&guest.public_interface, None)
            .into_iter()
            .chain(private)
            .collect()
    }
}

#[cfg(test)]
mod tests;

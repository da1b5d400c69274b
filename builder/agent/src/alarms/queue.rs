//! Mail that waits: what postqueue(1) shows of the queue, and from when on a person should look at it.

use rolesmith_model::manifest::CONFIGURED_DIR;
use serde::{Deserialize, Serialize};

use super::message::duration;
use crate::files::{self, Access, Root, Seen};
use crate::program::{Call, Programs};

/// What was seen last (RuntimeDirectory= of rolesmith-alarms.service).
pub const FILE: &str = "/run/rolesmith-alarms/mail.json";
/// How the alarm begins.
pub const WAITS: &str = "mail waits: ";
/// Seconds for which mail may wait: a smarthost that asks for patience is tried again after five minutes (greylisting).
const PATIENCE: u64 = 900;
/// Seconds after which a look is too old; it is looked about every minute.
const OLD: u64 = 600;

/// A look at the queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// When (Unix seconds).
    pub at: u64,
    /// Messages in it, those aside that somebody put on hold.
    pub messages: usize,
    /// When the oldest of them came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<u64>,
    /// Why it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A message as `postqueue -j` shows it, one in a line.
#[derive(Debug, Deserialize)]
struct Message {
    queue_name: String,
    arrival_time: u64,
    #[serde(default)]
    recipients: Vec<Recipient>,
}

#[derive(Debug, Deserialize)]
struct Recipient {
    #[serde(default)]
    delay_reason: Option<String>,
}

impl Queue {
    /// Reads what `postqueue -j` printed.
    ///
    /// # Errors
    /// The line that cannot be read.
    pub fn parse(text: &str, now: u64) -> Result<Self, String> {
        let mut queue = Self {
            at: now,
            ..Self::default()
        };
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let message: Message =
                serde_json::from_str(line).map_err(|error| format!("postqueue -j: {error}"))?;
            if message.queue_name == "hold" {
                continue;
            }
            queue.messages += 1;
            if queue
                .oldest
                .is_none_or(|oldest| message.arrival_time < oldest)
            {
                queue.oldest = Some(message.arrival_time);
                let mut reasons = message.recipients.into_iter();
                queue.reason = reasons.find_map(|recipient| recipient.delay_reason);
            }
        }
        Ok(queue)
    }

    /// Looks.
    #[must_use]
    pub fn look(programs: &impl Programs, now: u64) -> Self {
        let seen = programs
            .output(&Call::new(["postqueue", "-j"]))
            .map_err(|error| error.to_string());
        match seen.and_then(|text| Self::parse(&text, now)) {
            Ok(queue) => queue,
            Err(problem) => Self {
                at: now,
                problem: Some(problem),
                ..Self::default()
            },
        }
    }

    /// What a person should look at.
    #[must_use]
    pub fn alarm(&self, now: u64) -> Option<String> {
        let age = now.saturating_sub(self.at);
        if age > OLD {
            return Some(format!(
                "{WAITS}perhaps, rolesmith-alarms.timer has not looked for {}",
                duration(age)
            ));
        }
        if let Some(problem) = &self.problem {
            return Some(format!(
                "{WAITS}perhaps, its queue cannot be seen: {problem}"
            ));
        }
        let waits = now.saturating_sub(self.oldest?);
        let messages = match self.messages {
            1 => "1 message".to_owned(),
            many => format!("{many} messages"),
        };
        let reason = self.reason.as_deref().unwrap_or("nobody knows why");
        (waits > PATIENCE).then(|| {
            format!(
                "{WAITS}{messages}, the oldest for {}: {reason}",
                duration(waits)
            )
        })
    }

    /// Tells everybody on the machine.
    ///
    /// # Errors
    /// What writing returns.
    pub fn write(&self, root: &Root) -> std::io::Result<()> {
        files::write_json(&root.join(FILE), self, Access::PUBLIC)
    }
}

/// The alarm of a machine that has the role, by what was seen last.
#[must_use]
pub fn alarm(root: &Root, now: u64) -> Option<String> {
    if !root.join(CONFIGURED_DIR).join("mail").exists() {
        return None;
    }
    match files::read_json::<Queue>(&root.join(FILE)) {
        Seen::Is(queue) => queue.alarm(now),
        // The timer has not elapsed yet; that it runs at all is a health check's affair.
        Seen::Absent => None,
        Seen::Broken(why) => Some(format!("{FILE}: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As postfix 3.7 and 3.10 print it.
    const SHOWN: &str = r#"{"queue_name": "deferred", "queue_id": "ED06CAD2058", "arrival_time": 1000, "message_size": 450, "forced_expire": false, "sender": "root@app-1.acme.internal", "recipients": [{"address": "ops@example.com", "delay_reason": "Server certificate not verified"}]}
{"queue_name": "active", "queue_id": "02039AD205A", "arrival_time": 1500, "message_size": 315, "forced_expire": false, "sender": "root@app-1.acme.internal", "recipients": [{"address": "ops@example.com"}]}
{"queue_name": "hold", "queue_id": "02039AD205B", "arrival_time": 10, "message_size": 315, "forced_expire": false, "sender": "root@app-1.acme.internal", "recipients": []}
"#;

    #[test]
    fn the_oldest_message_says_why_it_waits() {
        let queue = Queue::parse(SHOWN, 2000).unwrap();
        assert_eq!((queue.messages, queue.oldest), (2, Some(1000)));
        assert_eq!(queue.alarm(1900), None, "it has not waited for long");
        assert_eq!(
            queue.alarm(2080).as_deref(),
            Some("mail waits: 2 messages, the oldest for 18 min: Server certificate not verified")
        );
        assert_eq!(Queue::parse("", 2000).unwrap().alarm(2000), None);
        assert!(Queue::parse("Mail queue is empty", 2000).is_err());
    }

    #[test]
    fn who_cannot_look_says_so() {
        let old = Queue::parse("", 2000).unwrap();
        assert!(old.alarm(2000 + OLD).is_none());
        let said = old.alarm(2001 + OLD).unwrap();
        assert!(said.contains("has not looked for 10 min"), "{said}");
        let blind = Queue {
            at: 2000,
            problem: Some("the mail system is down".to_owned()),
            ..Queue::default()
        };
        assert!(blind.alarm(2000).unwrap().contains("mail system is down"));
    }

    #[test]
    fn a_machine_without_the_role_has_no_queue() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let waits = Queue::parse(SHOWN, 5000).unwrap();
        waits.write(&root).unwrap();
        assert_eq!(alarm(&root, 5000), None);
        let role = root.join(CONFIGURED_DIR).join("mail");
        files::write(&role, b"1\n", Access::PUBLIC).unwrap();
        assert!(alarm(&root, 5000).unwrap().starts_with(WAITS));
        files::remove(&root.join(FILE)).unwrap();
        assert_eq!(alarm(&root, 5000), None);
    }
}

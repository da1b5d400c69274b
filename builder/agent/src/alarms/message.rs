//! A mail to a person (RFC 5322), for `sendmail -t`. The date and the message's id are added by whoever sends it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rolesmith_model::facts::Identity;

use super::{Known, News};

/// Alarms of a kind that one mail lists.
const LISTED: usize = 50;
/// Most characters of the subject.
const SUBJECT: usize = 120;

/// The mail that tells of this.
#[must_use]
pub fn message(identity: &Identity, to: &str, news: &News, now: u64) -> String {
    let Identity { fleet, node, .. } = identity;
    let mut text = format!(
        "From: rolesmith on {node} <root>\n\
         To: {to}\n\
         Subject: {}\n\
         Auto-Submitted: auto-generated\n\
         MIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: 8bit\n\n",
        subject(fleet, node, news)
    );
    let lasted = |known: &Known| format!("lasted {}", duration(known.seen - known.since));
    let stands = |known: &Known| format!("for {}", duration(now.saturating_sub(known.since)));
    list(&mut text, "New", &news.new, &stands);
    list(&mut text, "Ended", &news.ended, &lasted);
    list(&mut text, "As before", &news.standing, &stands);
    let _ = writeln!(
        text,
        "`rolesmith-agent status` on {node} shows the node, `rolesmith status` the whole fleet."
    );
    text
}

/// In ASCII, so that nothing has to be encoded.
fn subject(fleet: &str, node: &str, news: &News) -> String {
    let one = |alarms: &BTreeMap<String, Known>| {
        let mut texts = alarms.values().map(|known| known.text.clone());
        texts.next().unwrap_or_default()
    };
    let what = match (news.new.len(), news.ended.len()) {
        (1, 0) => one(&news.new),
        (0, 1) => format!("ended: {}", one(&news.ended)),
        (0, ended) => format!("{ended} alarms have ended"),
        (new, 0) => format!("{new} alarms"),
        (new, ended) => format!("{new} new, {ended} ended"),
    };
    let line = format!("[{fleet}] {node}: {what}");
    line.chars()
        .take(SUBJECT)
        .map(|c| if (' '..='~').contains(&c) { c } else { '?' })
        .collect()
}

fn list(
    text: &mut String,
    title: &str,
    alarms: &BTreeMap<String, Known>,
    when: &dyn Fn(&Known) -> String,
) {
    if alarms.is_empty() {
        return;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{title}:");
    for known in alarms.values().take(LISTED) {
        let _ = writeln!(text, "- {} ({})", known.text, when(known));
    }
    if alarms.len() > LISTED {
        let _ = writeln!(text, "- and {} more", alarms.len() - LISTED);
    }
    text.push('\n');
}

/// Seconds as people say them.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use rolesmith_model::facts::Origin;

    use super::*;

    fn known(text: &str, since: u64, seen: u64) -> Known {
        Known {
            text: text.to_owned(),
            since,
            seen,
            told: false,
        }
    }

    fn alarms(list: &[(&str, u64, u64)]) -> BTreeMap<String, Known> {
        list.iter()
            .map(|(text, since, seen)| ((*text).to_owned(), known(text, *since, *seen)))
            .collect()
    }

    fn written(news: &News) -> String {
        let identity = Identity {
            fleet: "acme".to_owned(),
            node: "app-1".to_owned(),
            incarnation: 1,
            origin: Origin::Seed,
        };
        message(&identity, "ops@example.com", news, 10_000)
    }

    #[test]
    fn a_mail_says_what_is_new_what_has_ended_and_what_is_as_before() {
        let text = written(&News {
            new: alarms(&[("redis/unit: is failed", 9_880, 10_000)]),
            ended: alarms(&[("no primary is heard", 1_000, 9_000)]),
            standing: alarms(&[("the node's certificate ends in 9 days", 0, 10_000)]),
        });
        let (head, body) = text.split_once("\n\n").expect("a head and a body");
        assert!(head.contains("\nTo: ops@example.com\n"), "{head}");
        assert!(
            head.contains("\nSubject: [acme] app-1: 1 new, 1 ended\n"),
            "{head}"
        );
        assert!(
            head.contains("\nAuto-Submitted: auto-generated\n"),
            "{head}"
        );
        assert_eq!(
            body,
            "New:\n- redis/unit: is failed (for 2 min)\n\nEnded:\n- no primary is heard (lasted 2 h)\n\n\
             As before:\n- the node's certificate ends in 9 days (for 2 h)\n\n\
             `rolesmith-agent status` on app-1 shows the node, `rolesmith status` the whole fleet.\n"
        );
    }

    #[test]
    fn a_single_alarm_stands_in_the_subject_and_nothing_breaks_the_head() {
        let strange = "ä\u{2028}é: ".to_owned() + &"x".repeat(300);
        let text = written(&News {
            new: alarms(&[(&strange, 0, 10_000)]),
            ended: BTreeMap::new(),
            standing: BTreeMap::new(),
        });
        let subject = text
            .lines()
            .find_map(|line| line.strip_prefix("Subject: "))
            .expect("a subject");
        assert!(subject.starts_with("[acme] app-1: ???: xxx"), "{subject}");
        assert!(subject.is_ascii() && subject.len() == SUBJECT);
    }

    #[test]
    fn a_mail_has_a_bounded_length() {
        let many: BTreeMap<String, Known> = (0..500)
            .map(|n| (n.to_string(), known("x", 0, 10_000)))
            .collect();
        let text = written(&News {
            new: many,
            ended: BTreeMap::new(),
            standing: BTreeMap::new(),
        });
        assert!(text.contains("- and 450 more\n"), "{text}");
        assert!(text.contains("Subject: [acme] app-1: 500 alarms\n"));
    }
}

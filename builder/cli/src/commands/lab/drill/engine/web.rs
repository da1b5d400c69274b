//! What drills do that visitors see: nodes in turn, in and out of service, upgraded.

use std::{
    thread,
    time::{Duration, Instant},
};

use rolesmith_host::build::{LOCK_FILE, read_lock};
use rolesmith_lab::drill::{EventKind, web::DETECTION, web::VisitsVerdict};

use super::{
    super::{
        super::{fault::as_owner, lab_failure, visits},
        step::{Drill, Step, Visits as Wanted, Who},
        web::Web,
    },
    HEALTHY_LIMIT, LOOK, Run, healthy, write,
};
use crate::{
    project,
    report::{Failure, Outcome},
};

/// Where the visitors' files are, in the drill's directory.
pub const VISITS: &str = "visits";
/// How long the load balancer may take to take a node back when it is well.
const BACK_LIMIT: Duration = HEALTHY_LIMIT;
/// apt as it runs where nobody answers its questions; the agent may be fetching facts, for which dpkg is locked.
const INSTALL: &str = "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confold install";
/// What the load balancer's figures do not say: the machine's own slowness.
const SLACK: Duration = Duration::from_secs(2);

impl Run<'_> {
    /// The steps for each node, the primary of the beginning last; each turn begins with a whole fleet.
    pub(super) fn in_turn(&mut self, steps: &'static [Step]) -> Outcome {
        let status = self.lab()?.status().map_err(lab_failure)?;
        let primary = self.cast.primary.clone();
        let mut nodes: Vec<String> = status.nodes.into_iter().map(|node| node.name).collect();
        nodes.retain(|node| *node != primary);
        nodes.push(primary);
        for node in nodes {
            let lab = self.lab()?;
            healthy(self.setting, &lab)?
                .map_err(|missing| Failure::new(missing, "each turn begins with a whole fleet"))?;
            self.turn = Some(node.clone());
            // One replacement at a time, and its machine is a voter later than it streams.
            if steps.iter().any(Step::replaces) {
                let plan = project::plan(self.setting.app)?;
                self.await_turn(&plan, &lab, &node)?;
            }
            self.await_balancer(Who::InTurn, true)?;
            for step in steps {
                self.step(*step)?;
            }
        }
        self.turn = None;
        Ok(())
    }

    /// Waits until the load balancer has a node out of service, or in it. Where the node is not behind it there is nothing to wait for.
    pub(super) fn await_balancer(&mut self, who: Who, up: bool) -> Outcome {
        let node = self.name(who)?;
        let behind = |web: &Web| web.edges.contains(&node);
        if !self.setting.web.is_some_and(behind) {
            return Ok(());
        }
        let limit = if up { BACK_LIMIT } else { DETECTION + SLACK };
        let end = Instant::now() + limit;
        let word = if up { "in" } else { "out" };
        loop {
            let backends = self.lab()?.backends().map_err(lab_failure)?;
            let mut of_node = backends.iter().filter(|backend| backend.node == node);
            if of_node.all(|backend| backend.is_up() == up) {
                self.event(
                    EventKind::Seen,
                    format!("the load balancer has {node} {word}"),
                    vec![],
                );
                return Ok(());
            }
            if Instant::now() > end {
                let problem = format!(
                    "the load balancer does not have {node} {word} after {} s",
                    limit.as_secs()
                );
                self.event(EventKind::Seen, problem.clone(), vec![]);
                self.problems.push(problem);
                return Ok(());
            }
            thread::sleep(LOOK);
        }
    }

    /// Publishes a newer build of every package, though nothing in them is another: their inputs in the lock are forgotten, so that all
    /// get their next versions.
    pub(super) fn publish_newer(&mut self) -> Outcome {
        let app = self.setting.app;
        let lock = read_lock(&app.dir)
            .map_err(|error| Failure::new(error.to_string(), "mend rolesmith.lock"))?;
        let path = app.dir.join(LOCK_FILE);
        let mut text = std::fs::read_to_string(&path)?;
        for locked in lock.packages.values() {
            text = text.replace(&locked.inputs, "");
        }
        // Written over, so that it stays its owner's.
        std::fs::write(&path, text)?;
        as_owner(app, &["publish"], "", "mend what it says")?;
        self.event(
            EventKind::Seen,
            "a newer build of every package is published".into(),
            vec![],
        );
        Ok(())
    }

    /// apt installs the newer build of every package of the fleet on a node, and what it installed is in use when this returns.
    pub(super) fn upgrade(&mut self, kind: EventKind, who: Who) -> Outcome {
        let node = self.name(who)?;
        let fleet = project::plan(self.setting.app)?.fleet.name;
        self.event(kind, format!("apt upgrades {node}"), vec![]);
        // The agent's package is the same file as before: its maintainer scripts are what counts. In the end the agent's work is
        // waited for: what has begun, and what came after that.
        let script = format!(
            "set -e; apt-get -q update; {INSTALL} --only-upgrade $(dpkg-query -W -f '${{db:Status-Abbrev}}${{Package}}\\n' '{fleet}-*' | \
             sed -n 's/^ii //p'); {INSTALL} --reinstall rolesmith-agent; systemctl start rolesmith-apply.service; systemctl start rolesmith-apply.service"
        );
        self.inside(&node, &["timeout", "600", "sh", "-c", &script])?;
        let versions = [
            "dpkg-query",
            "-W",
            "-f",
            "${Version}",
            &format!("{fleet}-base"),
        ]
        .map(str::to_owned);
        let told = self.lab()?.output(&node, &versions).map_err(lab_failure)?;
        let lock = read_lock(&self.setting.app.dir)
            .map_err(|error| Failure::new(error.to_string(), "mend rolesmith.lock"))?;
        let newest = lock
            .packages
            .get(&format!("{fleet}-base"))
            .map(|locked| locked.version.to_string());
        if newest.as_deref() != Some(told.stdout.trim()) {
            self.problems.push(format!(
                "{node} has version {} of {fleet}-base, and {} is published",
                told.stdout.trim(),
                newest.unwrap_or_default()
            ));
        }
        Ok(())
    }

    /// apt alone installs Debian's package of the server again, as an upgrade of it would.
    pub(super) fn reinstall_postgresql(&mut self, kind: EventKind, who: Who) -> Outcome {
        let node = self.name(who)?;
        self.event(
            kind,
            format!("apt installs PostgreSQL of {node} again"),
            vec![],
        );
        let script = format!(
            "set -e; {INSTALL} --reinstall $(dpkg-query -W -f '${{db:Status-Abbrev}}${{Package}}\\n' 'postgresql-[0-9][0-9]' \
             postgresql-common | sed -n 's/^ii //p')"
        );
        self.inside(&node, &["timeout", "600", "sh", "-c", &script])
    }

    /// Ends the visitors and judges what they saw.
    pub(super) fn judge_visitors(&mut self, primary: &str) -> Outcome<Option<VisitsVerdict>> {
        let (Some(visitors), Some(web)) = (self.visitors.take(), self.setting.web) else {
            return Ok(None);
        };
        let lab = self.lab()?;
        visitors.evidence(&lab, self.setting.database, web, primary)?;
        let directory = &self.setting.directory;
        let verdict = visits::read(directory)?;
        write(
            &directory.join("visits.json"),
            &(serde_json::to_string_pretty(&verdict)? + "\n"),
        )?;
        self.problems
            .extend(shortcomings(self.drill, &verdict, web));
        Ok(Some(verdict))
    }
}

/// What of the visitors' verdict is not as the drill wants it.
fn shortcomings(drill: &Drill, verdict: &VisitsVerdict, web: &Web) -> Vec<String> {
    let mut problems = verdict.broken_promises();
    match drill.visits {
        Wanted::None => {}
        Wanted::Excused => {
            if let Some(first) = verdict.stray.first() {
                problems.push(format!(
                    "visitors: {} failed attempts that no fault excuses; {} of {}: {} ({})",
                    verdict.stray.len(),
                    first.number,
                    first.visitor,
                    first.error,
                    first.why
                ));
            }
        }
        Wanted::Undisturbed if verdict.failed_attempts > 0 => {
            problems.push(format!(
                "visitors: {} attempts failed, none may",
                verdict.failed_attempts
            ));
        }
        Wanted::Retried if !verdict.unanswered.is_empty() => {
            problems.push(format!(
                "visitors: {} requests were not answered at the second attempt either",
                verdict.unanswered.len()
            ));
        }
        Wanted::Undisturbed | Wanted::Retried => {}
    }
    if matches!(drill.visits, Wanted::Undisturbed | Wanted::Retried) {
        let out = || verdict.changes.iter().filter(|change| !change.up);
        for change in out().filter(|change| !change.was_asked_for()) {
            problems.push(format!(
                "{} was out before it said 503: {}",
                change.node,
                change.reason.as_deref().unwrap_or_default()
            ));
        }
        for edge in &web.edges {
            if !out().any(|change| change.node == *edge) {
                problems.push(format!("{edge} was never taken out of service"));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use rolesmith_lab::drill::web::{BalancerLog, Visits, judge_visits, parse_balancer};

    use super::*;
    use crate::commands::lab::drill::catalogue::find;

    fn verdict(messages: &[&str]) -> VisitsVerdict {
        let lines: String = messages
            .iter()
            .map(|message| {
                serde_json::json!({"__REALTIME_TIMESTAMP": "5", "MESSAGE": message}).to_string()
                    + "\n"
            })
            .collect();
        let balancer: BalancerLog = parse_balancer(&lines).expect("a journal");
        let mut verdict = judge_visits(&Visits {
            visits: &[],
            events: &[],
            balancer: &balancer,
            orders: &[],
            views: &[],
        });
        // It is about what is beside it.
        verdict.invalid.clear();
        verdict
    }

    const ASKED: &str = "Server http/app-1 is DOWN, reason: Layer7 wrong status, code: 503, info: \"Service Unavailable\", check duration: 1ms. 2 active";
    const SILENT: &str = "Server http/app-1 is DOWN, reason: Layer4 connection problem, info: \"Connection refused\", check duration: 1ms. 2 active";

    fn web() -> Web {
        Web {
            host: "shop.example.com".into(),
            database: "shop".into(),
            edges: vec!["app-1".into()],
        }
    }

    #[test]
    fn who_is_taken_out_in_order_says_so_first() {
        let drill = find("web-drain").expect("a drill");
        assert_eq!(
            shortcomings(drill, &verdict(&[ASKED]), &web()),
            Vec::<String>::new()
        );
        let told = shortcomings(drill, &verdict(&[SILENT]), &web());
        assert!(
            told[0].contains("app-1 was out before it said 503: Layer4"),
            "{told:?}"
        );
        let told = shortcomings(drill, &verdict(&[]), &web());
        assert_eq!(told, ["app-1 was never taken out of service"]);
    }

    #[test]
    fn what_may_fail_depends_on_the_drill() {
        let mut seen = verdict(&[ASKED]);
        seen.failed_attempts = 2;
        seen.retried = 1;
        seen.unanswered = vec![7];
        let told = |name: &str, seen: &VisitsVerdict| {
            shortcomings(find(name).expect("a drill"), seen, &web()).len()
        };
        assert_eq!(told("web-drain", &seen), 1);
        assert_eq!(told("upgrade", &seen), 1);
        // Its attempts are judged one by one.
        assert_eq!(told("web-kill", &seen), 0);
        seen.unanswered.clear();
        assert_eq!(told("upgrade", &seen), 0);
    }
}

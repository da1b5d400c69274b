use crate::cli::{End, json, now};
use crate::files::Root;
use crate::health::Health;

/// Tell whether every health check of this node's roles passes
///
/// Reads what rolesmith-agent.service saw last (it looks every 10 seconds). Exits with 1 when a check fails, when this
/// machine is not enrolled, and when nobody looked for 35 seconds.
#[derive(Debug, clap::Args)]
pub(crate) struct HealthArgs {
    /// For programs
    #[arg(long)]
    json: bool,
}

impl HealthArgs {
    pub(crate) fn run(self) -> End {
        let health = Health::read(&Root::machine(), now());
        let text = if self.json {
            json(&health)
        } else {
            let mut lines: Vec<String> = health
                .problem
                .iter()
                .map(|problem| format!("- {problem}\n"))
                .collect();
            lines.extend(health.checks.iter().map(|check| match &check.problem {
                None => format!("+ {}/{}\n", check.role, check.name),
                Some(problem) => format!("- {}/{}: {problem}\n", check.role, check.name),
            }));
            lines.concat()
        };
        if health.healthy {
            End::Good(text)
        } else {
            End::Bad(text)
        }
    }
}

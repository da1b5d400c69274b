//! rolesmith logs

use std::ffi::OsString;

use rolesmith_lab::{Lab, RunState};
use rolesmith_model::plan::Plan;

use super::lab::{lab_failure, place};
use crate::{
    app::App,
    args::{Logs, Reach},
    project, reach,
    report::{Failure, Outcome},
};

/// Who keeps the aggregated log.
const ROLE: &str = "log-server";

/// Searches on a log server.
pub fn run(app: &App, args: &Logs) -> Outcome {
    let plan = project::plan(app)?;
    let servers = servers(&plan)?;
    let words = words(args, app.json);
    let status = if args.lab {
        let lab = place::open(app)?;
        let node = awake(&lab, &servers)?;
        let argv: Vec<OsString> = words.iter().map(OsString::from).collect();
        lab.exec(&node, &argv, false).map_err(lab_failure)?
    } else {
        let reach = Reach {
            ssh: args.ssh.clone(),
            user: args.user.clone(),
            port: args.port,
            ssh_options: args.ssh_options.clone(),
            from: None,
        };
        let wanted = |node: &str| servers.iter().any(|server| server == node);
        reach::connect(app, &plan, &reach, wanted)?.pass_through(&script(&words))?
    };
    match status {
        0 => Ok(()),
        status => Err(Failure::Status(status)),
    }
}

fn servers(plan: &Plan) -> Outcome<Vec<String>> {
    let servers: Vec<String> = plan
        .nodes
        .iter()
        .filter(|node| node.roles.iter().any(|role| role.as_str() == ROLE))
        .map(|node| node.name.to_string())
        .collect();
    if servers.is_empty() {
        return Err(Failure::new(
            "no node of this fleet keeps the aggregated log",
            format!("give one or two nodes the role {ROLE}"),
        ));
    }
    Ok(servers)
}

/// The first log server of the lab that runs.
fn awake(lab: &Lab, servers: &[String]) -> Outcome<String> {
    let nodes = lab.status().map_err(lab_failure)?.nodes;
    let running = nodes.into_iter().find(|node| {
        servers.contains(&node.name) && node.state == RunState::Running && !node.frozen
    });
    running.map(|node| node.name).ok_or_else(|| {
        Failure::new(
            format!("no log server of the lab runs: {}", servers.join(", ")),
            "`rolesmith lab start NODE` boots one",
        )
    })
}

/// The agent's command.
fn words(args: &Logs, json: bool) -> Vec<String> {
    let mut words = ["rolesmith-agent", "logs", "grep"]
        .map(str::to_owned)
        .to_vec();
    let mut option = |name: &str, value: &str| words.push(format!("--{name}={value}"));
    let times = [("since", &args.since), ("until", &args.until)];
    for (name, value) in times.into_iter().chain([("severity", &args.severity)]) {
        if let Some(value) = value {
            option(name, value);
        }
    }
    for (name, values) in [("node", &args.node), ("service", &args.service)] {
        for value in values {
            option(name, value);
        }
    }
    let flags = [
        ("follow", args.follow),
        ("ignore-case", args.ignore_case),
        ("fixed-strings", args.fixed_strings),
        ("invert-match", args.invert_match),
        ("raw", args.raw),
        ("count", args.count),
        ("json", json),
    ];
    let given = flags.into_iter().filter(|(_, given)| *given);
    words.extend(given.map(|(name, _)| format!("--{name}")));
    if let Some(pattern) = &args.pattern {
        words.extend(["--".to_owned(), pattern.clone()]);
    }
    words
}

/// A program of sh that searches: as whoever logged in where that is enough, else as root.
fn script(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    let command = quoted.join(" ");
    format!(
        "{{\n\
         if [ -r /var/log/rolesmith/hosts ]; then exec {command}; fi\n\
         exec sudo -n {command}\n\
         }}\n"
    )
}

/// A word as sh takes it, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command as Which};

    fn asked(line: &[&str]) -> Vec<String> {
        let cli = Cli::parse_from([&["rolesmith", "logs"], line].concat());
        match &cli.command {
            Which::Logs(args) => words(args, cli.json),
            _ => panic!("another command"),
        }
    }

    #[test]
    fn the_agent_is_asked_for_what_was_asked_for() {
        let words = asked(&[
            "--since",
            "-1h",
            "-U",
            "10:00",
            "-n",
            "app-*",
            "--node=db-1",
            "-t",
            "nginx",
            "-p",
            "err",
            "-iF",
            "-v",
            "--count",
            "--",
            "-x",
        ]);
        let expected = "rolesmith-agent logs grep --since=-1h --until=10:00 --severity=err --node=app-* --node=db-1 \
                        --service=nginx --ignore-case --fixed-strings --invert-match --count -- -x";
        assert_eq!(words.join(" "), expected);
        assert_eq!(
            asked(&["-f", "--raw"]).join(" "),
            "rolesmith-agent logs grep --follow --raw"
        );
        assert_eq!(
            asked(&["--json"]).join(" "),
            "rolesmith-agent logs grep --json"
        );
    }

    #[test]
    fn words_reach_the_program_as_they_are() {
        for word in ["", "a b", "it's", "$(id) `id` \\ \" * ; &", "-", "a\nb"] {
            let script = format!("printf %s {}", quoted(word));
            let output = Command::new("sh")
                .args(["-c", &script])
                .output()
                .expect("sh is there");
            assert_eq!(String::from_utf8_lossy(&output.stdout), word);
        }
    }
}

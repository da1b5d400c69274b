//! What may befall a node of the lab.

use std::{
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
};

use rolesmith_lab::End;

use super::{lab_failure, place::existing};
use crate::{
    app::App,
    project,
    report::{Failure, Outcome},
};

/// rolesmith lab kill
pub fn kill(app: &App, node: &str, crash: bool) -> Outcome {
    let how = if crash { End::Crash } else { End::PowerLoss };
    let was = rolesmith_lab::kill(&existing(app)?, node, how).map_err(lab_failure)?;
    app.say(if was {
        format!("{node} is off. `rolesmith lab start {node}` boots it again.")
    } else {
        format!("{node} was not running.")
    });
    Ok(())
}

/// rolesmith lab freeze
pub fn freeze(app: &App, node: &str) -> Outcome {
    let was = rolesmith_lab::freeze(&existing(app)?, node, true).map_err(lab_failure)?;
    app.say(if was {
        format!("{node} stands still. `rolesmith lab thaw {node}` lets it go on.")
    } else {
        format!("{node} was frozen already.")
    });
    Ok(())
}

/// rolesmith lab thaw
pub fn thaw(app: &App, node: &str) -> Outcome {
    let was = rolesmith_lab::freeze(&existing(app)?, node, false).map_err(lab_failure)?;
    app.say(if was {
        format!("{node} goes on.")
    } else {
        format!("{node} was not frozen.")
    });
    Ok(())
}

/// rolesmith lab cut
pub fn cut(app: &App, node: &str, from: Option<&str>, one_way: bool) -> Outcome {
    let was = rolesmith_lab::cut(&existing(app)?, node, from, one_way).map_err(lab_failure)?;
    let whom = from.unwrap_or("all others");
    app.say(match (was, one_way) {
        (true, false) => format!("{node} is cut off from {whom}."),
        (true, true) => format!("What {node} sends does not reach {whom}."),
        (false, _) => format!("{node} was cut off from {whom} already."),
    });
    Ok(())
}

/// rolesmith lab mend
pub fn mend(app: &App, node: Option<&str>) -> Outcome {
    let was = rolesmith_lab::mend(&existing(app)?, node).map_err(lab_failure)?;
    app.say(if was {
        "The cuts are mended."
    } else {
        "Nothing was cut."
    });
    Ok(())
}

/// Destroys a node's machine, makes a new incarnation of the node and publishes it. What is left is to boot a new machine.
pub fn renew(app: &App, node: &str) -> Outcome {
    let plan = project::plan(app)?;
    project::node(&plan, node)?;
    let state_dir = existing(app)?;
    if rolesmith_lab::destroy(&state_dir, node).map_err(lab_failure)? {
        app.say(format_args!("{node} is destroyed."));
    }
    // `lab up` renders the new seed itself. Printing this one, read to its end, is what makes the new incarnation count.
    let help = format!("mend what it says, then run `rolesmith lab replace {node}` again");
    as_owner(app, &["user-data", node, "--replace"], "", &help)?;
    as_owner(app, &["publish"], "", &help)
}

/// Runs a command of rolesmith on the same fleet, with that to read, as whoever owns its directory: root, for whom the lab is, must not leave files of
/// its own in somebody's secrets/ and dist/.
pub fn as_owner(app: &App, words: &[&str], input: &str, help: &str) -> Outcome {
    let program = std::env::current_exe()?;
    let owner = std::fs::metadata(&app.dir)?;
    let mut command = if owner.uid() == 0 {
        Command::new(program)
    } else {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={}", owner.uid()))
            .arg(format!("--regid={}", owner.gid()))
            .args(["--init-groups", "--reset-env", "env"]);
        for name in ["XDG_CACHE_HOME", "ROLESMITH_AGENT_DEB", "NO_COLOR"] {
            if let Some(value) = std::env::var_os(name) {
                let mut word = std::ffi::OsString::from(format!("{name}="));
                word.push(value);
                command.arg(word);
            }
        }
        command.arg(program);
        command
    };
    let directory = app.dir.canonicalize()?;
    command.arg("-C").arg(directory).args(words);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let pipe = child.stdin.take();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that ends early says why by its exit status.
            if let Some(mut pipe) = pipe {
                let _ = pipe.write_all(input.as_bytes());
            }
        });
        child.wait_with_output()
    })?;
    let said = String::from_utf8_lossy(&output.stderr);
    let what = words.first().copied().unwrap_or_default();
    if !output.status.success() {
        return Err(Failure::new(
            format!("rolesmith {what} failed: {}", said.trim()),
            help,
        ));
    }
    if !said.trim().is_empty() {
        app.say(said.trim());
    }
    Ok(())
}

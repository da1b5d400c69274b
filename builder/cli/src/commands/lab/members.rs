//! The fleet in the lab as its own members see it, and what is learnt from it.

use rolesmith_lab::{Lab, RunState};
use rolesmith_model::status::FleetStatus;

use super::{fault::as_owner, lab_failure, place::state_dir};
use crate::{app::App, clusters, report::Outcome};

/// What a node told.
pub struct Told {
    /// How the fleet is.
    pub status: FleetStatus,
    /// The same, as the node wrote it.
    text: String,
}

/// Asks the running nodes in turn until one tells how the fleet is. A fleet without the agent has nobody to ask.
pub fn ask(lab: &Lab) -> Outcome<Option<Told>> {
    for node in lab.status().map_err(lab_failure)?.nodes {
        if node.state != RunState::Running || node.frozen {
            continue;
        }
        let command = ["rolesmith-agent", "status", "--fleet", "--json"];
        let Ok(output) = lab.output(&node.name, &command) else {
            continue;
        };
        if let Ok(status) = serde_json::from_str(&output.stdout) {
            return Ok(Some(Told {
                status,
                text: output.stdout,
            }));
        }
    }
    Ok(None)
}

/// Writes down what is new in it, in the name of whoever owns the fleet's directory.
pub fn write_down(app: &App, told: &Told) -> Outcome {
    if !clusters::has_news(app, &told.status)? {
        return Ok(());
    }
    as_owner(
        app,
        &["status", "--from", "-"],
        &told.text,
        "see whether cluster.lock in the fleet's directory is this lab's",
    )
}

/// Machines of a new lab hold no data, and closed genesis lets them make none.
pub fn warn_of_closed_genesis(app: &App, fleet: &str) -> Outcome {
    let new = !state_dir(app, fleet)?.join("lab.json").exists();
    if new && let Some(way_out) = clusters::before_a_new_beginning(&clusters::lock(app)?) {
        app.say(format_args!(
            "warning: the machines of this lab are new and wait for others that have the data. {way_out}, before the lab is booted."
        ));
    }
    Ok(())
}

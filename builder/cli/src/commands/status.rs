//! rolesmith status

use crate::{
    app::{App, line, out},
    args::Status,
    clusters, project, reach,
    report::Outcome,
};

/// Shows the fleet as one of its members sees it, and writes down what is new in it.
pub fn run(app: &App, args: &Status) -> Outcome {
    let plan = project::plan(app)?;
    let told = reach::ask(app, &plan, &args.reach, None)?;
    if app.json {
        line(serde_json::to_string_pretty(&told.status)?)?;
    } else {
        out(told.status.table())?;
    }
    clusters::learn(app, &told.status)
}

//! Machines that are replaced.

use std::{thread, time::Instant};

use rolesmith_lab::{Lab, drill::EventKind};
use rolesmith_model::plan::Plan;

use super::{
    super::super::{fault, lab_failure, turn},
    HEALTHY_LIMIT, LOOK, Run, healthy,
};
use crate::{
    project,
    report::{Failure, Outcome},
};

impl Run<'_> {
    /// The machine of a node is gone, with its disk; the next one's identity is published.
    pub(super) fn destroy(&mut self, kind: EventKind, node: &str) -> Outcome {
        self.event(kind, format!("{node} is replaced"), vec![node.to_owned()]);
        rolesmith_lab::kill(&self.state_dir, node, rolesmith_lab::End::PowerLoss)
            .map_err(lab_failure)?;
        self.workload.ended(node);
        fault::renew(self.setting.app, node)
    }

    /// All of them, the primary of the beginning last.
    pub(super) fn replace_each(&mut self) -> Outcome {
        let plan = project::plan(self.setting.app)?;
        let mut nodes = self.cast.standbys.clone();
        nodes.push(self.cast.primary.clone());
        for node in &nodes {
            let lab = self.lab()?;
            self.await_turn(&plan, &lab, node)?;
            self.destroy(EventKind::Fault, node)?;
            for other in nodes.iter().filter(|other| *other != node) {
                if turn::check(self.setting.app, &plan, &lab, other).is_ok() {
                    self.problems.push(format!(
                        "{other} might have been replaced while the new machine of {node} was not a member yet"
                    ));
                }
            }
            self.boot(EventKind::Heal, node)?;
        }
        Ok(())
    }

    /// Waits until the fleet is whole and this node may be replaced.
    pub(super) fn await_turn(&self, plan: &Plan, lab: &Lab, node: &str) -> Outcome {
        // A standby streams before its machine is a voter.
        let end = Instant::now() + HEALTHY_LIMIT;
        healthy(self.setting, lab)?
            .map_err(|missing| Failure::new(missing, "each turn begins with a whole fleet"))?;
        loop {
            match turn::check(self.setting.app, plan, lab, node) {
                Err(_) if Instant::now() < end => thread::sleep(LOOK * 10),
                result => return result,
            }
        }
    }
}

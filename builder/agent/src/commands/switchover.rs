use rolesmith_model::ids::NodeName;

use crate::cli::End;
use crate::cluster::{Refusal, Request, Response};
use crate::files::Root;
use crate::runtime::control;

/// Hand the database over to another node (root; on the node that is primary)
///
/// The primary stops cleanly, so that the other node has everything, and that node takes its place. Applications see their
/// connections close once. `status` tells when it is done.
#[derive(Debug, clap::Args)]
pub(crate) struct Switchover {
    /// The next primary
    node: String,
}

impl Switchover {
    pub(crate) fn run(self) -> End {
        let to = match NodeName::new(self.node.clone()) {
            Ok(to) => to,
            Err(error) => return End::Error(format!("{:?} {error}", self.node)),
        };
        match control::ask(&Root::machine(), &Request::Switchover { to }) {
            Ok(reply) => match reply.response {
                Response::Ok => End::Good(format!("handing over to {}\n", self.node)),
                Response::Refused(Refusal::NotNow) => End::Error(format!(
                    "not now: this node has to be the primary, and {} a standby that streams from it",
                    self.node
                )),
                Response::Refused(Refusal::NoVoter) => {
                    End::Error("this node has no part in the database's cluster".to_owned())
                }
                other => End::Error(format!("refused: {other:?}")),
            },
            Err(error) => End::Error(control::silent(&error)),
        }
    }
}

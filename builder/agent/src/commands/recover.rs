use std::fs;
use std::io::{self, Read as _};
use std::path::PathBuf;

use rolesmith_model::recovery::SignedOrder;

use crate::cli::End;
use crate::files::Root;
use crate::runtime::control;

/// End a lost majority by an order that `rolesmith recover` signed (root; on the node that the order names)
///
/// This node alone is the database's cluster afterwards. What only the lost nodes had is lost, and they must not come back
/// with their data. An order is good for one machine, one configuration and one day, so that it works once.
#[derive(Debug, clap::Args)]
pub(crate) struct Recover {
    /// The order; - reads standard input
    order: PathBuf,
}

impl Recover {
    pub(crate) fn run(self) -> End {
        let shown = self.order.display();
        let text = if self.order.as_os_str() == "-" {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map(|_| text)
        } else {
            fs::read_to_string(&self.order)
        };
        let order: SignedOrder = match text {
            Err(error) => return End::Error(format!("{shown}: {error}")),
            Ok(text) => match serde_json::from_str(&text) {
                Ok(order) => order,
                Err(error) => {
                    return End::Error(format!(
                        "{shown}:{}: this is no order as `rolesmith recover` makes them: {error}",
                        error.line()
                    ));
                }
            },
        };
        match control::recover(&Root::machine(), &order) {
            Ok(Ok(())) => End::Good(format!(
                "{} alone is the cluster now and becomes primary; `rolesmith-agent status` tells when. The other members have to be \
                 made anew: `rolesmith user-data NODE --replace`\n",
                order.order.survivor
            )),
            Ok(Err(why)) => End::Error(why),
            Err(error) => End::Error(control::silent(&error)),
        }
    }
}

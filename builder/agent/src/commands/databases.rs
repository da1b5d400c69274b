use crate::cli::End;
use crate::postgres::databases;

/// Make the databases of the fleet's services where this node is the primary (run by its unit)
///
/// Does nothing on a standby, and where all of them are there. Never drops one.
#[derive(Debug, clap::Args)]
pub(crate) struct Databases {}

impl Databases {
    pub(crate) fn run(self) -> End {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let ended = match runtime {
            Ok(runtime) => runtime.block_on(databases::make()),
            Err(error) => return End::Error(format!("no event loop: {error}")),
        };
        match ended {
            Ok(None) => End::Good("this node is not the primary\n".into()),
            Ok(Some(changed)) if changed.is_empty() => {
                End::Good("all databases are there\n".into())
            }
            Ok(Some(changed)) => End::Good(format!("made or changed: {}\n", changed.join(", "))),
            Err(error) => End::Error(error.to_string()),
        }
    }
}

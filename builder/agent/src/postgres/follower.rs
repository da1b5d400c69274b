//! pgbouncer of a node that has no database: it follows the primary all the same (rule 13).
//!
//! Who the primary is, the members say ([`crate::runtime::watch`]); nothing of it counts before the same is read on that
//! node's server, as a role that may read the rows of epochs and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rolesmith_model::ids::NodeName;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::Problem;
use super::pooler::{Place, answered, lead, question};
use super::remote::{self, Proof};
use crate::cluster::EpochRow;
use crate::files::{self, Seen};

/// Rendered by the role db-client for each of its nodes.
pub const SETTINGS_FILE: &str = "/var/lib/rolesmith/conf/db-client/pooler.json";
/// The PostgreSQL role of the agents of nodes without a database. It needs the certificate of a member with the role
/// db-client, and may do nothing but read `rolesmith.epoch`.
pub const FOLLOWER_ROLE: &str = "rolesmith_follower";

/// [`SETTINGS_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Settings {
    /// Port of the databases' servers.
    pub port: u16,
    /// The node's certificate.
    pub certificate: PathBuf,
    /// The fleet's CA.
    pub ca: PathBuf,
    /// The node's private key.
    pub key: PathBuf,
}

impl Settings {
    /// Reads what the role rendered; `None` where this node has no pooler.
    ///
    /// # Errors
    /// A file that cannot be read or understood.
    pub fn load(path: &Path) -> Result<Option<Self>, Problem> {
        match files::read_json(path) {
            Seen::Absent => Ok(None),
            Seen::Is(settings) => Ok(Some(settings)),
            Seen::Broken(why) => Err(Problem::Refused(format!("{}: {why}", path.display()))),
        }
    }
}

/// pgbouncer of this node, and the way to the servers that it may follow. Clones share everything.
#[derive(Debug, Clone)]
pub struct Follower(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    /// Where members are, by name.
    addresses: RwLock<BTreeMap<NodeName, String>>,
    /// One change at a time.
    turn: Mutex<()>,
}

impl Follower {
    /// On the node that these settings describe. Touches nothing.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner {
            settings,
            addresses: RwLock::default(),
            turn: Mutex::default(),
        }))
    }

    /// Tells where a member is now.
    pub fn locate(&self, node: NodeName, address: String) {
        let addresses = &self.0.addresses;
        let mut addresses = addresses.write().unwrap_or_else(PoisonError::into_inner);
        addresses.insert(node, address);
    }

    /// Lets pgbouncer follow the primary of that row, after it was read there that it is; or nobody.
    ///
    /// # Errors
    /// That node is not known to be the primary, or pgbouncer does not answer. Trying again may help.
    pub async fn follow(&self, row: Option<&EpochRow>) -> Result<(), Problem> {
        let _turn = self.0.turn.lock().await;
        let settings = &self.0.settings;
        let members = {
            let addresses = self.0.addresses.read();
            addresses.unwrap_or_else(PoisonError::into_inner).clone()
        };
        let Some(row) = row else {
            return lead(None, settings.port, &members).await;
        };
        let address = members.get(&row.node).cloned().ok_or_else(|| {
            Problem::Later(format!("the address of {} is not known yet", row.node))
        })?;
        let proof = Proof {
            user: FOLLOWER_ROLE,
            certificate: &settings.certificate,
            ca: &settings.ca,
            key: &settings.key,
        };
        let (question, place) = (question(row), (address.as_str(), settings.port));
        let reply = remote::ask(&row.node, place, &proof, &question).await?;
        answered(row, &reply)?;
        let place = Place::There(address);
        lead(Some((&row.node, &place)), settings.port, &members).await
    }
}

//! Ports that others may reach on a node, and who they are.

use std::{collections::BTreeSet, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ids::{NameError, RoleName},
    manifest::Protocol,
};

/// What stands before the name of a role in a list of roles.
const ROLE: &str = "role:";

/// Who may reach a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum OpenTo {
    /// Everybody, on the public interface and the private one.
    Public,
    /// The load balancer, on the private interface.
    LoadBalancer,
    /// Members of the fleet, on the private interface.
    Fleet,
    /// Members that have one of these roles, of which there is at least one; on the private interface.
    Roles(BTreeSet<RoleName>),
}

/// For people, after "from".
impl fmt::Display for OpenTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("everybody"),
            Self::LoadBalancer => f.write_str("the load balancer"),
            Self::Fleet => f.write_str("members"),
            Self::Roles(roles) => {
                let names: Vec<&str> = roles.iter().map(RoleName::as_str).collect();
                write!(f, "members with {}", names.join(" or "))
            }
        }
    }
}

/// A group of those who may reach a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// Everybody, on the public interface and the private one.
    Public,
    /// The load balancer, on the private interface.
    LoadBalancer,
    /// Members of the fleet, on the private interface.
    Fleet,
}

/// [`OpenTo`] as role.toml writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Written {
    /// A group.
    Group(Group),
    /// Members that have one of these roles: ["role:app", "role:redis"].
    Roles(Vec<String>),
}

/// Why a list of roles says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenToError {
    /// It is empty.
    #[error("an empty list")]
    Empty,
    /// It names something else than a role.
    #[error("{0:?} in a list of roles")]
    NoRole(String),
    /// It names something that cannot be a role.
    #[error("{0:?}: the role's name {1}")]
    Name(String, NameError),
    /// It names a role twice.
    #[error("{0:?} twice")]
    Twice(String),
}

impl TryFrom<Written> for OpenTo {
    type Error = OpenToError;

    fn try_from(written: Written) -> Result<Self, OpenToError> {
        let words = match written {
            Written::Group(Group::Public) => return Ok(Self::Public),
            Written::Group(Group::LoadBalancer) => return Ok(Self::LoadBalancer),
            Written::Group(Group::Fleet) => return Ok(Self::Fleet),
            Written::Roles(words) => words,
        };
        let mut roles = BTreeSet::new();
        for word in words {
            let Some(name) = word.strip_prefix(ROLE) else {
                return Err(OpenToError::NoRole(word));
            };
            let role = RoleName::new(name).map_err(|why| OpenToError::Name(word.clone(), why))?;
            if !roles.insert(role) {
                return Err(OpenToError::Twice(word));
            }
        }
        if roles.is_empty() {
            return Err(OpenToError::Empty);
        }
        Ok(Self::Roles(roles))
    }
}

impl From<OpenTo> for Written {
    fn from(open: OpenTo) -> Self {
        match open {
            OpenTo::Public => Self::Group(Group::Public),
            OpenTo::LoadBalancer => Self::Group(Group::LoadBalancer),
            OpenTo::Fleet => Self::Group(Group::Fleet),
            OpenTo::Roles(roles) => {
                Self::Roles(roles.iter().map(|role| format!("{ROLE}{role}")).collect())
            }
        }
    }
}

/// A port that others may reach on a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Opening {
    /// What listens there.
    pub name: String,
    /// 1 to 65535.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Who may reach it.
    pub from: OpenTo,
    /// Most new connections a minute from one IPv4 address or one IPv6 network of 64 bits; none for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<OpenTo, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_read_back() {
        for json in [
            "\"public\"",
            "\"load-balancer\"",
            "\"fleet\"",
            "[\"role:app\",\"role:redis\"]",
        ] {
            let open = read(json).expect("it is right");
            assert_eq!(serde_json::to_string(&open).expect("it has a form"), json);
        }
        assert_eq!(
            read("[\"role:redis\",\"role:app\"]")
                .expect("it is right")
                .to_string(),
            "members with app or redis"
        );
    }

    #[test]
    fn what_says_nothing_is_refused() {
        for (json, why) in [
            ("[]", "an empty list"),
            ("[\"fleet\"]", "\"fleet\" in a list of roles"),
            ("[\"role:App\"]", "begins with"),
            ("[\"role:app\",\"role:app\"]", "twice"),
            ("\"internet\"", "did not match"),
        ] {
            let told = read(json).expect_err(json);
            assert!(told.contains(why), "{json}: {told}");
        }
    }
}

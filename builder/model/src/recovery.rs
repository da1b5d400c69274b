//! The way out of a lost majority: an order that the operator signs with the key of the fleet's CA, which stays offline, and
//! that one node alone can carry out, once (rule 7 of the high-availability rules).

use serde::{Deserialize, Serialize};

/// Format of [`SignedOrder`]; an agent refuses another one.
pub const ORDER_FORMAT: u32 = 1;
/// How many seconds after it was issued an order is still carried out. What protects from an order that is used twice is
/// the configuration that it names; this protects from one that was forgotten in a drawer.
pub const ORDER_LIFETIME: u64 = 24 * 60 * 60;

/// "This node alone is the cluster from now on."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The fleet.
    pub fleet: String,
    /// The node that survives.
    pub survivor: String,
    /// Which incarnation of its name.
    pub incarnation: u64,
    /// The random id of that machine's first start, in hexadecimal.
    pub machine: String,
    /// The configuration that ends: the epoch in which it was written.
    pub epoch: u64,
    /// Its version.
    pub version: u64,
    /// The database.
    pub system_id: String,
    /// When the order was signed (Unix seconds).
    pub issued: u64,
}

/// An order with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedOrder {
    /// [`ORDER_FORMAT`].
    pub format: u32,
    /// The order.
    #[serde(flatten)]
    pub order: Order,
    /// The CA's signature of [`Order::statement`]: ECDSA on P-256 with SHA-256 in DER, in hexadecimal.
    pub signature: String,
}

impl Order {
    /// What is signed. It begins with words that no certificate begins with, so that neither can be taken for the other.
    #[must_use]
    pub fn statement(&self) -> Vec<u8> {
        let Self {
            fleet,
            survivor,
            incarnation,
            machine,
            epoch,
            version,
            system_id,
            issued,
        } = self;
        format!(
            "rolesmith recovery order {ORDER_FORMAT}\n\
             fleet {fleet}\n\
             survivor {survivor}\n\
             incarnation {incarnation}\n\
             machine {machine}\n\
             replaces {epoch}.{version}\n\
             database {system_id}\n\
             issued {issued}\n"
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_signed() {
        type Change = fn(&mut Order);
        let order = Order {
            fleet: "acme".into(),
            survivor: "app-1".into(),
            incarnation: 1,
            machine: "00000000000000ff".into(),
            epoch: 3,
            version: 6,
            system_id: "7".into(),
            issued: 1_800_000_000,
        };
        let changes: [Change; 8] = [
            |order| order.fleet.push('x'),
            |order| order.survivor.push('x'),
            |order| order.incarnation += 1,
            |order| order.machine.push('0'),
            |order| order.epoch += 1,
            |order| order.version += 1,
            |order| order.system_id.push('0'),
            |order| order.issued += 1,
        ];
        for change in changes {
            let mut other = order.clone();
            change(&mut other);
            assert_ne!(order.statement(), other.statement());
        }
        let signed = SignedOrder {
            format: ORDER_FORMAT,
            order,
            signature: "00".into(),
        };
        let json = serde_json::to_string(&signed).unwrap();
        assert_eq!(serde_json::from_str::<SignedOrder>(&json).unwrap(), signed);
    }
}

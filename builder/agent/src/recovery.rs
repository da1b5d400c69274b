//! Whether an order to end a lost majority comes from the operator and is meant for this machine as it is now: pure.

use rolesmith_model::facts::Identity;
use rolesmith_model::recovery::{ORDER_FORMAT, ORDER_LIFETIME, Order, SignedOrder};
use rustls::pki_types::CertificateDer;
use webpki::{EndEntityCert, ring::ECDSA_P256_SHA256};

use crate::cluster::StatusReport;

/// Seconds by which the operator's clock may be ahead of this machine's.
const AHEAD: u64 = 3600;

/// Why an order is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Another version made it.
    #[error(
        "the order has format {0}, and this agent knows {ORDER_FORMAT}: use a rolesmith and an agent of one version"
    )]
    Format(u32),
    /// The CA did not sign it.
    #[error(
        "the fleet's CA did not sign this order: make one with `rolesmith recover` where the fleet's secrets are"
    )]
    Signature,
    /// It is for somebody else.
    #[error("the order is for {wanted}, and this is {found}: bring it to the node that it names")]
    OtherNode {
        /// Whom it is for.
        wanted: String,
        /// Who this is.
        found: String,
    },
    /// Its time is over, or has not come.
    #[error(
        "the order was issued at {issued} and it is {now} here (Unix seconds): one is good for a day. Make a new one, and see whether both clocks are right"
    )]
    Time {
        /// When it was issued.
        issued: u64,
        /// Now.
        now: u64,
    },
    /// It was used, or the cluster has gone on.
    #[error(
        "the order replaces configuration {ordered}, and {found} is active here: it was carried out before, or the cluster has gone on. Look at `rolesmith-agent status --fleet`, and make a new order if it is still needed"
    )]
    Configuration {
        /// The configuration that the order names.
        ordered: String,
        /// The active one.
        found: String,
    },
}

/// This machine.
#[derive(Debug, Clone, Copy)]
pub struct Here<'a> {
    /// Who it is.
    pub identity: &'a Identity,
    /// The random id of its first start.
    pub machine: u64,
    /// The fleet's CA.
    pub authorities: &'a [CertificateDer<'static>],
    /// Its part in the cluster.
    pub status: &'a StatusReport,
    /// Unix seconds.
    pub now: u64,
}

/// Judges an order.
///
/// # Errors
/// [`Unfit`].
pub fn judge(signed: &SignedOrder, here: Here<'_>) -> Result<(), Unfit> {
    let SignedOrder {
        format,
        order,
        signature,
    } = signed;
    if *format != ORDER_FORMAT {
        return Err(Unfit::Format(*format));
    }
    // Before anything else is said: who cannot sign learns nothing.
    let bytes = unhex(signature).ok_or(Unfit::Signature)?;
    let signed_by = |authority: &CertificateDer<'static>| {
        EndEntityCert::try_from(authority).is_ok_and(|certificate| {
            certificate
                .verify_signature(ECDSA_P256_SHA256, &order.statement(), &bytes)
                .is_ok()
        })
    };
    if !here.authorities.iter().any(signed_by) {
        return Err(Unfit::Signature);
    }
    let found = Order {
        fleet: here.identity.fleet.clone(),
        survivor: here.identity.node.clone(),
        incarnation: here.identity.incarnation,
        machine: format!("{:016x}", here.machine),
        ..order.clone()
    };
    if *order != found {
        return Err(Unfit::OtherNode {
            wanted: whom(order),
            found: whom(&found),
        });
    }
    let (issued, now) = (order.issued, here.now);
    if issued > now.saturating_add(AHEAD) || issued.saturating_add(ORDER_LIFETIME) < now {
        return Err(Unfit::Time { issued, now });
    }
    let config = &here.status.config;
    let (stamp, id) = (config.stamp, config.system_id.to_string());
    if (order.epoch, order.version, &order.system_id) != (stamp.epoch.0, stamp.version, &id) {
        return Err(Unfit::Configuration {
            ordered: which(order.epoch, order.version, &order.system_id),
            found: which(stamp.epoch.0, stamp.version, &id),
        });
    }
    Ok(())
}

fn whom(order: &Order) -> String {
    format!(
        "{} of {} (incarnation {}, machine {})",
        order.survivor, order.fleet, order.incarnation, order.machine
    )
}

fn which(epoch: u64, version: u64, system_id: &str) -> String {
    format!("{epoch}.{version} of the database {system_id}")
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|value| value.try_into().ok()))
        .collect::<Option<_>>()?;
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(high << 4 | low),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rolesmith_model::facts::Origin;

    use super::*;
    use crate::cluster::{Epoch, Stamp, SystemId};
    use crate::net::testing::{Authority, der, status};

    const NOW: u64 = 1_800_000_000;

    fn order() -> Order {
        Order {
            fleet: "acme".into(),
            survivor: "n1".into(),
            incarnation: 2,
            machine: "00000000000000ff".into(),
            epoch: 3,
            version: 6,
            system_id: "7".into(),
            issued: NOW - 10,
        }
    }

    #[test]
    fn an_order_is_good_for_one_machine_in_one_state_for_a_day() {
        type Change = fn(&mut Order);
        let authority = Authority::new();
        let authorities = [der(&Authority::new().pem), der(&authority.pem)];
        let identity = Identity {
            fleet: "acme".into(),
            node: "n1".into(),
            incarnation: 2,
            origin: Origin::Seed,
        };
        let mut status = status("n1");
        status.config.stamp = Stamp {
            epoch: Epoch(3),
            version: 6,
        };
        status.config.system_id = SystemId(7);
        let here = Here {
            identity: &identity,
            machine: 0xff,
            authorities: &authorities,
            status: &status,
            now: NOW,
        };
        let judged = |signed: &SignedOrder| judge(signed, here);
        let sign = |order: Order| authority.order(order);
        assert_eq!(judged(&sign(order())), Ok(()));
        let cases: [(&str, Change); 9] = [
            ("is for", |order| order.fleet = "other".into()),
            ("is for", |order| order.survivor = "n2".into()),
            ("is for", |order| order.incarnation = 1),
            ("is for", |order| order.machine = "00000000000000fe".into()),
            ("issued", |order| order.issued = NOW - ORDER_LIFETIME - 1),
            ("issued", |order| order.issued = NOW + AHEAD + 1),
            ("replaces", |order| order.epoch = 2),
            ("replaces", |order| order.version = 5),
            ("replaces", |order| order.system_id = "8".into()),
        ];
        for (word, change) in cases {
            let mut other = order();
            change(&mut other);
            let why = judged(&sign(other.clone())).unwrap_err().to_string();
            assert!(why.contains(word), "{word}: {why}");
            // Changed after it was signed.
            let mut forged = sign(order());
            forged.order = other;
            assert_eq!(judged(&forged), Err(Unfit::Signature));
        }
        // A CA of somebody else, no signature, half of one, another format.
        assert_eq!(
            judged(&Authority::new().order(order())),
            Err(Unfit::Signature)
        );
        for cut in [0, 1, 64] {
            let mut signed = sign(order());
            signed.signature.truncate(cut);
            assert_eq!(judged(&signed), Err(Unfit::Signature));
        }
        let mut signed = sign(order());
        signed.format = 2;
        assert_eq!(judged(&signed), Err(Unfit::Format(2)));
    }
}

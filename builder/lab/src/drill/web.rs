//! Visitors: clients that reach the fleet as everybody does, by HTTPS through the load balancer, and what they saw of a fault.
//!
//! Visitors ([`visit()`]) run on the machine outside the fleet and send orders and views to the example's shop. Every attempt is in a
//! ledger ([`Visit`]). What the load balancer did meanwhile is in its log ([`parse_balancer`]). [`judge_visits`] reads both, the
//! drill's events, and what is in the shop's database: it is pure.

mod balancer;
mod client;
mod ledger;
mod response;
mod verdict;
mod visitor;

pub use balancer::{BalancerLog, Broken, Change, parse_balancer};
pub use ledger::{Answer, Kind, Visit, parse_visits, visit_id};
pub use verdict::{DETECTION, Stray, Visits, VisitsVerdict, judge_visits};
pub use visitor::{VisitorPlan, VisitorSpec, visit};

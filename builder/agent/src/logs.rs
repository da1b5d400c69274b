//! The aggregated log: every line of a machine has a number, so that it can be proven that a log server has them all.
//!
//! rsyslogd stamps each line of its machine, before the line goes to several places, with the incarnation of the machine, the *session*
//! (a counter that grows with every start of rsyslogd) and a sequence that begins at 1 in each session. The stamped lines also
//! stay on the machine, in [`OWN_LOG`] and its predecessors.
//!
//! - [`session`] counts the starts, and after one that did not end in good order has rsyslogd read the last lines of the
//!   journal again.
//! - [`mod@line`] reads a line back, [`verify`] compares what a machine kept with what a log server holds. Both are pure.
//! - [`source`] finds and reads the files.
//! - [`search`] finds lines on a log server.
//! - [`forward`] brings lines to the log servers, through sessions of [`send`], by the protocol in [`relp`].

pub mod forward;
pub mod line;
pub mod relp;
pub mod search;
pub mod send;
pub mod session;
pub mod source;
pub mod verify;

/// What a machine sent, with its stamps; older ones as `own.log.1` and so on.
pub const OWN_LOG: &str = "/var/log/rolesmith/own.log";
/// What a log server holds, one file a machine.
pub const HOSTS_DIR: &str = "/var/log/rolesmith/hosts";

#[cfg(test)]
mod tests;

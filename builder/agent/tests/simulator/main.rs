//! Whole fleets in one process: a deterministic simulator of machines, disks, clocks, network and PostgreSQL around the
//! real [`rolesmith_agent::cluster::Core`].
//!
//! It checks, after every event: no acknowledged commit is lost, no two primaries acknowledge, there is one database, no
//! server reads a log that is not its own; and after every heal: writes are acknowledged again, everybody finds his place.
//!
//!     make test-simulator    the full run; docs/simulator.md has its figures
//!
//! A failing seed is printed with a command that replays it, after faults it does not need were taken away.

mod acts;
mod agent;
mod client;
mod crashes;
mod faults;
mod mutants;
mod postgres;
mod random;
mod runs;
mod scenario;
mod scripts;
mod stream;
mod strike;
mod watch;
mod world;

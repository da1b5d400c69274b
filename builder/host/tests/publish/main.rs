//! Publishing, judged by apt: what it installs, what it refuses, and what it sees while the repository changes.

mod apt;
mod corruption;
mod guards;
mod interrupted;
mod publishing;
mod support;

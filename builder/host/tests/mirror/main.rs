//! The mirror against real apt: a small archive on the disk for every day, Debian's own when asked for by name.

mod debian;
mod local;

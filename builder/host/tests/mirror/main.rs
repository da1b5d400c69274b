//! The mirror against real apt: a small archive on the loopback for every day, Debian's own when asked for by name.

mod debian;

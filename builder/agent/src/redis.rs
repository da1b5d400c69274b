//! Redis and Sentinel of the fleet: who is master when a machine starts, and when a copy is worth being one.
//!
//! Sentinel decides on failovers, alone. What it cannot do is to choose the *first* master, to keep an instance that lost
//! its data from coming back as an empty master (which its replicas would then copy), and to tell a starting instance
//! what it is. This module does these three, and nothing else:
//!
//! - [`decide::server`] says what a starting Redis is: master, replica of somebody, or not started yet. It reads what a
//!   majority of the Sentinels have in their durable files, the highest configuration epoch among them counting.
//! - [`decide::sentinel`] says what a starting Sentinel watches: what its own file says, what a majority of the others
//!   say, or, once in the life of a fleet, the founder that the fleet has agreed on.
//! - [`decide::watch`] says when a replica may be promoted: never before its first full copy of the data is complete.
//!
//! All three are pure and total; [`ask`] gathers what they look at, [`run`] and [`watch`] do what they say. Nothing is guessed: what no
//! majority has answered is waited for, and the unit's status says so.
//!
//! # Why Sentinel's identifier is derived from the member's name
//!
//! A Sentinel that is made anew under a random identifier is one more Sentinel to the others: they never forget the old
//! one, so the majority they need grows with every replaced machine until somebody sends `SENTINEL RESET` to each in turn,
//! during which they know fewer voters than there are. With [`conf::sentinel_id`] a replacement *is* the old voter, at
//! whatever address, and nobody has to forget anything.
//!
//! The price is a voter that has forgotten its votes: two leaders could be elected in one epoch. It is paid like this. A
//! Sentinel without a file starts only after a majority of the voters told it what they know, and then begins
//! [`conf::EPOCHS_SKIPPED`] epochs above the highest configuration epoch among them, both for what it has seen and for
//! what it has voted in. Sentinel refuses to vote in an epoch that is not above its own, so it cannot vote twice in any
//! epoch that its predecessor can have reached; its peers learn the higher epoch from it and go on above it.

pub mod ask;
pub mod client;
pub mod conf;
pub mod decide;
pub mod opinion;
pub mod resp;
pub mod run;
pub mod settings;
pub mod state;
pub mod views;
pub mod watch;

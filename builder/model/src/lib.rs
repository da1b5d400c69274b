//! Roles, fleets and the plan they resolve to.
//!
//! Everything here is a pure function of its arguments: parsing ([`role_file`], [`fleet_file`], [`image_file`]) turns text into values that remember
//! where they stood, [`validate`] turns those into values that cannot be wrong, [`resolve`](resolve::resolve) turns them
//! into a [`Plan`](plan::Plan) that leaves no choice to the stages after it. No file, clock or environment variable is read.
//!
//! The node's agent uses [`ids`], [`manifest`], [`metadata`], [`facts`], [`status`], [`perf`] and [`recovery`] alone (without
//! the `build` feature).

pub mod facts;
pub mod ids;
pub mod manifest;
pub mod metadata;
pub mod perf;
pub mod recovery;
pub mod status;

#[cfg(feature = "build")]
pub mod applications;
#[cfg(feature = "build")]
pub mod archive_names;
#[cfg(feature = "build")]
pub mod cluster_lock;
#[cfg(feature = "build")]
pub mod finding;
#[cfg(feature = "build")]
pub mod fleet;
#[cfg(feature = "build")]
pub mod fleet_file;
#[cfg(feature = "build")]
pub mod image;
#[cfg(feature = "build")]
pub mod image_file;
#[cfg(feature = "build")]
pub mod lint;
#[cfg(feature = "build")]
pub mod lock;
#[cfg(feature = "build")]
pub mod network;
#[cfg(feature = "build")]
pub mod opening;
#[cfg(feature = "build")]
pub mod plan;
#[cfg(feature = "build")]
pub mod resolve;
#[cfg(feature = "build")]
pub mod role;
#[cfg(feature = "build")]
pub mod role_file;
#[cfg(feature = "build")]
pub mod schema;
#[cfg(feature = "build")]
pub mod setting_kind;
#[cfg(feature = "build")]
pub mod source;
#[cfg(feature = "build")]
pub mod template;
#[cfg(feature = "build")]
pub mod validate;

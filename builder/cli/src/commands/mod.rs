//! One file a command: what it takes from the other rooms, and what it tells people.

pub mod bake;
pub mod build;
pub mod ca;
pub mod check;
pub mod completions;
pub mod enroll;
pub mod init;
pub mod lab;
pub mod logs;
pub mod man_pages;
pub mod mirror;
pub mod plan;
pub mod publish;
pub mod record;
pub mod recover;
pub mod schema;
pub mod status;
pub mod user_data;

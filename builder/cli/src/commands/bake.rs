//! rolesmith bake

pub mod boot;

use rolesmith_bake::boot::{DiskFormat, Image};

use crate::{app::App, report::Outcome};

/// Until recipes are baked: boots an image file.
pub fn run(app: &App, args: &crate::args::Bake) -> Outcome {
    let image = Image {
        path: args.image.clone(),
        format: DiskFormat::Raw,
    };
    boot::run(app, &image, &args.boot)
}

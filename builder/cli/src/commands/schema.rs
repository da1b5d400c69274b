//! rolesmith schema

use rolesmith_model::schema;

use crate::{
    app::out,
    args::{Schema, SchemaOf},
    report::Outcome,
};

/// Prints a JSON Schema.
pub fn run(args: &Schema) -> Outcome {
    let text = match args.of {
        SchemaOf::Fleet => schema::fleet(),
        SchemaOf::Role => schema::role(),
        SchemaOf::Image => schema::image(),
        SchemaOf::Perf => schema::perf(),
    };
    out(text)
}

//! Builds again when a built-in role changes: the roles are embedded, and cargo sees only files that it is told of.

fn main() {
    println!("cargo:rerun-if-changed=../../roles");
}

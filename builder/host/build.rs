//! Builds again when a built-in role or image changes: they are embedded, and cargo sees only files that it is told of.

fn main() {
    println!("cargo:rerun-if-changed=../../roles");
    println!("cargo:rerun-if-changed=../../images");
}

//! The lab's server process on its own: `serve --dir DIR --listen ADDRESS:PORT`. The tests use it where the product uses itself.

use std::{env, error::Error, net::SocketAddr, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [_, dir, _, listen] = words.as_slice() else {
        return Err("usage: serve --dir DIR --listen ADDRESS:PORT".into());
    };
    rolesmith_lab::serve(&PathBuf::from(dir), listen.parse::<SocketAddr>()?)?;
    Ok(())
}

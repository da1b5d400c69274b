//! Boots an image under qemu, with a seed, and reads its serial console.

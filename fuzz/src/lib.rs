//! What the fuzz targets check, one function each. `tests/corpora.rs` calls the same functions on
//! the seed corpora, so that a stable toolchain replays them.

pub mod acl;
pub mod args;
pub mod channel;
pub mod wheel;

#[path = "../../tests/simulation/kernel.rs"]
mod kernel;

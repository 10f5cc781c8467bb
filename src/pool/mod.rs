//! All sessions, and what runs them.

pub(crate) mod own;
pub(crate) mod slots;
pub(crate) mod sources;
pub(crate) mod totals;
pub(crate) mod wheel;

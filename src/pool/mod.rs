//! All sessions, and what runs them.

pub(crate) mod slots;
pub(crate) mod totals;
pub(crate) mod wheel;

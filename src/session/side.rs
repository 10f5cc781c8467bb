//! The two sides of a session. `!side` is the other one.

/// The two sides of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The side that connected to the relay.
    Requester,
    /// The side that the relay connected to.
    Target,
}

impl Side {
    /// Both sides, in the order of [`index`](Self::index).
    pub const BOTH: [Self; 2] = [Self::Requester, Self::Target];

    /// Returns 0 or 1.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Requester => 0,
            Self::Target => 1,
        }
    }
}

impl std::ops::Not for Side {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::Requester => Self::Target,
            Self::Target => Self::Requester,
        }
    }
}

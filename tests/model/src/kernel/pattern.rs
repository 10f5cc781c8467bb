//! The streams of both sides. They are fixed patterns, so bytes are checked as soon as they are written, and
//! then only counted.

use std::sync::LazyLock;

use tcprelay::internal::session::Side;

use crate::random::Random;

/// The byte that a preface repeats.
pub const PREFACE: u8 = b'P';

/// Length of a pattern, in bytes. A prime, so that no buffer or pipe is a multiple of it.
const PATTERN: usize = 65_521;

/// Returns the bytes that a side sends, over and over.
fn pattern(side: Side) -> &'static [u8] {
    static REQUESTER: LazyLock<Vec<u8>> = LazyLock::new(|| make(1));
    static TARGET: LazyLock<Vec<u8>> = LazyLock::new(|| make(2));
    fn make(seed: u64) -> Vec<u8> {
        let mut random = Random(seed);
        (0..PATTERN).map(|_| random.bits() as u8).collect()
    }
    match side {
        Side::Requester => &REQUESTER,
        Side::Target => &TARGET,
    }
}

/// Calls `piece` for each contiguous part of a stretch of a side's stream, with the part's position in the
/// stretch and its bytes.
pub(super) fn for_pattern(side: Side, mut offset: u64, count: usize, mut piece: impl FnMut(usize, &[u8])) {
    let mut done = 0;
    while done < count {
        let start = (offset % PATTERN as u64) as usize;
        let length = (PATTERN - start).min(count - done);
        piece(done, &pattern(side)[start..start + length]);
        done += length;
        offset += length as u64;
    }
}

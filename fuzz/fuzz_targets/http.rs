//! What is checked, and how an input reads, is told in `tests/model/src/http.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| tcprelay_model::http::check(input));

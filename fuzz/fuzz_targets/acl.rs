//! `tests/model/src/acl.rs` documents the format of an input and the checks.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| tcprelay_model::acl::check(input));

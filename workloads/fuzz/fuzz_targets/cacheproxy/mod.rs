//! The codec and the words that it speaks, from where they are, under the names that they know.

#[path = "../../../src/cacheproxy/operation.rs"]
pub mod operation;
#[path = "../../../src/cacheproxy/protocol/mod.rs"]
pub mod protocol;

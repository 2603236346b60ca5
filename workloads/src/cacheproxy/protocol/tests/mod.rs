//! Goal: every byte as memcached has it, however the bytes come, and no memory for a promise.
//! Method: tables whose expected bytes were taken from memcached 1.6.18; the same commands at every
//! split; random bytes; and a real memcached, where there is one, beside an empty store of our own.

mod rig;
mod text;
mod meta;
mod binary;
mod splits;
mod bounds;
mod corpus;
mod real;

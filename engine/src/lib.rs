//! Forebay.

pub mod runtime;

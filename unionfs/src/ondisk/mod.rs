//! The marks a layer carries, as bytes: the only place that spells them.
pub mod origin;
pub mod redirect;

//! The differential tester: one random program on two union file systems, and
//! every answer compared.
//!
//! | module | what |
//! |---|---|
//! | [`op`] | what a case consists of, as plain data |
//! | [`generate`] | seed → case |
//! | [`layers`] | the lower layers of a case, made on disk |
//! | [`side`] | one of the two file systems, with its open descriptors |
//! | [`execute`] | one action on one side → outcome |
//! | [`outcome`] | what has to agree, and what need not |
//! | [`deviations`] | where ours differs on purpose |
//! | [`run`] | a case on both sides → the first difference |
//! | [`shrink`] | a failing case → the shortest that fails the same way |
//!
//! Both sides share the lower layers, which must come out untouched; each has
//! its own upper, and the two are exchanged in mid-program: what one wrote, the
//! other must read.

pub mod deviations;
pub mod execute;
mod execute_fd;
pub mod generate;
pub mod layers;
pub mod op;
pub mod outcome;
pub mod rng;
pub mod run;
pub mod shrink;
pub mod side;

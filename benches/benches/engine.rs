//! In-process measurements.

fn main() {}

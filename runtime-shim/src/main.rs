//! `runion`.

fn main() {}

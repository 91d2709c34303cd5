//! `mount-runionfs`.

fn main() {}

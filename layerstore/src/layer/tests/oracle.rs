//! Merged trees against real unpackers.

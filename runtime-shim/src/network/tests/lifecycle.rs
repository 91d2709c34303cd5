//! What is there, and what is left.

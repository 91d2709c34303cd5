//! The store on disk: archives that real tools made, hostile ones, and what is
//! left of them.

mod hostile;
mod made;
mod state;
mod tools;
mod truncated;

//! The store on disk: archives that real tools made and hostile ones, kills at
//! every system call, full disks, races, broken files.

mod actions;
mod damage;
mod full;
mod hostile;
mod kills;
mod made;
mod platforms;
mod races;
mod readonly;
// Of which the registry's own tests use more.
#[allow(dead_code)]
#[path = "../registry/scripted.rs"]
mod scripted;
mod served;
mod speed;
mod state;
mod tools;
mod truncated;

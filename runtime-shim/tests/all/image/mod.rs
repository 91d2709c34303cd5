//! The commands about images, run as a user would: archives by real tools, and
//! docker's own client for how things look.

mod archives;
mod docker;
mod importing;
mod killing;
mod listing;
mod looking;
mod removing;
mod store;

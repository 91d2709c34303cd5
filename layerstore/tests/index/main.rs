//! What is written as an index is what is read from it: by `unionfs`, by
//! `fsck.erofs`, and by the kernel, which mounts it over a pool of objects.

mod fixed;
mod hostile;
mod kernel;
mod random;
mod reading;
mod tools;
mod walk;

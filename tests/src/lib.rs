//! What several suites share: a mount of ours or of kernel overlayfs, in a scratch directory.

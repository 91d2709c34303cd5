//! A container's network: bridges, addresses, published ports, names.
//!
//! Networks are files in the store; what is in the kernel follows from them.
//! A container is known here by its id and the names it is to be found by, its
//! namespace by a descriptor; nothing is known of command lines, images or
//! processes.
//!
//! | file | subject |
//! |---|---|
//! | `definition`, `store`, `pool` | networks: what they are, where they are kept, which addresses they get |
//! | `bridge` | a network's bridge |
//! | `lease` | what a container has on a network |
//! | `attach` | a container comes and goes |
//! | `links`, `inside` | the kernel's links, addresses, routes, settings |
//! | `rules`, `elements`, `filters`, `flows` | packet filters: a network's, and a container's part in them |
//! | `ports`, `reservation`, `relay` | published ports: as written, as kept, and what filters cannot lead on |
//! | `holder` | networks without root |
//! | `diagnosis` | what on a host is in the way, and what was taken away |
//! | `dns`, `files` | names: our server of them, and the files of /etc |
//! | `subnet`, `netlink` | arithmetic; messages |
//!
//! How a container's network comes and goes:
//!
//! ```text
//! reserve(networks, request)          the host's ports, or why not: nothing is made yet
//! [Holder::ensure, Holder::enter      without root: from here on the process is elsewhere]
//!     … the container's namespaces are made …
//! attach(networks, request, reserved, namespace)
//! files::hosts, files::resolv_conf    texts, with the addresses that attach gave
//! dns::bind(namespace)                where `files::asks` says that ours is asked
//! dns::serve, Relay::start            in a process of its own, where they are needed
//!     … the container runs; connect, disconnect …
//! detach(networks, id, Namespace::Ends)
//! ```
//! `sweep` does the last step for containers that are no longer alive, and
//! `attach` for what an earlier life of the same container left.
//!
//! Invariants: a lease is written before and removed after everything that
//! follows from it; everything in the kernel is named after the network
//! (`runionN`, `rnN-ID`) and nothing else is touched; a network's leases and
//! rules change under its lock alone.

mod attach;
mod bridge;
mod definition;
pub mod diagnosis;
pub mod dns;
mod elements;
pub mod files;
mod filters;
mod flows;
pub mod holder;
mod inside;
mod lease;
mod links;
mod netlink;
mod pool;
mod ports;
mod relay;
mod reservation;
mod rules;
mod store;
mod subnet;

pub use attach::{
    Endpoint, Namespace, Request, attach, connect, detach, disconnect, endpoints, rename, reserve, sweep,
};
pub use definition::{DEFAULT, Network, New, Pool};
pub use elements::Settling;
pub use lease::{Holder, Wish};
pub use ports::{HostPort, Port, Publish};
pub use relay::{LedBy, Relay};
pub use reservation::Reserved;
pub use store::Networks;
pub use subnet::Subnet;

/// Text of command lines, read.
pub mod words {
    pub use super::ports::parse as publish;
}

#[cfg(test)]
mod tests;

//! Capabilities: what the mount helper is lent, and what the command keeps.

use rustix::io::Result;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
};

/// What a command that is root in its view may do: docker's default list, and
/// what debuggers and databases ask for within their own namespaces.
///
/// Left out is what reaches files around the view: mounting, opening by handle
/// (`DAC_READ_SEARCH`), raw devices, kernel modules, the clock; and what
/// changes the network, which is the host's.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::SYS_NICE)
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::IPC_OWNER)
    .union(CapabilitySet::LEASE);

/// Lets programs executed from here keep all capabilities, whatever their uid:
/// in a user namespace the mount helper is not always root by number.
pub fn lend_to_children() -> Result<()> {
    let own = capabilities(None)?;
    set_capabilities(None, CapabilitySets { inheritable: own.permitted, ..own })?;
    for capability in own.permitted.iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// The reverse of [`lend_to_children`].
pub fn lend_nothing() -> Result<()> {
    clear_ambient_capability_set()?;
    let own = capabilities(None)?;
    set_capabilities(None, CapabilitySets { inheritable: CapabilitySet::empty(), ..own })
}

/// Gives up, for this process and all below it, what the command must not have.
///
/// The init does it before it makes the command, so that whoever may trace it
/// gains nothing.
pub fn confine() -> Result<()> {
    let own = capabilities(None)?;
    for capability in CapabilitySet::all().difference(KEPT).iter() {
        // A capability that this kernel does not know cannot be had either.
        if rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(false) {
            remove_capability_from_bounding_set(capability)?;
        }
    }
    let kept = own.permitted.intersection(KEPT);
    set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )
}

/// Closes this process's memory and descriptors to processes of the same user.
pub fn hide_from_tracers() -> Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

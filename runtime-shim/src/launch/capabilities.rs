//! Capabilities by their names, and the five sets of a process as a bundle has
//! them.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
};

use crate::bundle::Capabilities;
use crate::failure::{Context, Failure, Result};

/// By number, from linux/capability.h.
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The sets of a process, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
}

impl Sets {
    /// Reads the names; says of each set what this kernel, or the caller, does
    /// not have and so cannot give.
    pub fn of(named: Option<&Capabilities>, warn: &mut dyn FnMut(String)) -> Result<Sets> {
        let Some(named) = named else { return Ok(Sets::default()) };
        let mut unknown = Vec::new();
        let mut bits = |names: &[String]| {
            names.iter().fold(0, |bits, name| match NAMES.iter().position(|known| known == name) {
                Some(number) => bits | 1 << number,
                None => {
                    unknown.push(name.clone());
                    bits
                }
            })
        };
        let mut sets = Sets {
            bounding: bits(&named.bounding),
            effective: bits(&named.effective),
            permitted: bits(&named.permitted),
            inheritable: bits(&named.inheritable),
            ambient: bits(&named.ambient),
        };
        unknown.sort();
        unknown.dedup();
        if let Some(name) = unknown.iter().find(|name| !name.starts_with("CAP_")) {
            return Err(Failure::new(format!(
                "cannot give the capability {name:?}: there is none of that name"
            )));
        }
        if !unknown.is_empty() {
            warn(format!("capabilities that this program does not know are left out: {}", unknown.join(" ")));
        }
        let sane = sets.effective & !sets.permitted == 0;
        if !sane {
            return Err(Failure::new(
                "cannot give the container its capabilities: the effective ones are not all permitted",
            ));
        }
        // An ambient one must be both.
        sets.ambient &= sets.permitted & sets.inheritable;
        Ok(sets)
    }

    /// All that is named anywhere.
    fn all(&self) -> u64 {
        self.bounding | self.effective | self.permitted | self.inheritable | self.ambient
    }

    /// Leaves out what this process does not have itself.
    pub fn within_own(mut self, warn: &mut dyn FnMut(String)) -> Result<Sets> {
        let own = capabilities(None).context(|| "cannot read my capabilities".to_string())?;
        let held = own.permitted.bits();
        let bounding = (0..64).fold(0, |bits, number| {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            bits | u64::from(capability_is_in_bounding_set(capability).unwrap_or(false)) << number
        });
        let missing = (self.all() & !(held & bounding)) & !((self.bounding & !self.permitted) & bounding);
        if missing != 0 {
            warn(format!("capabilities that I do not have are left out: {}", spell(missing)));
        }
        self.bounding &= bounding;
        self.permitted &= held;
        self.effective &= held;
        self.inheritable &= held;
        self.ambient &= held;
        Ok(self)
    }

    /// Gives up for good what is not in the bounding set.
    pub fn bound(&self) -> Result<()> {
        for number in 0..64 {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            let kept = self.bounding & (1 << number) != 0;
            // A capability that this kernel does not know cannot be had either.
            if kept || !capability_is_in_bounding_set(capability).unwrap_or(false) {
                continue;
            }
            match remove_capability_from_bounding_set(capability) {
                // Without CAP_SETPCAP nothing of it can be had by an exec either,
                // if no program gives new privileges.
                Err(Errno::PERM) if rustix::thread::no_new_privs().unwrap_or(false) => return Ok(()),
                removed => removed.context(|| format!("cannot give up {}", spell(1 << number)))?,
            }
        }
        Ok(())
    }

    /// Takes on the other sets; the last that a process does before exec.
    pub fn take_on(&self) -> Result<()> {
        let set = CapabilitySet::from_bits_retain;
        let context = || "cannot take on the container's capabilities".to_string();
        let sets = CapabilitySets {
            effective: set(self.effective),
            permitted: set(self.permitted),
            inheritable: set(self.inheritable),
        };
        set_capabilities(None, sets).context(context)?;
        for number in (0..64).filter(|number| self.ambient & (1 << number) != 0) {
            configure_capability_in_ambient_set(set(1 << number), true).context(context)?;
        }
        Ok(())
    }
}

/// Lets all that is permitted count.
pub fn raise_permitted() -> Result<()> {
    let context = || "cannot raise my capabilities".to_string();
    let own = capabilities(None).context(context)?;
    set_capabilities(None, CapabilitySets { effective: own.permitted, ..own }).context(context)
}

fn spell(bits: u64) -> String {
    let names = (0..64).filter(|number| bits & (1 << number) != 0);
    let names: Vec<String> = names
        .map(|number| NAMES.get(number).map_or_else(|| number.to_string(), |name| (*name).to_owned()))
        .collect();
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_bits_and_what_cannot_be_is_said() {
        let named = Capabilities {
            bounding: vec!["CAP_CHOWN".into(), "CAP_KILL".into(), "CAP_OF_TOMORROW".into()],
            permitted: vec!["CAP_CHOWN".into()],
            effective: vec!["CAP_CHOWN".into()],
            ambient: vec!["CAP_CHOWN".into()],
            inheritable: vec![],
        };
        let mut said = Vec::new();
        let sets = Sets::of(Some(&named), &mut |warning| said.push(warning)).unwrap();
        assert_eq!(
            sets,
            Sets { bounding: 1 | 1 << 5, effective: 1, permitted: 1, inheritable: 0, ambient: 0 }
        );
        assert!(said.len() == 1 && said[0].ends_with("CAP_OF_TOMORROW"), "{said:?}");
        let more = Capabilities { effective: vec!["CAP_KILL".into()], ..named };
        assert!(Sets::of(Some(&more), &mut |_| {}).is_err());
        assert_eq!(Sets::of(None, &mut |_| {}).unwrap(), Sets::default());
    }
}

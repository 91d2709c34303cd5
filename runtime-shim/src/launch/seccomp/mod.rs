//! Filters of system calls, from a bundle's section `seccomp` to the kernel's
//! programs.
//!
//! A program of seccompiler's knows one action beside its default, so a profile
//! of several becomes several programs: one that says what is by default, and
//! one for each further action. The kernel takes the strictest of what they
//! say, which is what the profile says where conditions do not overlap.
//!
//! Programs of another machine than the profile lists are killed: the numbers
//! would mean something else.

mod i386;
mod machines;
mod numbers;
mod profile;

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule as Rule,
};

pub use profile::docker_default;

use crate::bundle::{Seccomp, SeccompArgument};
use crate::failure::{Context, Failure, Result};
use crate::sys;

/// Programs, in the order they are put on.
#[derive(Default)]
pub struct Filters {
    programs: Vec<BpfProgram>,
    flags: u32,
}

/// Rules by number of system call.
type Rules = BTreeMap<i64, Vec<Rule>>;

impl Filters {
    /// Puts them on, for this process and all it makes.
    pub fn put_on(&self) -> Result<()> {
        for program in &self.programs {
            sys::filter_calls(program, self.flags).context(|| "cannot filter system calls".to_string())?;
        }
        Ok(())
    }

    /// The programs themselves.
    #[cfg(test)]
    pub fn programs(&self) -> &[BpfProgram] {
        &self.programs
    }
}

/// Makes the programs of a profile; refuses what they could not keep.
pub fn compile(profile: &Seccomp) -> Result<Filters> {
    let flags = profile.flags.iter().try_fold(0, |bits, flag| Ok::<_, Failure>(bits | flag_bit(flag)?))?;
    if profile.listener_path.is_some() {
        return Err(refused("a listener (SCMP_ACT_NOTIFY) is not supported"));
    }
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let mut actions: Vec<SeccompAction> = Vec::new();
    for rule in &profile.syscalls {
        let then = action(&rule.action, rule.errno_ret)?;
        if then != default && !actions.contains(&then) {
            actions.push(then);
        }
    }
    let native = Sorted::of(profile, &default, &actions, numbers::number)?;
    let of_32_bits = match machines::lists(&profile.architectures, "SCMP_ARCH_X86") {
        true => Some(Sorted::of(profile, &default, &actions, i386::number)?),
        false => None,
    };
    let lists_x32 = machines::lists(&profile.architectures, "SCMP_ARCH_X32");
    let merged = |rules: &dyn Fn(&Sorted) -> Rules, otherwise: &SeccompAction, then: &SeccompAction| {
        let of = |sorted: &Sorted| body(rules(sorted), otherwise.clone(), then.clone());
        let other = of_32_bits.as_ref().map(of).transpose()?;
        Ok::<_, Failure>(machines::merge(of(&native)?, other, lists_x32))
    };
    let mut programs = Vec::new();
    if default != SeccompAction::Allow {
        programs.push(merged(&|sorted| sorted.matched.clone(), &default, &SeccompAction::Allow)?);
    }
    for (at, then) in actions.iter().enumerate().filter(|(_, then)| **then != SeccompAction::Allow) {
        let rules = |sorted: &Sorted| sorted.by_action.get(at).cloned().unwrap_or_default();
        programs.push(merged(&rules, &SeccompAction::Allow, then)?);
    }
    Ok(Filters { programs, flags })
}

/// A profile's rules by one machine's numbers.
struct Sorted {
    /// Of any action but the default.
    matched: Rules,
    /// Of each action.
    by_action: Vec<Rules>,
}

impl Sorted {
    fn of(
        profile: &Seccomp,
        default: &SeccompAction,
        actions: &[SeccompAction],
        number: fn(&str) -> Option<i64>,
    ) -> Result<Sorted> {
        let decided = decided(profile, default, number)?;
        let mut sorted = Sorted { matched: Rules::new(), by_action: vec![Rules::new(); actions.len()] };
        for rule in &profile.syscalls {
            let then = action(&rule.action, rule.errno_ret)?;
            let own = actions.iter().position(|known| *known == then);
            let Some(own) = own.and_then(|at| sorted.by_action.get_mut(at)) else { continue };
            let alternatives = alternatives(&rule.args)?;
            for number in rule.names.iter().filter_map(|name| number(name)) {
                // What another rule decides whatever the arguments, this does not.
                let is_decided = decided.get(&number).map(|by| *by == then && alternatives.is_empty());
                if is_decided == Some(false) {
                    continue;
                }
                sorted.matched.entry(number).or_default().extend_from_slice(&alternatives);
                own.entry(number).or_default().extend_from_slice(&alternatives);
            }
        }
        Ok(sorted)
    }
}

/// Calls that a rule decides whatever the arguments; the first such counts, and
/// more than all rules with conditions, as with libseccomp.
fn decided(
    profile: &Seccomp,
    default: &SeccompAction,
    number: fn(&str) -> Option<i64>,
) -> Result<BTreeMap<i64, SeccompAction>> {
    let mut decided = BTreeMap::new();
    for rule in profile.syscalls.iter().filter(|rule| rule.args.is_empty()) {
        let then = action(&rule.action, rule.errno_ret)?;
        if then == *default {
            continue;
        }
        for number in rule.names.iter().filter_map(|name| number(name)) {
            decided.entry(number).or_insert_with(|| then.clone());
        }
    }
    Ok(decided)
}

/// What must hold: all of the conditions; or, where one argument is named twice,
/// any one of them, as libseccomp's callers have it.
fn alternatives(arguments: &[SeccompArgument]) -> Result<Vec<Rule>> {
    let conditions = arguments.iter().map(condition).collect::<Result<Vec<_>>>()?;
    let is_twice = arguments
        .iter()
        .enumerate()
        .any(|(at, argument)| arguments.iter().skip(at + 1).any(|other| other.index == argument.index));
    let rule = |conditions| Rule::new(conditions).map_err(refused);
    match (conditions.is_empty(), is_twice) {
        (true, _) => Ok(Vec::new()),
        (false, false) => Ok(vec![rule(conditions)?]),
        (false, true) => conditions.into_iter().map(|one| rule(vec![one])).collect(),
    }
}

fn condition(argument: &SeccompArgument) -> Result<SeccompCondition> {
    let (op, value) = match argument.op.as_str() {
        "SCMP_CMP_NE" => (SeccompCmpOp::Ne, argument.value),
        "SCMP_CMP_LT" => (SeccompCmpOp::Lt, argument.value),
        "SCMP_CMP_LE" => (SeccompCmpOp::Le, argument.value),
        "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, argument.value),
        "SCMP_CMP_GE" => (SeccompCmpOp::Ge, argument.value),
        "SCMP_CMP_GT" => (SeccompCmpOp::Gt, argument.value),
        "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(argument.value), argument.value_two),
        other => return Err(refused(format!("the comparison {other:?} is unknown"))),
    };
    let index = u8::try_from(argument.index).map_err(|_| refused("there are six arguments"))?;
    SeccompCondition::new(index, SeccompCmpArgLen::Qword, op, value).map_err(refused)
}

fn action(name: &str, number: Option<u32>) -> Result<SeccompAction> {
    let number = number.unwrap_or(libc::EPERM as u32);
    Ok(match name {
        "SCMP_ACT_ALLOW" => SeccompAction::Allow,
        "SCMP_ACT_ERRNO" => SeccompAction::Errno(number),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => SeccompAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => SeccompAction::KillProcess,
        "SCMP_ACT_TRAP" => SeccompAction::Trap,
        "SCMP_ACT_TRACE" => SeccompAction::Trace(number),
        "SCMP_ACT_LOG" => SeccompAction::Log,
        other => return Err(refused(format!("the action {other:?} is not supported"))),
    })
}

fn flag_bit(name: &str) -> Result<u32> {
    Ok(match name {
        // One thread is all there is.
        "SECCOMP_FILTER_FLAG_TSYNC" => 0,
        "SECCOMP_FILTER_FLAG_LOG" => 1 << 1,
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => 1 << 2,
        // Only of listeners.
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => 0,
        other => return Err(refused(format!("the flag {other:?} is unknown"))),
    })
}

/// What a program does for one machine.
fn body(rules: Rules, otherwise: SeccompAction, then: SeccompAction) -> Result<BpfProgram> {
    let (decided, others): (Rules, Rules) = rules.into_iter().partition(|(_, rules)| rules.is_empty());
    let decided: Vec<i64> = decided.into_keys().collect();
    let machine = std::env::consts::ARCH.try_into().map_err(refused)?;
    let others = SeccompFilter::new(others, otherwise, then.clone(), machine)
        .and_then(TryInto::try_into)
        .map_err(refused)?;
    Ok(machines::body(&decided, then.into(), others))
}

fn refused(why: impl std::fmt::Display) -> Failure {
    Failure::new(format!("cannot make the filter of system calls: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::SeccompRule;

    fn rule(names: &[&str], action: &str) -> SeccompRule {
        SeccompRule {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            action: action.to_owned(),
            errno_ret: None,
            args: Vec::new(),
        }
    }

    #[test]
    fn each_action_beside_the_default_is_a_program() {
        let mut profile = Seccomp {
            default_action: "SCMP_ACT_ERRNO".to_owned(),
            syscalls: vec![
                rule(&["read", "no_such_call"], "SCMP_ACT_ALLOW"),
                rule(&["write"], "SCMP_ACT_LOG"),
                rule(&["close"], "SCMP_ACT_TRAP"),
                // The default again.
                rule(&["open"], "SCMP_ACT_ERRNO"),
            ],
            ..Seccomp::default()
        };
        assert_eq!(compile(&profile).unwrap().programs().len(), 3);
        profile.default_action = "SCMP_ACT_ALLOW".to_owned();
        assert_eq!(compile(&profile).unwrap().programs().len(), 3);
        profile.syscalls.push(rule(&["open"], "SCMP_ACT_NOTIFY"));
        assert!(compile(&profile).is_err());
    }

    #[test]
    fn the_default_profile_is_two_short_programs() {
        let filters = compile(&docker_default(&["CAP_SYS_CHROOT".to_owned()])).unwrap();
        let lengths: Vec<usize> = filters.programs().iter().map(Vec::len).collect();
        assert!(lengths.len() == 2 && lengths[0] < 700 && lengths[1] < 40, "{lengths:?}");
    }
}

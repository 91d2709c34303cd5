//! Which devices a container may use: rules, and what cgroup v1 is told.
//!
//! Rules count from the last to the first, for each kind of access by itself;
//! what no rule names is denied. Behind those of the bundle come the devices
//! that every container has.

use std::io;
use std::path::Path;

use super::file;
use crate::bundle::DeviceRule;
use crate::failure::{Failure, Result};

/// Bits of access, as BPF's `BPF_DEVCG_ACC_*`.
pub const MAKE: u8 = 1;
/// Reading.
pub const READ: u8 = 2;
/// Writing.
pub const WRITE: u8 = 4;
const ANY: u8 = MAKE | READ | WRITE;

/// A kind of device, as BPF's `BPF_DEVCG_DEV_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Block devices.
    Block = 1,
    /// Character devices.
    Character = 2,
}

/// A rule; what is `None` stands for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whether it allows or denies.
    pub verdict: Verdict,
    /// Of which kind.
    pub kind: Option<Kind>,
    /// The major number.
    pub major: Option<u32>,
    /// The minor number.
    pub minor: Option<u32>,
    /// Bits of access.
    pub access: u8,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They may be used.
    Allow,
    /// They may not.
    Deny,
}

/// What every container may use: make any node, and use those of its /dev
/// (null, zero, full, random, urandom, tty, console, ptmx and terminals).
const USUAL: [Rule; 11] = [
    allowed(Kind::Character, None, None, MAKE),
    allowed(Kind::Block, None, None, MAKE),
    allowed(Kind::Character, Some(1), Some(3), ANY),
    allowed(Kind::Character, Some(1), Some(5), ANY),
    allowed(Kind::Character, Some(1), Some(7), ANY),
    allowed(Kind::Character, Some(1), Some(8), ANY),
    allowed(Kind::Character, Some(1), Some(9), ANY),
    allowed(Kind::Character, Some(5), Some(0), ANY),
    allowed(Kind::Character, Some(5), Some(1), ANY),
    allowed(Kind::Character, Some(5), Some(2), ANY),
    allowed(Kind::Character, Some(136), None, ANY),
];

const fn allowed(kind: Kind, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule { verdict: Verdict::Allow, kind: Some(kind), major, minor, access }
}

/// The rules of a bundle, and behind them those of the usual ones that it does
/// not end up with by itself.
pub fn rules(of_bundle: &[DeviceRule]) -> Result<Vec<Rule>> {
    let mut rules = of_bundle.iter().map(Rule::of).collect::<Result<Vec<Rule>>>()?;
    let decides = |rule: &Rule, usual: &Rule| match rule.verdict {
        Verdict::Allow => rule == usual,
        Verdict::Deny => rule.overlaps(usual),
    };
    let is_said =
        |usual: &Rule| rules.iter().rev().find(|rule| decides(rule, usual)).is_some_and(|rule| rule == usual);
    let more: Vec<Rule> = USUAL.into_iter().filter(|usual| !is_said(usual)).collect();
    rules.extend(more);
    Ok(rules)
}

impl Rule {
    fn of(rule: &DeviceRule) -> Result<Rule> {
        let invalid = |what: &str| Failure::new(format!("invalid rule for devices: {what}"));
        let kind = match rule.kind.as_deref() {
            None | Some("" | "a") => None,
            Some("b") => Some(Kind::Block),
            Some("c" | "u") => Some(Kind::Character),
            Some(other) => return Err(invalid(&format!("its type is {other:?}"))),
        };
        // -1 is how several writers of bundles say all.
        let number = |number: Option<i64>| match number {
            None | Some(-1) => Ok(None),
            Some(number) => match u32::try_from(number) {
                Ok(number) if number <= 0xf_ffff => Ok(Some(number)),
                _ => Err(invalid(&format!("there is no device number {number}"))),
            },
        };
        let mut access = 0;
        for letter in rule.access.as_deref().unwrap_or_default().chars() {
            access |= match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MAKE,
                other => return Err(invalid(&format!("its access is {other:?}"))),
            };
        }
        let access = if access == 0 { ANY } else { access };
        let verdict = if rule.allow { Verdict::Allow } else { Verdict::Deny };
        Ok(Rule { verdict, kind, major: number(rule.major)?, minor: number(rule.minor)?, access })
    }

    /// Whether it decides about every access to every device.
    pub fn is_total(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == ANY
    }

    fn overlaps(&self, other: &Rule) -> bool {
        fn meet<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.is_none() || other.is_none() || one == other
        }
        meet(self.kind, other.kind)
            && meet(self.major, other.major)
            && meet(self.minor, other.minor)
            && self.access & other.access != 0
    }

    fn names_same(&self, other: &Rule) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    /// `c 1:3 rwm`, once for each kind.
    fn lines(&self) -> Vec<String> {
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let access: String = [(READ, 'r'), (WRITE, 'w'), (MAKE, 'm')]
            .into_iter()
            .filter_map(|(bit, letter)| (self.access & bit != 0).then_some(letter))
            .collect();
        let kinds = match self.kind {
            Some(kind) => vec![kind],
            None => vec![Kind::Block, Kind::Character],
        };
        let line = |kind: Kind| {
            let letter = if kind == Kind::Block { 'b' } else { 'c' };
            format!("{letter} {}:{} {access}", number(self.major), number(self.minor))
        };
        kinds.into_iter().map(line).collect()
    }
}

/// File and line, in order.
///
/// v1 keeps a default and a list of exceptions from it, which all say the
/// opposite: a rule that takes back a part of an exception cannot be said.
pub fn v1_lines(rules: &[Rule]) -> Result<Vec<(&'static str, String)>> {
    let file = |verdict| if verdict == Verdict::Allow { "devices.allow" } else { "devices.deny" };
    let last = rules.iter().rposition(Rule::is_total);
    let default = last.and_then(|at| rules.get(at)).map_or(Verdict::Deny, |rule| rule.verdict);
    let exceptions = rules.get(last.map_or(0, |at| at + 1)..).unwrap_or_default();
    let mut lines = vec![(file(default), "a".to_owned())];
    for (at, rule) in exceptions.iter().enumerate() {
        let before = exceptions.get(..at).unwrap_or_default();
        let taken_back = |earlier: &&Rule| {
            earlier.verdict != rule.verdict && earlier.overlaps(rule) && !earlier.names_same(rule)
        };
        if rule.verdict == default
            && let Some(earlier) = before.iter().find(taken_back)
        {
            let (rule, earlier) = (rule.lines().join(", "), earlier.lines().join(", "));
            return Err(Failure::new(format!(
                "cgroup v1 cannot take {rule:?} back from the rule for devices {earlier:?}"
            ))
            .hint("name the devices one by one"));
        }
        lines.extend(rule.lines().into_iter().map(|line| (file(rule.verdict), line)));
    }
    Ok(lines)
}

/// Tells a group of v1.
pub fn apply_v1(dir: &Path, lines: &[(&'static str, String)]) -> io::Result<()> {
    lines.iter().try_for_each(|(file, line)| file::write(dir, file, line))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn rule(
        verdict: Verdict,
        kind: Option<Kind>,
        major: Option<u32>,
        minor: Option<u32>,
        access: u8,
    ) -> Rule {
        Rule { verdict, kind, major, minor, access }
    }

    fn parsed(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> Result<Rule> {
        let rule = DeviceRule {
            allow,
            kind: Some(kind.to_owned()).filter(|kind| !kind.is_empty()),
            major: Some(major),
            minor: Some(minor),
            access: Some(access.to_owned()),
        };
        Rule::of(&rule)
    }

    #[test]
    fn rules_of_bundles_are_checked() {
        assert!(parsed(false, "a", -1, -1, "rwm").unwrap().is_total());
        assert!(parsed(false, "", -1, -1, "").unwrap().is_total());
        assert!(!parsed(true, "c", -1, -1, "rwm").unwrap().is_total());
        for bad in
            [parsed(true, "p", 1, 1, "r"), parsed(true, "c", -2, 1, "r"), parsed(true, "c", 1, 1, "rx")]
        {
            assert!(bad.is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_usual_rules_are_added_unless_said_last() {
        let usual = |allow, minor| DeviceRule {
            allow,
            kind: Some("c".to_owned()),
            major: Some(1),
            minor: Some(minor),
            access: Some("rwm".to_owned()),
        };
        let total = DeviceRule { allow: false, ..DeviceRule::default() };
        let count = |of_bundle: &[DeviceRule]| rules(of_bundle).unwrap().len();
        assert_eq!(count(std::slice::from_ref(&total)), 1 + USUAL.len());
        assert_eq!(count(&[total.clone(), usual(true, 3)]), 1 + USUAL.len());
        // One that is taken back again is not said.
        assert_eq!(count(&[usual(true, 3), total.clone()]), 2 + USUAL.len());
        assert_eq!(count(&[usual(true, 3), usual(false, 3)]), 2 + USUAL.len());
        assert_eq!(count(&[usual(true, 3), usual(false, 5)]), 1 + USUAL.len());
    }

    #[test]
    fn v1_denies_all_and_allows_what_is_named() {
        let lines = v1_lines(&rules(&[]).unwrap()).unwrap();
        let lines: Vec<String> = lines.iter().map(|(file, line)| format!("{file} {line}")).collect();
        assert_eq!(lines[..3], ["devices.deny a", "devices.allow c *:* m", "devices.allow b *:* m"]);
        assert_eq!(lines.last().unwrap(), "devices.allow c 136:* rwm");

        let all = DeviceRule { allow: true, ..DeviceRule::default() };
        let none = DeviceRule { allow: false, ..DeviceRule::default() };
        let lines = v1_lines(&rules(&[none, all]).unwrap()).unwrap();
        assert_eq!(lines[0], ("devices.allow", "a".to_owned()));
    }

    #[test]
    fn what_v1_cannot_say_is_an_error() {
        let some = rule(Verdict::Allow, Some(Kind::Character), Some(1), None, ANY);
        let one = rule(Verdict::Deny, Some(Kind::Character), Some(1), Some(3), WRITE);
        assert!(v1_lines(&[some, one]).is_err());
        let same = Rule { minor: None, ..one };
        assert_eq!(v1_lines(&[some, same]).unwrap()[2], ("devices.deny", "c 1:* w".to_owned()));
        let any_kind = Rule { kind: None, ..some };
        let lines = v1_lines(&[any_kind]).unwrap();
        assert_eq!(
            lines[1..],
            [("devices.allow", "b 1:* rwm".into()), ("devices.allow", "c 1:* rwm".into())]
        );
    }
}

//! When which root signs and which are trusted: decided from what the Secret says and the time, without IO.
//!
//! ```text
//!            introduce                promote                  retire
//! old root:  signs ───────────────────┐ trusted ───────────────┐ gone
//! new root:  trusted, in every bundle └ signs ─────────────────┴──────────>
//!            │<─ --root-overlap ─────>│<─ the longest leaf ───>│
//! ```
//!
//! Everything that a later step needs is in the Secret, so that any replica goes on where another left off.

use std::time::{Duration, SystemTime};

use super::ledger::{
    CERTIFICATE, KEY, Ledger, Malformed, NEXT_KEY, NEXT_ROOT, NEXT_SIGNS_AT, ROTATE, SUPPLIED_ROOTS,
};
use crate::ca::authority::{NewRoot, not_after};

/// A root is replaced when it has less than this left, or twice the lifetime of a leaf.
const REPLACED_BEFORE_END: Duration = Duration::from_secs(30 * 24 * 3600);
/// Other replicas may sign with the old root until they hear of the new one.
const SLACK: Duration = Duration::from_secs(3600);

/// How long things last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    /// The longest lifetime of a leaf.
    pub(super) leaf_ttl: Duration,
    /// How long a new root is trusted before it signs.
    pub(super) overlap: Duration,
}

/// What is to be done with the Secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Advance {
    /// Nothing, before this time.
    Wait(SystemTime),
    /// It is replaced by this, for this reason.
    Write(Box<Ledger>, Step),
}

/// Why the Secret is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There was no root yet.
    Establish,
    /// Leaves live longer than they did.
    NoteLeaf,
    /// A new root is trusted.
    Introduce,
    /// A rotation was asked for while one is under way.
    Dismiss,
    /// The new root signs.
    Promote,
    /// The supplied Secret has another root.
    Record,
    /// No leaf can chain to an old root any more.
    Retire,
}

impl Step {
    /// For metrics and logs.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Establish => "establish",
            Self::NoteLeaf => "note-leaf",
            Self::Introduce => "introduce",
            Self::Dismiss => "dismiss",
            Self::Promote => "promote",
            Self::Record => "record",
            Self::Retire => "retire",
        }
    }
}

/// Gives a root to a ledger that has none. `None` for one that has: it is never replaced, readable or not.
pub(super) fn establish(
    ledger: &Ledger,
    policy: &Policy,
    now: SystemTime,
    new_root: impl FnOnce() -> NewRoot,
) -> Option<Ledger> {
    if ledger.is_established() {
        return None;
    }
    let mut ledger = ledger.clone();
    if let Some(supplied) = ledger.texts.remove(SUPPLIED_ROOTS) {
        let leaf = ledger.longest_leaf().ok().flatten();
        let until = now + leaf.unwrap_or(policy.leaf_ttl) + policy.slack();
        ledger.keep_until(supplied, until, now);
    }
    ledger.sign_with(new_root());
    ledger.note_leaf(policy.leaf_ttl);
    Some(ledger)
}

/// The next step of a ledger whose own root signs.
pub(super) fn advance(
    ledger: &Ledger,
    policy: &Policy,
    now: SystemTime,
    new_root: impl FnOnce() -> NewRoot,
) -> Result<Advance, Malformed> {
    let write = |ledger, step| Ok(Advance::Write(Box::new(ledger), step));
    let longest_leaf = match ledger.longest_leaf()? {
        Some(noted) if noted >= policy.leaf_ttl => noted,
        _ => {
            let mut ledger = ledger.clone();
            ledger.note_leaf(policy.leaf_ttl);
            return write(ledger, Step::NoteLeaf);
        }
    };
    if let Some(retired) = retire(ledger, now)? {
        return write(retired, Step::Retire);
    }
    let asked = ledger.notes.contains_key(ROTATE);
    let due = match ledger.text(NEXT_ROOT) {
        None => {
            let root_ends = root_ends(ledger)?;
            let due = root_ends - REPLACED_BEFORE_END.max(2 * longest_leaf);
            if asked || due <= now {
                let signs_at = (now + policy.overlap).min(root_ends - longest_leaf);
                return write(
                    introduce(ledger, new_root(), signs_at.max(now)),
                    Step::Introduce,
                );
            }
            due
        }
        Some(_) if asked => {
            let mut ledger = ledger.clone();
            ledger.notes.remove(ROTATE);
            return write(ledger, Step::Dismiss);
        }
        Some(_) => match ledger.time(NEXT_SIGNS_AT)? {
            Some(signs_at) if now < signs_at => signs_at,
            Some(_) => {
                let until = now + longest_leaf + policy.slack();
                return write(promote(ledger, policy, until, now)?, Step::Promote);
            }
            None => {
                let mut ledger = ledger.clone();
                ledger.note_time(NEXT_SIGNS_AT, now + policy.overlap);
                return write(ledger, Step::Introduce);
            }
        },
    };
    Ok(Advance::Wait(first_of(ledger, due)?))
}

/// The next step of a ledger that only remembers what a supplied Secret signed with.
pub(super) fn record(
    ledger: &Ledger,
    supplied_roots: &str,
    policy: &Policy,
    now: SystemTime,
) -> Result<Advance, Malformed> {
    let longest_leaf = ledger.longest_leaf()?.unwrap_or_default();
    let mut next = ledger.clone();
    let until = now + longest_leaf.max(policy.leaf_ttl) + policy.slack();
    if let Some(own) = next.texts.remove(CERTIFICATE) {
        next.texts.remove(KEY);
        next.keep_until(own, until, now);
        next.texts.remove(NEXT_KEY);
        next.drop_root(NEXT_ROOT);
        next.notes.remove(NEXT_SIGNS_AT);
    }
    if next.text(SUPPLIED_ROOTS) != Some(supplied_roots) {
        let former = next
            .texts
            .insert(SUPPLIED_ROOTS.to_owned(), supplied_roots.to_owned());
        if let Some(former) = former {
            next.keep_until(former, until, now);
        }
        next.note_leaf(policy.leaf_ttl);
    } else if longest_leaf < policy.leaf_ttl {
        next.note_leaf(policy.leaf_ttl);
    }
    if next != *ledger {
        return Ok(Advance::Write(Box::new(next), Step::Record));
    }
    if let Some(retired) = retire(ledger, now)? {
        return Ok(Advance::Write(Box::new(retired), Step::Retire));
    }
    // Nothing is due by itself: a year is for ever.
    let idle = now + Duration::from_secs(365 * 24 * 3600);
    Ok(Advance::Wait(first_of(ledger, idle)?))
}

impl Policy {
    pub(super) fn slack(&self) -> Duration {
        SLACK.min(self.overlap)
    }
}

fn introduce(ledger: &Ledger, root: NewRoot, signs_at: SystemTime) -> Ledger {
    let mut ledger = ledger.clone();
    ledger.notes.remove(ROTATE);
    ledger.texts.insert(NEXT_ROOT.to_owned(), root.certificate);
    ledger.texts.insert(NEXT_KEY.to_owned(), root.key);
    ledger.note_time(NEXT_SIGNS_AT, signs_at);
    ledger
}

fn promote(
    ledger: &Ledger,
    policy: &Policy,
    until: SystemTime,
    now: SystemTime,
) -> Result<Ledger, Malformed> {
    let mut ledger = ledger.clone();
    let mut take = |key: &str| {
        ledger.texts.remove(key).ok_or_else(|| Malformed {
            key: key.to_owned(),
            reason: "it is not there, and the next root cannot sign without it".to_owned(),
        })
    };
    let root = NewRoot {
        certificate: take(NEXT_ROOT)?,
        key: take(NEXT_KEY)?,
    };
    let old = take(CERTIFICATE)?;
    ledger.notes.remove(NEXT_SIGNS_AT);
    ledger.sign_with(root);
    ledger.keep_until(old, until, now);
    ledger.note_leaf(policy.leaf_ttl);
    Ok(ledger)
}

fn retire(ledger: &Ledger, now: SystemTime) -> Result<Option<Ledger>, Malformed> {
    let mut retired = None;
    for (key, until) in ledger.ending()? {
        if until <= now {
            retired.get_or_insert_with(|| ledger.clone()).drop_root(key);
        }
    }
    Ok(retired)
}

fn first_of(ledger: &Ledger, due: SystemTime) -> Result<SystemTime, Malformed> {
    let ends = ledger.ending()?.into_iter().map(|(_, until)| until);
    Ok(ends.fold(due, SystemTime::min))
}

fn root_ends(ledger: &Ledger) -> Result<SystemTime, Malformed> {
    let malformed = |reason: String| Malformed {
        key: CERTIFICATE.to_owned(),
        reason,
    };
    let certificate = ledger
        .text(CERTIFICATE)
        .ok_or_else(|| malformed("it is not there".to_owned()))?;
    not_after(certificate).map_err(malformed)
}

#[cfg(test)]
mod tests;

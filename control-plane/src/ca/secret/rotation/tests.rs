use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);
const POLICY: Policy = Policy {
    leaf_ttl: DAY,
    overlap: DAY,
};

/// Whole seconds, as the notes have it.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn root() -> NewRoot {
    NewRoot::generate("cluster.local", now())
}

fn no_root() -> NewRoot {
    panic!("no root is wanted")
}

fn ledger(texts: &[(&str, &str)], notes: &[(&str, &str)]) -> Ledger {
    let owned = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    Ledger {
        texts: owned(texts),
        notes: owned(notes),
    }
}

#[track_caller]
fn written(advance: Result<Advance, Malformed>) -> (Ledger, Step) {
    match advance.unwrap() {
        Advance::Write(ledger, step) => (*ledger, step),
        Advance::Wait(until) => panic!("waits until {until:?}"),
    }
}

#[track_caller]
fn waits(advance: Result<Advance, Malformed>) -> SystemTime {
    match advance.unwrap() {
        Advance::Wait(until) => until,
        Advance::Write(_, step) => panic!("writes: {step:?}"),
    }
}

#[test]
fn a_young_root_is_left_alone_until_thirty_days_before_its_end() {
    let ledger = Ledger::of(root(), DAY);
    let ends = root_ends(&ledger).unwrap();
    let due = waits(advance(&ledger, &POLICY, now(), no_root));
    assert_eq!(due, ends - 30 * DAY);
    let early = due - Duration::from_secs(1);
    assert_eq!(waits(advance(&ledger, &POLICY, early, no_root)), due);
    let (_, step) = written(advance(&ledger, &POLICY, due, root));
    assert_eq!(step, Step::Introduce);
}

#[test]
fn leaves_that_live_long_bring_the_rotation_forward() {
    let policy = Policy {
        leaf_ttl: 90 * DAY,
        overlap: 90 * DAY,
    };
    let ledger = Ledger::of(root(), policy.leaf_ttl);
    let due = waits(advance(&ledger, &policy, now(), no_root));
    assert_eq!(due, root_ends(&ledger).unwrap() - 180 * DAY);
}

#[test]
fn a_rotation_that_was_asked_for_goes_through_its_phases() {
    let (old, new) = (root(), root());
    let mut asked = Ledger::of(old.clone(), DAY);
    asked.notes.insert(ROTATE.to_owned(), "please".to_owned());

    let (introduced, step) = written(advance(&asked, &POLICY, now(), || new.clone()));
    assert_eq!(step, Step::Introduce);
    assert_eq!(
        introduced,
        ledger(
            &[
                ("ca-cert.pem", &old.certificate),
                ("ca-key.pem", &old.key),
                ("next.root.pem", &new.certificate),
                ("next-key.pem", &new.key),
            ],
            &[
                ("weft.dev/longest-leaf", "86400s"),
                ("weft.dev/next-root-signs-at", "2027-01-16T08:00:00Z"),
            ],
        )
    );
    let roots = introduced.authority("cluster.local", now()).unwrap();
    assert_eq!(roots.roots(), [&*old.certificate, &*new.certificate]);

    let signs_at = now() + DAY;
    let early = signs_at - Duration::from_secs(1);
    assert_eq!(
        waits(advance(&introduced, &POLICY, early, no_root)),
        signs_at
    );
    let (promoted, step) = written(advance(&introduced, &POLICY, signs_at, no_root));
    assert_eq!(step, Step::Promote);
    assert_eq!(
        promoted,
        ledger(
            &[
                ("ca-cert.pem", &new.certificate),
                ("ca-key.pem", &new.key),
                ("old-2027-01-16T08-00-00Z.root.pem", &old.certificate),
            ],
            &[
                ("weft.dev/longest-leaf", "86400s"),
                (
                    "weft.dev/trusted-until.old-2027-01-16T08-00-00Z",
                    "2027-01-17T09:00:00Z",
                ),
            ],
        )
    );
    let roots = promoted.authority("cluster.local", now()).unwrap();
    assert_eq!(roots.roots(), [&*new.certificate, &*old.certificate]);

    let ends = signs_at + DAY + SLACK;
    assert_eq!(waits(advance(&promoted, &POLICY, signs_at, no_root)), ends);
    let (retired, step) = written(advance(&promoted, &POLICY, ends, no_root));
    assert_eq!(step, Step::Retire);
    assert_eq!(retired, Ledger::of(new, DAY));
}

#[test]
fn a_root_near_its_end_is_replaced_before_leaves_would_be_cut_short() {
    let ledger = Ledger::of(root(), DAY);
    let late = root_ends(&ledger).unwrap() - DAY - DAY / 2;
    let (introduced, _) = written(advance(&ledger, &POLICY, late, root));
    let signs_at = introduced.time(NEXT_SIGNS_AT).unwrap().unwrap();
    assert_eq!(signs_at, late + DAY / 2);
}

#[test]
fn a_second_request_changes_nothing_about_a_rotation_under_way() {
    let mut asked = Ledger::of(root(), DAY);
    asked.notes.insert(ROTATE.to_owned(), String::new());
    let (introduced, _) = written(advance(&asked, &POLICY, now(), root));
    let mut again = introduced.clone();
    again.notes.insert(ROTATE.to_owned(), String::new());
    let (dismissed, step) = written(advance(&again, &POLICY, now(), no_root));
    assert_eq!(step, Step::Dismiss);
    assert_eq!(dismissed, introduced);
}

#[test]
fn leaves_of_an_earlier_setting_are_waited_for() {
    let week = Policy {
        leaf_ttl: 7 * DAY,
        ..POLICY
    };
    let first = Ledger::of(root(), DAY);
    let (noted, step) = written(advance(&first, &week, now(), no_root));
    assert_eq!(step, Step::NoteLeaf);
    // Shorter leaves since then: the long ones are still out there.
    let (mut asked, _) = (noted, ());
    asked.notes.insert(ROTATE.to_owned(), String::new());
    let (introduced, _) = written(advance(&asked, &POLICY, now(), root));
    let (promoted, _) = written(advance(&introduced, &POLICY, now() + DAY, no_root));
    let ends = waits(advance(&promoted, &POLICY, now() + DAY, no_root));
    assert_eq!(ends, now() + DAY + 7 * DAY + SLACK);
    assert_eq!(promoted.longest_leaf(), Ok(Some(DAY)));
}

#[test]
fn a_root_that_somebody_added_without_a_time_stays() {
    let mut given = Ledger::of(root(), DAY);
    let other = root().certificate;
    given.texts.insert("partner.root.pem".to_owned(), other);
    let until = waits(advance(&given, &POLICY, now(), no_root));
    assert_eq!(until, root_ends(&given).unwrap() - 30 * DAY);
}

#[test]
fn a_time_that_cannot_be_read_stops_the_rotation_and_is_named() {
    let mut asked = Ledger::of(root(), DAY);
    asked.notes.insert(ROTATE.to_owned(), String::new());
    let (mut introduced, _) = written(advance(&asked, &POLICY, now(), root));
    introduced
        .notes
        .insert(NEXT_SIGNS_AT.to_owned(), "tomorrow".to_owned());
    let malformed = advance(&introduced, &POLICY, now(), no_root).unwrap_err();
    assert_eq!(malformed.key, NEXT_SIGNS_AT);
    introduced.notes.remove(NEXT_SIGNS_AT);
    let (scheduled, _) = written(advance(&introduced, &POLICY, now(), no_root));
    assert_eq!(scheduled.time(NEXT_SIGNS_AT), Ok(Some(now() + DAY)));
}

#[test]
fn a_root_that_is_there_is_never_replaced() {
    for key in [KEY, CERTIFICATE] {
        let broken = ledger(&[(key, "garbage")], &[]);
        assert_eq!(establish(&broken, &POLICY, now(), no_root), None);
    }
    let new = root();
    let made = establish(&Ledger::default(), &POLICY, now(), || new.clone());
    assert_eq!(made, Some(Ledger::of(new, DAY)));
}

#[test]
fn a_supplied_root_that_changes_is_trusted_until_its_leaves_have_ended() {
    let (first, second) = (root().certificate, root().certificate);
    let (seen, step) = written(record(&Ledger::default(), &first, &POLICY, now()));
    assert_eq!(step, Step::Record);
    let noted = ("weft.dev/longest-leaf", "86400s");
    assert_eq!(seen, ledger(&[("supplied.root.pem", &first)], &[noted]));
    waits(record(&seen, &first, &POLICY, now()));

    let (changed, _) = written(record(&seen, &second, &POLICY, now()));
    assert_eq!(
        changed,
        ledger(
            &[
                ("supplied.root.pem", &second),
                ("old-2027-01-15T08-00-00Z.root.pem", &first),
            ],
            &[
                noted,
                (
                    "weft.dev/trusted-until.old-2027-01-15T08-00-00Z",
                    "2027-01-16T09:00:00Z",
                ),
            ],
        )
    );
    let ends = waits(record(&changed, &second, &POLICY, now()));
    assert_eq!(ends, now() + DAY + SLACK);
    let (retired, step) = written(record(&changed, &second, &POLICY, ends));
    assert_eq!(step, Step::Retire);
    assert_eq!(retired, ledger(&[("supplied.root.pem", &second)], &[noted]));
}

#[test]
fn going_over_to_a_supplied_root_and_back_keeps_trust_in_the_former() {
    let (own, supplied, new) = (root(), root().certificate, root());
    let (over, _) = written(record(
        &Ledger::of(own.clone(), DAY),
        &supplied,
        &POLICY,
        now(),
    ));
    let further: Vec<_> = over.further().map(|(_, text)| text).collect();
    assert_eq!(further, [&*own.certificate, &*supplied]);
    assert!(!over.is_established());

    let back = establish(&over, &POLICY, now() + DAY, || new.clone()).unwrap();
    let authority = back.authority("cluster.local", now()).unwrap();
    assert_eq!(
        authority.roots(),
        [&*new.certificate, &*own.certificate, &*supplied]
    );
    assert_eq!(back.ending().unwrap().len(), 2);
}

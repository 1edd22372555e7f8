//! Does to header fields what a route says.

use crate::snapshot::route::HeaderChange;
use http::{HeaderMap, header::Entry};

/// Makes the changes, in order.
pub fn apply(changes: &[HeaderChange], headers: &mut HeaderMap) {
    for change in changes {
        match change {
            HeaderChange::Remove(name) => {
                headers.remove(name);
            }
            HeaderChange::Set(name, value) => {
                headers.insert(name, value.clone());
            }
            HeaderChange::Replace(name, value) => {
                if let Entry::Occupied(mut field) = headers.entry(name) {
                    field.insert(value.clone());
                }
            }
            HeaderChange::Add(name, value) => {
                headers.append(name, value.clone());
            }
            HeaderChange::AddIfAbsent(name, value) => {
                headers.entry(name).or_insert_with(|| value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn each_change_does_what_envoys_action_of_that_name_does() {
        let name = HeaderName::from_static("a");
        let value = HeaderValue::from_static("new");
        let none = map(&[]);
        let two = map(&[("a", "1"), ("a", "2")]);
        let new = map(&[("a", "new")]);
        for (change, of_none, of_two) in [
            (HeaderChange::Remove(name.clone()), &none, &none),
            (HeaderChange::Set(name.clone(), value.clone()), &new, &new),
            (
                HeaderChange::Replace(name.clone(), value.clone()),
                &none,
                &new,
            ),
            (
                HeaderChange::Add(name.clone(), value.clone()),
                &new,
                &map(&[("a", "1"), ("a", "2"), ("a", "new")]),
            ),
            (HeaderChange::AddIfAbsent(name, value), &new, &two),
        ] {
            for (before, after) in [(&none, of_none), (&two, of_two)] {
                let mut headers = before.clone();
                apply(std::slice::from_ref(&change), &mut headers);
                assert_eq!(headers, *after, "{change:?}");
            }
        }
    }

    #[test]
    fn changes_are_made_in_order() {
        let name = HeaderName::from_static("a");
        let mut headers = map(&[("a", "1")]);
        let changes = [
            HeaderChange::Remove(name.clone()),
            HeaderChange::Add(name, HeaderValue::from_static("2")),
        ];
        apply(&changes, &mut headers);
        assert_eq!(headers, map(&[("a", "2")]));
    }
}

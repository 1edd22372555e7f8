//! Parameters of a query, as they stand in the request: escapes are not decoded.

/// The first value of a parameter. That of `?a` is empty.
pub fn first<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_counts() {
        for (query, value) in [
            ("a=1", Some("1")),
            ("b=0&a=1&a=2", Some("1")),
            ("a", Some("")),
            ("a=", Some("")),
            ("a=1=2", Some("1=2")),
            ("a=%20", Some("%20")),
            ("aa=1", None),
            ("%61=1", None),
            ("", None),
        ] {
            assert_eq!(first(query, "a"), value, "{query}");
        }
    }
}

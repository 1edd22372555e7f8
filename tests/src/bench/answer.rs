//! Answers of HTTP/1.1 servers, as far as a load generator must know them: where they end.

use anyhow::{Context, ensure};

/// Fields that an answer may have here.
const FIELDS: usize = 64;

/// Reads the head of an answer that must be a success: the length of head and body together, or `None` while the
/// head is incomplete.
///
/// An error for what a generator should not measure: an error status, a malformed head, or a body whose length is
/// not announced. The answer to CONNECT has no body (RFC 9110 section 9.3.6).
pub fn length(received: &[u8], to_connect: bool) -> anyhow::Result<Option<usize>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = answer.parse(received)? else {
        return Ok(None);
    };
    let status = answer.code.context("a complete head has a status")?;
    ensure!(
        (200..300).contains(&status),
        "{}",
        String::from_utf8_lossy(received)
    );
    if to_connect {
        return Ok(Some(head));
    }
    let length = answer
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("content-length"))
        .context("the answer does not say how long it is")?;
    let length: usize = std::str::from_utf8(length.value)?.parse()?;
    Ok(Some(head + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_content_length_says() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\n\r\nhello";
        assert_eq!(length(answer, false).unwrap(), Some(answer.len()));
    }

    #[test]
    fn nothing_is_known_of_half_a_head() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n";
        assert_eq!(length(answer, false).unwrap(), None);
    }

    #[test]
    fn the_answer_to_connect_is_its_head() {
        let answer = b"HTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(length(answer, true).unwrap(), Some(answer.len()));
    }

    #[test]
    fn what_cannot_be_measured_is_an_error() {
        for answer in [
            &b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
            b"SSH-2.0\r\n\r\n",
        ] {
            assert!(length(answer, false).is_err(), "{answer:?}");
        }
    }
}

//! As much of HTTP/1.1 as a scraper needs: the head of one request, one answer, the end.
//!
//! 1. What a head means does not depend on how its bytes were cut on their way.
//! 2. At most [`MAX_HEAD`] bytes are kept, whatever comes; no bytes make this panic.
//!
//! Only the first line is looked at. A body is never read: the connection ends with the answer.

use std::fmt::Write;

/// The longest head of a request, in bytes, its empty line included. Chosen freely: that of Prometheus has some 300.
pub(super) const MAX_HEAD: usize = 4 * 1024;

/// What there is to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Metrics,
    Health,
}

/// Why there is nothing to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The first line is not one of HTTP/1.
    BadRequest,
    /// There is no such page.
    NotFound,
    /// The page can only be got.
    MethodNotAllowed,
    /// The head took too long to come.
    TooSlow,
    /// The head is longer than [`MAX_HEAD`].
    TooLong,
}

/// The head of a request on its way in.
#[derive(Debug, Default)]
pub(super) struct Head {
    bytes: Vec<u8>,
    /// No line that is empty begins before this.
    searched: usize,
}

impl Head {
    /// Takes in the next bytes. What is asked for, as soon as that is known.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<Result<Page, Fault>> {
        let room = MAX_HEAD.saturating_sub(self.bytes.len());
        self.bytes.extend(bytes.iter().take(room));
        if self.is_whole() {
            return Some(self.asked());
        }
        (self.bytes.len() >= MAX_HEAD).then_some(Err(Fault::TooLong))
    }

    /// Whether an empty line has come.
    fn is_whole(&mut self) -> bool {
        loop {
            let rest = self.bytes.get(self.searched..).unwrap_or_default();
            let Some(length) = rest.iter().position(|byte| *byte == b'\n') else { return false };
            let line = rest.get(..length).unwrap_or_default();
            if line.is_empty() || line == b"\r" {
                return true;
            }
            self.searched += length + 1;
        }
    }

    fn asked(&self) -> Result<Page, Fault> {
        let line = self.bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Fault::BadRequest);
        };
        let is_method = !method.is_empty() && method.iter().all(u8::is_ascii_alphabetic);
        if !is_method || !matches!(version, b"HTTP/1.1" | b"HTTP/1.0") {
            return Err(Fault::BadRequest);
        }
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let page = match path {
            b"/metrics" => Page::Metrics,
            b"/health" => Page::Health,
            _ => return Err(Fault::NotFound),
        };
        if method == b"GET" { Ok(page) } else { Err(Fault::MethodNotAllowed) }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Code and words, such as `200 OK`.
    pub(super) status: &'static str,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Answer {
    /// A line for a human.
    pub(super) fn line(status: &'static str, text: &str) -> Self {
        Answer { status, content_type: "text/plain; charset=utf-8", body: format!("{text}\n") }
    }

    /// The answer as bytes. The connection ends after it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let Answer { status, content_type, body } = self;
        let mut text =
            format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n", body.len());
        if *status == METHOD_NOT_ALLOWED {
            text.push_str("Allow: GET\r\n");
        }
        // Writing into a string cannot fail.
        let _ = write!(text, "Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}");
        text.into_bytes()
    }
}

const METHOD_NOT_ALLOWED: &str = "405 Method Not Allowed";

impl From<Fault> for Answer {
    fn from(fault: Fault) -> Answer {
        match fault {
            Fault::BadRequest => Answer::line("400 Bad Request", "this is not a request of HTTP/1.1"),
            Fault::NotFound => Answer::line("404 Not Found", "there is /metrics and /health"),
            Fault::MethodNotAllowed => Answer::line(METHOD_NOT_ALLOWED, "this page can only be got"),
            Fault::TooSlow => Answer::line("408 Request Timeout", "the request took too long"),
            Fault::TooLong => Answer::line("431 Request Header Fields Too Large", "the request is too long"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The answer, and how many of the parts were needed.
    fn push_all(parts: &[&[u8]]) -> Option<Result<Page, Fault>> {
        let mut head = Head::default();
        parts.iter().find_map(|part| head.push(part))
    }

    const CASES: &[(&str, Result<Page, Fault>)] = &[
        ("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n", Ok(Page::Metrics)),
        ("GET /metrics HTTP/1.0\r\n\r\n", Ok(Page::Metrics)),
        ("GET /metrics?name=x HTTP/1.1\r\nHost: a\r\n\r\n", Ok(Page::Metrics)),
        ("GET /health HTTP/1.1\nHost: a\n\n", Ok(Page::Health)),
        ("HEAD /metrics HTTP/1.1\r\n\r\n", Err(Fault::MethodNotAllowed)),
        ("POST /health HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", Err(Fault::MethodNotAllowed)),
        ("GET / HTTP/1.1\r\n\r\n", Err(Fault::NotFound)),
        ("GET /metrics/ HTTP/1.1\r\n\r\n", Err(Fault::NotFound)),
        ("POST /etc/passwd HTTP/1.1\r\n\r\n", Err(Fault::NotFound)),
        ("GET /metrics HTTP/2.0\r\n\r\n", Err(Fault::BadRequest)),
        ("GET  /metrics HTTP/1.1\r\n\r\n", Err(Fault::BadRequest)),
        ("GET /metrics\r\n\r\n", Err(Fault::BadRequest)),
        ("\r\nGET /metrics HTTP/1.1\r\n\r\n", Err(Fault::BadRequest)),
        ("\n", Err(Fault::BadRequest)),
        (" \r\n\r\n", Err(Fault::BadRequest)),
    ];

    #[test]
    fn a_head_means_the_same_however_it_was_cut() {
        for (text, expected) in CASES {
            let bytes = text.as_bytes();
            assert_eq!(push_all(&[bytes]), Some(*expected), "{text:?}");
            for cut in 0..=bytes.len() {
                let (left, right) = bytes.split_at(cut);
                assert_eq!(push_all(&[left, right]), Some(*expected), "{text:?} cut at {cut}");
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(push_all(&single), Some(*expected), "{text:?} byte by byte");
        }
    }

    #[test]
    fn a_head_that_is_not_whole_is_waited_for() {
        let text = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
        for length in 0..text.len() {
            assert_eq!(push_all(&[&text[..length]]), None, "{length}");
        }
    }

    #[test]
    fn the_longest_head_is_served_and_one_byte_more_is_not() {
        let head = |length: usize| {
            let (begin, end) = ("GET /health HTTP/1.1\r\nA: ", "\r\n\r\n");
            format!("{begin}{}{end}", "x".repeat(length - begin.len() - end.len())).into_bytes()
        };
        for step in [1, 7, MAX_HEAD, 2 * MAX_HEAD] {
            let whole = head(MAX_HEAD);
            assert_eq!(push_all(&whole.chunks(step).collect::<Vec<_>>()), Some(Ok(Page::Health)));
            let long = head(MAX_HEAD + 1);
            assert_eq!(push_all(&long.chunks(step).collect::<Vec<_>>()), Some(Err(Fault::TooLong)));
        }
        let mut head = Head::default();
        assert_eq!(head.push(&vec![b'x'; 1 << 20]), Some(Err(Fault::TooLong)));
        assert_eq!(head.bytes.len(), MAX_HEAD);
    }

    proptest! {
        #[test]
        fn garbage_is_answered_or_waited_for_and_its_cuts_do_not_matter(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b' ')], 0..6_000),
            step in 1_usize..5_000,
        ) {
            let whole = push_all(&[&bytes]);
            prop_assert_eq!(push_all(&bytes.chunks(step).collect::<Vec<_>>()), whole);
            prop_assert!(whole.is_some() || bytes.len() < MAX_HEAD);
        }
    }

    #[test]
    fn an_answer_says_how_long_it_is_and_that_it_is_the_last() {
        let bytes = Answer::from(Fault::MethodNotAllowed).to_bytes();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
        assert!(head.contains("\r\nAllow: GET\r\n") && head.contains("\r\nConnection: close"));
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
    }
}

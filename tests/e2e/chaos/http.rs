//! A small HTTP client that expects servers to be dead, stopped or cut off, and says what it knows of a
//! request's fate.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use mesita::api::recordio::Decoder;
use serde_json::Value;

use super::history::Outcome;
use crate::support::{now, split_answer};

/// A server that does not take a connection in this time is not there.
const CONNECT: Duration = Duration::from_millis(500);
/// How long an answer may take: longer than a fail-over.
pub(crate) const ANSWER: Duration = Duration::from_secs(8);

const JSON: &str = "Content-Type: application/json\r\nAccept: application/json\r\n";

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Status, head and body.
    Reply(u16, String, Vec<u8>),
    /// Nobody was reached: the request was not made.
    NotSent,
    /// It was sent, and no whole answer came.
    Lost,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        if let Self::Reply(status, ..) = self { *status } else { 0 }
    }

    pub(crate) fn json(&self) -> Value {
        if let Self::Reply(_, _, body) = self {
            serde_json::from_slice(body).unwrap_or_default()
        } else {
            Value::Null
        }
    }

    pub(crate) fn text(&self) -> String {
        if let Self::Reply(_, _, body) = self {
            String::from_utf8_lossy(body).into_owned()
        } else {
            String::new()
        }
    }

    /// What the sender of a change knows now.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Reply(200..=299, ..) => Outcome::Done,
            // A refusal; anything of 500 may come after the change was proposed.
            Self::Reply(300..=499, ..) | Self::NotSent => Outcome::Not,
            Self::Reply(..) | Self::Lost => Outcome::Unknown,
        }
    }
}

/// One JSON request to `host:port` on a connection of its own; it takes at most `within`.
pub(crate) fn send(
    address: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
    within: Duration,
) -> Answer {
    let started = now();
    let Some(mut stream) = connect(address) else { return Answer::NotSent };
    let close = format!("Connection: close\r\n{headers}");
    if stream.write_all(&request(address, method, path, &close, body)).is_err() {
        return Answer::Lost;
    }
    let mut bytes = Vec::new();
    if !read_to_end(&mut stream, &mut bytes, started, within) {
        return Answer::Lost;
    }
    let head = head_of(&bytes);
    match split_answer(&bytes) {
        (0, _) => Answer::Lost,
        (status, body) if is_whole(&head, &bytes, &body) => Answer::Reply(status, head, body),
        _ => Answer::Lost,
    }
}

pub(crate) fn get(address: &str, path: &str) -> Answer {
    send(address, "GET", path, "", "", ANSWER)
}

pub(crate) fn post(address: &str, path: &str, body: &Value) -> Answer {
    send(address, "POST", path, "", &body.to_string(), ANSWER)
}

fn connect(address: &str) -> Option<TcpStream> {
    let address: SocketAddr = address.parse().ok()?;
    let stream = TcpStream::connect_timeout(&address, CONNECT).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_write_timeout(Some(ANSWER)).ok()?;
    Some(stream)
}

fn request(address: &str, method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{JSON}{headers}Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

fn read_to_end(stream: &mut TcpStream, bytes: &mut Vec<u8>, started: Instant, within: Duration) -> bool {
    let mut buffer = [0; 16 * 1024];
    loop {
        let left = within.saturating_sub(started.elapsed());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return false;
        }
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(_) => return false,
        }
    }
}

fn head_of(bytes: &[u8]) -> String {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The value of a header.
pub(crate) fn header(head: &str, name: &str) -> Option<String> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}

/// A connection that breaks in the middle looks like its end.
fn is_whole(head: &str, bytes: &[u8], body: &[u8]) -> bool {
    match header(head, "Content-Length").and_then(|length| length.parse::<usize>().ok()) {
        Some(length) => body.len() == length,
        None => bytes.ends_with(b"0\r\n\r\n") || body.is_empty(),
    }
}

/// A stream of events.
pub(crate) struct Events {
    stream: TcpStream,
    /// Chunks that are not whole yet.
    chunks: Vec<u8>,
    records: Decoder,
    pub(crate) stream_id: String,
}

impl Events {
    /// SUBSCRIBE. The answer, when it is none of success.
    pub(crate) fn open(address: &str, call: &Value) -> Result<Self, Answer> {
        let mut stream = connect(address).ok_or(Answer::NotSent)?;
        let ask = request(address, "POST", "/api/v1/scheduler", "", &call.to_string());
        stream.write_all(&ask).map_err(|_| Answer::Lost)?;
        let (started, mut bytes, mut buffer) = (now(), Vec::new(), [0; 4096]);
        while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
            let left = ANSWER.saturating_sub(started.elapsed());
            if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
                return Err(Answer::Lost);
            }
            match stream.read(&mut buffer) {
                Ok(length) if length > 0 => bytes.extend_from_slice(&buffer[..length]),
                _ => return Err(Answer::Lost),
            }
        }
        let head = head_of(&bytes);
        if split_answer(&bytes).0 != 200 {
            // The rest of a refusal is short.
            let _ = read_to_end(&mut stream, &mut bytes, started, CONNECT);
            let (status, body) = split_answer(&bytes);
            return Err(Answer::Reply(status, head, body));
        }
        let chunks = bytes.split_off(head.len() + 4);
        let stream_id = header(&head, "Mesos-Stream-Id").unwrap_or_default();
        Ok(Self { stream, chunks, records: Decoder::default(), stream_id })
    }

    /// The next event, if one comes in time. An error: the stream has ended.
    pub(crate) fn next(&mut self, within: Duration) -> Result<Option<Value>, String> {
        let started = now();
        loop {
            self.unchunk()?;
            let record = self.records.next_record().map_err(|error| error.to_string())?;
            if let Some(record) = record {
                return serde_json::from_slice(&record).map(Some).map_err(|error| error.to_string());
            }
            let left = within.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left)).map_err(|error| error.to_string())?;
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("the master closed it".to_owned()),
                Ok(length) => self.chunks.extend_from_slice(&buffer[..length]),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Moves whole chunks to the records.
    fn unchunk(&mut self) -> Result<(), String> {
        while let Some(end) = self.chunks.windows(2).position(|window| window == b"\r\n") {
            let digits = String::from_utf8_lossy(&self.chunks[..end]).into_owned();
            let size =
                usize::from_str_radix(digits.trim(), 16).map_err(|_| format!("a chunk of {digits:?}"))?;
            if size == 0 {
                return Err("the master ended it".to_owned());
            }
            if self.chunks.len() < end + 2 + size + 2 {
                return Ok(());
            }
            self.records.push(&self.chunks[end + 2..end + 2 + size]);
            self.chunks.drain(..end + 2 + size + 2);
        }
        Ok(())
    }
}

/// What a master says of who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leads {
    Here,
    /// Another, at this address of its API.
    At(String),
    Nobody,
    /// It says nothing.
    Silent,
}

/// Asks a master who leads, as a scheduler learns it.
pub(crate) fn who_leads(address: &str) -> Leads {
    leads_by(&send(address, "POST", "/api/v1/scheduler", "", "{}", CONNECT))
}

/// What an answer of the scheduler API says of who leads: a 307 names the leader, and so does a 503 where
/// its API is bound to loopback.
pub(crate) fn leads_by(answer: &Answer) -> Leads {
    match answer {
        Answer::Reply(307, head, _) => {
            let location = header(head, "Location").unwrap_or_default();
            let address = location.trim_start_matches("//").split('/').next().unwrap_or_default();
            Leads::At(address.to_owned())
        }
        Answer::Reply(503, ..) => {
            let text = answer.text();
            let bound = text.split("is bound to ").nth(1).and_then(|rest| rest.split(": ").next());
            bound.map_or(Leads::Nobody, |address| Leads::At(address.to_owned()))
        }
        Answer::Reply(..) => Leads::Here,
        Answer::NotSent | Answer::Lost => Leads::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, head: &str, body: &str) -> Answer {
        Answer::Reply(status, head.to_owned(), body.as_bytes().to_vec())
    }

    #[test]
    fn both_ways_to_the_leader_are_followed() {
        let redirect = reply(307, "HTTP/1.1 307 x\r\nlocation: //10.0.0.2:5050/api/v1/scheduler", "");
        assert_eq!(leads_by(&redirect), Leads::At("10.0.0.2:5050".to_owned()));
        let bound = "the master of 127.0.0.1:1 leads, but its API is bound to 127.0.0.1:7: start it";
        assert_eq!(leads_by(&reply(503, "", bound)), Leads::At("127.0.0.1:7".to_owned()));
        assert_eq!(leads_by(&reply(503, "", "No leader elected")), Leads::Nobody);
        assert_eq!(leads_by(&reply(400, "", "no type")), Leads::Here);
        assert_eq!(leads_by(&Answer::Lost), Leads::Silent);
    }

    #[test]
    fn an_answer_that_broke_off_is_none() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 5";
        assert!(is_whole(head, b"", b"12345"));
        assert!(!is_whole(head, b"", b"123"));
        assert!(!is_whole("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", b"5\r\n123", b"123"));
        assert_eq!(Answer::NotSent.outcome(), Outcome::Not);
        assert_eq!(Answer::Lost.outcome(), Outcome::Unknown);
        assert_eq!(reply(503, "", "").outcome(), Outcome::Unknown);
        assert_eq!(reply(409, "", "").outcome(), Outcome::Not);
    }
}

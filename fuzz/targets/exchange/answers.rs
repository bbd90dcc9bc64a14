//! Answers, read as strictly as can be read. Owns where one ends; what is in doubt is said to be so.

/// One answer, or as much of it as there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub is_whole: bool,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// All final answers of these bytes. `methods`: of the requests, in their order; `is_over`: nothing more comes.
pub fn answers(
    mut bytes: &[u8],
    methods: &[String],
    is_over: bool,
) -> Result<Vec<Answer>, &'static str> {
    let mut found = Vec::new();
    while let Some(end) = find(bytes, b"\r\n\r\n") {
        let (status, fields) = head(&bytes[..end])?;
        bytes = &bytes[end + 4..];
        if status == 101 {
            return Err("another protocol");
        }
        if (100..200).contains(&status) {
            continue;
        }
        let is_head = methods.get(found.len()).is_some_and(|method| method == "HEAD");
        let (body, used, is_whole) = body(status, &fields, is_head, bytes, is_over)?;
        bytes = &bytes[used..];
        found.push(Answer { status, fields, body, is_whole });
        if !is_whole {
            return Ok(found);
        }
    }
    match bytes {
        [] => Ok(found),
        // Others may see its end where a strict reader does not.
        _ if latin(bytes).trim_end_matches('\r').replace("\r\n", "").contains(['\r', '\n']) => {
            Err("a lone CR or LF")
        }
        // A head that is not complete.
        _ if b"HTTP/1.1 ".starts_with(&bytes[..bytes.len().min(9)]) => Ok(found),
        _ => Err("bytes behind an answer"),
    }
}

type Fields = Vec<(String, String)>;

fn head(bytes: &[u8]) -> Result<(u16, Fields), &'static str> {
    let text = latin(bytes);
    if text.replace("\r\n", "").contains(['\r', '\n', '\0']) {
        return Err("a lone CR, LF or NUL");
    }
    if text.contains(
        |c| matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}'),
    ) {
        return Err("a control character");
    }
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.1 ").ok_or("the first line")?;
    let digits = status.get(..3).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    if !status.get(3..).is_some_and(|rest| rest.starts_with(' ')) {
        return Err("the first line");
    }
    let status = digits.and_then(|digits| digits.parse().ok());
    let status = status.filter(|status| *status >= 100).ok_or("the status")?;
    let mut fields = Fields::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("no colon")?;
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) {
            return Err("a field's name");
        }
        fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
    // As many as hyper reads.
    if fields.len() > 100 { Err("too many fields") } else { Ok((status, fields)) }
}

fn body(
    status: u16,
    fields: &Fields,
    is_head: bool,
    bytes: &[u8],
    is_over: bool,
) -> Result<(Vec<u8>, usize, bool), &'static str> {
    let all = |name: &'static str| fields.iter().filter(move |(found, _)| found == name);
    let (lengths, codings) = (all("content-length").count(), all("transfer-encoding").count());
    if lengths + codings > 1 {
        return Err("framed twice");
    }
    if is_head || matches!(status, 204 | 304) {
        return Ok((Vec::new(), 0, true));
    }
    if let Some((_, coding)) = all("transfer-encoding").next() {
        return if coding.eq_ignore_ascii_case("chunked") {
            chunks(bytes)
        } else {
            Err("a coding")
        };
    }
    if let Some((_, length)) = all("content-length").next() {
        if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("a length");
        }
        let length: usize = length.parse().map_err(|_| "a length")?;
        let there = length.min(bytes.len());
        return Ok((bytes[..there].to_vec(), there, there == length));
    }
    Ok((bytes.to_vec(), bytes.len(), is_over))
}

fn chunks(bytes: &[u8]) -> Result<(Vec<u8>, usize, bool), &'static str> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { break };
        let size = &bytes[at..at + end];
        if size.is_empty() || size.len() > 8 || !size.iter().all(u8::is_ascii_hexdigit) {
            return Err("a chunk's size");
        }
        let size = String::from_utf8_lossy(size);
        let size = usize::from_str_radix(&size, 16).map_err(|_| "a chunk's size")?;
        at += end + 2;
        if size == 0 {
            let rest = &bytes[at..];
            if rest.starts_with(b"\r\n") {
                return Ok((body, at + 2, true));
            }
            let Some(end) = find(rest, b"\r\n\r\n") else { break };
            // Trailers are a head's fields.
            let line = [b"HTTP/1.1 200 x\r\n", &rest[..end]].concat();
            head(&line)?;
            return Ok((body, at + end + 4, true));
        }
        let there = size.min(bytes.len() - at);
        body.extend_from_slice(&bytes[at..at + there]);
        at += there;
        match &bytes[at..] {
            [b'\r', b'\n', ..] if there == size => at += 2,
            [] | [b'\r'] => break,
            _ if there == size => return Err("a chunk's end"),
            _ => break,
        }
    }
    Ok((body, bytes.len(), false))
}

/// A character is a byte.
pub fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

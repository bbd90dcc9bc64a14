//! Lines of JSON as one array, as they are written. Owns the brackets and commas; a line's content passes as it
//! comes.

use std::io::{self, Write};

/// Makes an array of what is written to it: one value on each line.
#[derive(Debug)]
pub(super) struct ArrayOf<W> {
    out: W,
    /// Whether anything has been written.
    has_begun: bool,
    /// Whether the next byte is a line's first.
    at_start: bool,
}

impl<W: Write> ArrayOf<W> {
    pub(super) fn new(out: W) -> ArrayOf<W> {
        ArrayOf { out, has_begun: false, at_start: true }
    }

    /// Ends the array.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.write_all(if self.has_begun { b"\n]\n" } else { b"[]\n" })?;
        self.out.flush()
    }
}

impl<W: Write> Write for ArrayOf<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.at_start {
                self.out.write_all(if self.has_begun { b",\n" } else { b"[\n" })?;
                self.has_begun = true;
            }
            let content = line.strip_suffix(b"\n");
            self.out.write_all(content.unwrap_or(line))?;
            self.at_start = content.is_some();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(pieces: &[&str]) -> String {
        let mut out = Vec::new();
        let mut array = ArrayOf::new(&mut out);
        for piece in pieces {
            array.write_all(piece.as_bytes()).unwrap();
        }
        array.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_become_an_array_however_they_are_cut() {
        assert_eq!(array(&[]), "[]\n");
        let whole = "[\n{\"a\":1},\n{\"a\":2}\n]\n";
        assert_eq!(array(&["{\"a\":1}\n{\"a\":2}\n"]), whole);
        assert_eq!(array(&["{\"a\"", ":1}", "\n", "{\"a\":2", "}\n"]), whole);
    }
}

//! Reads choices out of the bytes that a fuzzer varies, and writes seeds that it reads the same
//! way. Any bytes are some choices, and a small change of the bytes is a small change of these.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(&'a [u8]);

/// An input under construction.
#[derive(Clone, Debug, Default)]
pub struct Seed(Vec<u8>);

impl<'a> Input<'a> {
    /// All of it.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte; 0 where there is none.
    pub fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    /// One of these.
    pub fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// A number of two bytes.
    pub fn number(&mut self) -> usize {
        usize::from(u16::from_be_bytes([self.byte(), self.byte()]))
    }

    /// Some bytes, which have their length before them, or as many as there are.
    pub fn chunk(&mut self) -> &'a [u8] {
        let length = self.number().min(self.0.len());
        let (chunk, rest) = self.0.split_at(length);
        self.0 = rest;
        chunk
    }

    /// All that is left.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Seed {
    /// With one byte more.
    #[must_use]
    pub fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    /// With a number of two bytes more.
    #[must_use]
    pub fn number(mut self, number: usize) -> Self {
        self.0.extend(u16::try_from(number).unwrap().to_be_bytes());
        self
    }

    /// With some bytes and their length more.
    #[must_use]
    pub fn chunk(self, bytes: &[u8]) -> Self {
        let mut seed = self.number(bytes.len());
        seed.0.extend(bytes);
        seed
    }

    /// With these at the end.
    #[must_use]
    pub fn rest(mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.extend(bytes);
        self.0
    }
}

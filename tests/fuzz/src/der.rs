//! DER as a tree that can be changed and written again, so that a changed certificate is still one.

use crate::input::Input;

const OCTET_STRING: u8 = 4;

/// An element: a value, or elements in it.
#[derive(Clone, Debug)]
pub struct Node {
    tag: u8,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Value(Vec<u8>),
    Elements(Vec<Node>),
}

impl Node {
    /// Reads an element that is all of `der`. The value of an octet string counts as elements where
    /// it can be read as such, as that of an extension can.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let (node, rest) = Self::next(der)?;
        rest.is_empty().then_some(node)
    }

    /// A value with this tag.
    #[must_use]
    pub fn value(tag: u8, content: &[u8]) -> Self {
        Self { tag, content: Content::Value(content.to_vec()) }
    }

    /// The element in DER.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let content = match &self.content {
            Content::Value(value) => value.clone(),
            Content::Elements(elements) => elements.iter().flat_map(Self::write).collect(),
        };
        let length = content.len();
        let [.., highest, high, low] = length.to_be_bytes();
        let mut der = vec![self.tag];
        match length {
            0..=0x7f => der.push(low),
            0x80..=0xff => der.extend([0x81, low]),
            0x100..=0xffff => der.extend([0x82, high, low]),
            _ => der.extend([0x83, highest, high, low]),
        }
        der.extend(content);
        der
    }

    /// Makes one change: of a value, of a tag, of the order, or of the number of elements.
    pub fn change(&mut self, input: &mut Input<'_>) {
        let mut left = input.number() % self.count();
        let (what, chunk) = (input.byte(), input.chunk());
        self.change_at(&mut left, what, chunk);
    }

    fn count(&self) -> usize {
        match &self.content {
            Content::Value(_) => 1,
            Content::Elements(elements) => 1 + elements.iter().map(Self::count).sum::<usize>(),
        }
    }

    /// Changes the element that so many others stand before; whether it was in here.
    fn change_at(&mut self, left: &mut usize, what: u8, chunk: &[u8]) -> bool {
        if *left == 0 {
            self.change_this(what, chunk);
            return true;
        }
        *left -= 1;
        let Content::Elements(elements) = &mut self.content else { return false };
        let Some(index) = (0..elements.len()).find(|index| {
            let count = elements[*index].count();
            if *left < count {
                return true;
            }
            *left -= count;
            false
        }) else {
            return false;
        };
        match what % 8 {
            0 if *left == 0 => drop(elements.remove(index)),
            1 if *left == 0 => elements.insert(index, elements[index].clone()),
            2 if *left == 0 => elements.swap(index, 0),
            3 if *left == 0 => {
                if let Some((node, _)) = Self::next(chunk) {
                    elements.insert(index, node);
                }
            }
            _ => return elements[index].change_at(left, what, chunk),
        }
        true
    }

    fn change_this(&mut self, what: u8, chunk: &[u8]) {
        match (what % 8, &mut self.content) {
            (4, _) => self.tag = chunk.first().copied().unwrap_or(self.tag),
            (5, Content::Value(value)) => {
                for (old, new) in value.iter_mut().zip(chunk) {
                    *old ^= new;
                }
            }
            (6, Content::Value(value)) => value.extend(chunk),
            _ => self.content = Content::Value(chunk.to_vec()),
        }
    }

    fn next(der: &[u8]) -> Option<(Self, &[u8])> {
        let (&tag, rest) = der.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 | 0x82 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 3))?;
                (digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        let nested = (tag & 0x20 != 0 || tag == OCTET_STRING).then(|| Self::all(value)).flatten();
        let content = nested.map_or_else(|| Content::Value(value.to_vec()), Content::Elements);
        Some((Self { tag, content }, rest))
    }

    fn all(mut der: &[u8]) -> Option<Vec<Self>> {
        let mut nodes = Vec::new();
        while !der.is_empty() {
            let (node, rest) = Self::next(der)?;
            nodes.push(node);
            der = rest;
        }
        Some(nodes)
    }
}

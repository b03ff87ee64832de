//! The targets without a fuzzer: on their seeds, and on changes of these that are the same at every
//! run.

use crate::target::{ALL, Target};

/// How many inputs are generated for each target. Finding out more is the fuzzer's work.
const INPUTS: usize = 300;

struct Random(u64);

impl Random {
    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    fn change(&mut self, input: &mut Vec<u8>, words: &[&str]) {
        let at = self.below(input.len() + 1);
        match self.below(6) {
            0 => input.truncate(at),
            1 => input.insert(at, self.byte()),
            2 if !words.is_empty() => {
                let word = words[self.below(words.len())].bytes();
                drop(input.splice(at..at, word));
            }
            3 => {
                let to = (at + 1 + self.below(16)).min(input.len());
                drop(input.drain(at..to));
            }
            4 => {
                let to = (at + 1 + self.below(16)).min(input.len());
                input.extend_from_within(at..to);
            }
            _ => {
                let byte = self.byte();
                if let Some(old) = input.get_mut(at) {
                    *old = byte;
                }
            }
        }
    }
}

fn run(target: &Target) {
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "{}: no seed", target.name);
    for seed in &seeds {
        assert!(seed.len() <= target.max_length, "{}: a seed of {}", target.name, seed.len());
        (target.check)(seed);
    }
    (target.check)(&[]);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..INPUTS {
        let mut input = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(4) {
            random.change(&mut input, target.words);
        }
        (target.check)(&input);
    }
}

#[test]
fn every_target_holds_for_its_seeds_and_for_changes_of_them() {
    for target in ALL {
        run(target);
    }
}

#[test]
fn names_are_those_of_files() {
    let fits = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
    for (index, target) in ALL.iter().enumerate() {
        assert!(fits(target.name), "{}", target.name);
        assert!(ALL[..index].iter().all(|other| other.name != target.name), "{}", target.name);
    }
}

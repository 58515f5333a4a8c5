use super::{ArrayPlan, Plan};

/// Stands for "no slot" and "no array".
pub(crate) const NO_SLOT: u16 = u16::MAX;

/// A small fixed hash table from key to slot.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    buckets: Vec<u16>,
    entries: Vec<Entry>,
}

/// One wanted key; its place in the table is its slot.
#[derive(Debug)]
struct Entry {
    name: Box<str>,
    /// The array whose lines stand under this key.
    array: u16,
    next: u16,
}

impl Keys {
    /// How many slots there are.
    pub(crate) fn width(&self) -> usize {
        self.entries.len()
    }

    /// The key of a slot.
    pub(crate) fn name(&self, slot: u16) -> &str {
        self.entries.get(usize::from(slot)).map_or("", |entry| &entry.name)
    }

    /// The array whose lines stand under a slot's key, or [`NO_SLOT`].
    pub(crate) fn array(&self, slot: u16) -> u16 {
        self.entries.get(usize::from(slot)).map_or(NO_SLOT, |entry| entry.array)
    }

    /// The slot of a key, or [`NO_SLOT`].
    #[inline]
    pub(crate) fn slot(&self, key: &[u8]) -> u16 {
        let mut slot = self.buckets.get(bucket(key, self.buckets.len())).copied().unwrap_or(NO_SLOT);
        while let Some(entry) = self.entries.get(usize::from(slot)) {
            if entry.name.as_bytes() == key {
                return slot;
            }
            slot = entry.next;
        }
        NO_SLOT
    }

    fn build(names: Vec<(String, u16)>) -> Self {
        let mut buckets = vec![NO_SLOT; (names.len() * 4).next_power_of_two().max(16)];
        let mut entries = Vec::with_capacity(names.len());
        for (slot, (name, array)) in (0..NO_SLOT).zip(names) {
            let index = bucket(name.as_bytes(), buckets.len());
            let next = buckets.get(index).copied().unwrap_or(NO_SLOT);
            if let Some(first) = buckets.get_mut(index) {
                *first = slot;
            }
            entries.push(Entry { name: name.into(), array, next });
        }
        Self { buckets, entries }
    }
}

/// The bucket of a key among a power of two of them: cheap, because nearly every key differs in length or ends.
#[inline]
fn bucket(key: &[u8], buckets: usize) -> usize {
    let [first, middle, last] = [0, key.len() / 2, key.len().wrapping_sub(1)]
        .map(|index| usize::from(key.get(index).copied().unwrap_or_default()));
    let hash = key.len() ^ first.wrapping_mul(0x21) ^ middle.wrapping_mul(0x95) ^ last.wrapping_mul(0x3d);
    (hash ^ (hash >> 6)) & buckets.wrapping_sub(1)
}

/// Collects the wanted keys while a mapping is compiled.
#[derive(Debug, Default)]
pub(crate) struct PlanBuilder {
    header: Vec<(String, u16)>,
    arrays: Vec<(String, Vec<(String, u16)>)>,
}

impl PlanBuilder {
    /// The slot of a header field.
    pub(crate) fn header_slot(&mut self, name: &str) -> u16 {
        slot_in(&mut self.header, name)
    }

    /// The number of an array of the header.
    pub(crate) fn array(&mut self, name: &str) -> u16 {
        if let Some(index) = self.arrays.iter().position(|(known, _)| known == name) {
            return number(index);
        }
        let array = number(self.arrays.len());
        self.arrays.push((name.to_owned(), Vec::new()));
        let slot = self.header_slot(name);
        if let Some(entry) = self.header.get_mut(usize::from(slot)) {
            entry.1 = array;
        }
        array
    }

    /// The slot of a field of an array's elements.
    pub(crate) fn line_slot(&mut self, array: u16, name: &str) -> u16 {
        match self.arrays.get_mut(usize::from(array)) {
            Some((_, names)) => slot_in(names, name),
            None => NO_SLOT,
        }
    }

    /// True while every key has a slot of its own.
    pub(crate) fn fits(&self) -> bool {
        let limit = usize::from(NO_SLOT);
        self.header.len() < limit
            && self.arrays.len() < limit
            && self.arrays.iter().all(|(_, names)| names.len() < limit)
    }

    /// The finished plan.
    pub(crate) fn build(self) -> Plan {
        let array = |(name, keys): (String, _)| ArrayPlan { name: name.into(), keys: Keys::build(keys) };
        Plan { header: Keys::build(self.header), arrays: self.arrays.into_iter().map(array).collect() }
    }
}

fn slot_in(names: &mut Vec<(String, u16)>, name: &str) -> u16 {
    let found = names.iter().position(|(known, _)| known == name);
    number(found.unwrap_or_else(|| {
        names.push((name.to_owned(), NO_SLOT));
        names.len() - 1
    }))
}

fn number(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(NO_SLOT)
}

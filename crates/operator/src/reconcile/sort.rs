//! Sorting more than memory holds: sorted runs in temporary files, merged while they are read.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Error, Seek as _, Write as _},
    marker::PhantomData,
};

use serde::{Serialize, de::DeserializeOwned};

/// Bytes of one run in memory.
pub(crate) const RUN_BYTES: usize = 8 * 1024 * 1024;
/// Runs that are merged at a time, each with an open file and a buffer.
const RUNS_MAX: usize = 32;

/// What is sorted by.
pub(crate) trait Keyed: Serialize + DeserializeOwned {
    /// The key, compared byte by byte.
    fn key(&self) -> &str;
}

/// Takes records in any order.
pub(crate) struct Sorter<T> {
    lines: Vec<Line>,
    bytes: usize,
    run_bytes: usize,
    runs: Vec<File>,
    of: PhantomData<T>,
}

/// A key, and its record as JSON.
type Line = (String, String);

impl<T: Keyed> Sorter<T> {
    /// A sorter that keeps so many bytes in memory.
    pub(crate) fn new(run_bytes: usize) -> Self {
        Sorter { lines: Vec::new(), bytes: 0, run_bytes, runs: Vec::new(), of: PhantomData }
    }

    /// Takes a record.
    ///
    /// # Errors
    /// A run can't be written to the folder for temporary files.
    pub(crate) fn push(&mut self, record: &T) -> io::Result<()> {
        let line = (record.key().to_owned(), serde_json::to_string(record)?);
        self.bytes += line.0.len() + line.1.len() + 2 * size_of::<String>();
        self.lines.push(line);
        if self.bytes > self.run_bytes { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> io::Result<()> {
        let mut lines = std::mem::take(&mut self.lines);
        self.bytes = 0;
        lines.sort_by(|one, other| one.0.cmp(&other.0));
        let run = written(lines.into_iter().map(Ok))?;
        self.runs.push(run);
        if self.runs.len() == RUNS_MAX {
            let merged = written(Merge::new(std::mem::take(&mut self.runs))?)?;
            self.runs.push(merged);
        }
        Ok(())
    }

    /// The records in the order of their keys; equal keys in the order in which they came.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(crate) fn sorted(mut self) -> io::Result<Sorted<T>> {
        if !self.lines.is_empty() {
            self.spill()?;
        }
        Ok(Sorted { merge: Merge::new(self.runs)?, of: PhantomData })
    }
}

/// Records in order; each may fail to be read.
pub(crate) struct Sorted<T> {
    merge: Merge,
    of: PhantomData<T>,
}

impl<T: Keyed> Iterator for Sorted<T> {
    type Item = io::Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.merge.next()?;
        Some(line.and_then(|(_, json)| serde_json::from_str(&json).map_err(Error::from)))
    }
}

/// Writes sorted lines to a file without a name, which is gone with its last handle whatever happens to the process.
fn written(lines: impl Iterator<Item = io::Result<Line>>) -> io::Result<File> {
    let mut file = BufWriter::new(tempfile::tempfile()?);
    for line in lines {
        let (key, json) = line?;
        // JSON has no bare tab and no line end.
        writeln!(file, "{}\t{json}", serde_json::to_string(&key)?)?;
    }
    let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(file)
}

struct Merge {
    runs: Vec<BufReader<File>>,
    /// The next line of each run; of equal keys the older run's first.
    heads: BinaryHeap<Reverse<(String, usize, String)>>,
}

impl Merge {
    fn new(files: Vec<File>) -> io::Result<Self> {
        let runs = files.into_iter().map(BufReader::new).collect();
        let mut merge = Merge { runs, heads: BinaryHeap::new() };
        for run in 0..merge.runs.len() {
            merge.fill(run)?;
        }
        Ok(merge)
    }

    fn fill(&mut self, run: usize) -> io::Result<()> {
        let Some(file) = self.runs.get_mut(run) else { return Ok(()) };
        let mut text = String::new();
        if file.read_line(&mut text)? == 0 {
            return Ok(());
        }
        let (key, json) = text.split_once('\t').ok_or_else(|| Error::other("a torn run"))?;
        self.heads.push(Reverse((serde_json::from_str(key)?, run, json.trim_end().to_owned())));
        Ok(())
    }
}

impl Iterator for Merge {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((key, run, json)) = self.heads.pop()?;
        Some(self.fill(run).map(|()| (key, json)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Record(String, usize);

    impl Keyed for Record {
        fn key(&self) -> &str {
            &self.0
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn records_come_back_in_order_whatever_the_size_of_a_run(
            keys in proptest::collection::vec(any::<String>(), 0..200),
            run_bytes in 0_usize..2_000,
        ) {
            let records: Vec<Record> = keys.into_iter().enumerate().map(|(n, key)| Record(key, n)).collect();
            let mut sorter = Sorter::new(run_bytes);
            for record in &records {
                sorter.push(record).unwrap();
            }
            let sorted: Vec<Record> = sorter.sorted().unwrap().map(Result::unwrap).collect();
            let mut expected = records;
            expected.sort_by(|one, other| one.0.cmp(&other.0));
            prop_assert_eq!(sorted, expected);
        }
    }
}

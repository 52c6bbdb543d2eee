//! Rows of the credit example to send.

use super::root;
use std::path::Path;

/// Rows of the holdout, with what they turned out to be.
pub struct Rows {
    header: String,
    features: Vec<String>,
    pub rows: Vec<csv::StringRecord>,
}

impl Rows {
    pub fn holdout() -> Rows {
        Rows::read(&root().join("examples/credit/holdout.csv"))
    }

    /// The rows that the example is packed with.
    pub fn reference() -> Rows {
        Rows::read(&root().join("examples/credit/reference.csv"))
    }

    /// Rows of a file.
    pub fn read(path: &Path) -> Rows {
        let mut reader = csv::Reader::from_path(path).expect("the rows are there");
        let headers = reader.headers().expect("there is a header").clone();
        Rows {
            header: headers.iter().collect::<Vec<_>>().join(","),
            features: headers.iter().map(str::to_owned).collect(),
            rows: reader.records().map(|row| row.expect("a row")).collect(),
        }
    }

    fn column(&self, name: &str) -> usize {
        self.features
            .iter()
            .position(|f| f == name)
            .expect("the column is there")
    }

    /// Changes a column of every row.
    pub fn change(&mut self, name: &str, change: impl Fn(usize, &str) -> String) {
        let column = self.column(name);
        for (index, row) in self.rows.iter_mut().enumerate() {
            let cells: Vec<String> = row
                .iter()
                .enumerate()
                .map(|(i, cell)| match i == column {
                    true => change(index, cell),
                    false => cell.to_owned(),
                })
                .collect();
            *row = csv::StringRecord::from(cells);
        }
    }

    pub fn cell(&self, row: usize, name: &str) -> &str {
        &self.rows[row][self.column(name)]
    }

    pub fn csv(&self) -> String {
        let mut text = format!("{}\n", self.header);
        for row in &self.rows {
            text.push_str(&row.iter().collect::<Vec<_>>().join(","));
            text.push('\n');
        }
        text
    }

    /// The rows as NDJSON, numbers as such.
    pub fn ndjson(&self) -> String {
        let line = |row: &csv::StringRecord| {
            let members = self.features.iter().zip(row).map(|(name, cell)| {
                let value = match (cell, cell.parse::<f64>()) {
                    ("", _) => "null".to_owned(),
                    (number, Ok(_)) => number.to_owned(),
                    (text, Err(_)) => format!("{text:?}"),
                };
                format!("{name:?}:{value}")
            });
            format!("{{{}}}\n", members.collect::<Vec<_>>().join(","))
        };
        self.rows.iter().map(line).collect()
    }

    /// The rows as CSV without the truth, which a server does not take.
    pub fn csv_of_features(&self, rows: std::ops::Range<usize>) -> String {
        let truth = self.column("defaulted");
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let kept = cells.enumerate().filter(|(i, _)| *i != truth).map(|(_, cell)| cell);
            kept.collect::<Vec<_>>().join(",") + "\n"
        };
        let mut text = line(&mut self.features.iter().map(String::as_str));
        for row in &self.rows[rows] {
            text.push_str(&line(&mut row.iter()));
        }
        text
    }

    pub fn truth(&self, row: usize) -> u8 {
        self.rows[row][self.column("defaulted")].parse().expect("a label")
    }
}

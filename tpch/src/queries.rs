//! The 22 queries, in order.

/// One query of TPC-H.
pub struct Query {
    /// 1 to 22.
    pub number: usize,
    pub sql: &'static str,
    /// The result's columns, from 0, that ORDER BY names. Rows that are equal there may come in any order.
    pub order: &'static [usize],
}

macro_rules! query {
    ($number:literal, $file:literal, $order:expr) => {
        Query { number: $number, sql: include_str!(concat!("../queries/", $file, ".sql")), order: &$order }
    };
}

pub const QUERIES: [Query; 22] = [
    query!(1, "q01", [0, 1]),
    query!(2, "q02", [0, 2, 1, 3]),
    query!(3, "q03", [1, 2]),
    query!(4, "q04", [0]),
    query!(5, "q05", [1]),
    query!(6, "q06", []),
    query!(7, "q07", [0, 1, 2]),
    query!(8, "q08", [0]),
    query!(9, "q09", [0, 1]),
    query!(10, "q10", [2]),
    query!(11, "q11", [1]),
    query!(12, "q12", [0]),
    query!(13, "q13", [1, 0]),
    query!(14, "q14", []),
    query!(15, "q15", [0]),
    query!(16, "q16", [3, 0, 1, 2]),
    query!(17, "q17", []),
    query!(18, "q18", [4, 3]),
    query!(19, "q19", []),
    query!(20, "q20", [0]),
    query!(21, "q21", [1, 0]),
    query!(22, "q22", [0]),
];

//! Table functions that do their work when the query starts to run.
//!
//! Not when it is bound: EXPLAIN and PREPARE bind too, and some of these functions change what is attached.

use crate::guard::guard;
use crate::shape::Shape;
use duckdb_neo::bind_arguments::BindArgument;
use duckdb_neo::connection::{Context, FFILink};
use duckdb_neo::data_chunk::DataChunkRef;
use duckdb_neo::extension::Extension;
use duckdb_neo::logical_type::LogicalType;
use duckdb_neo::signature::{FunctionDocumentationBuilder, SignatureBuilder};
use duckdb_neo::table_function::{
    BindFunctionHandle, ExecColumnInfo, InitColumnData, TableFunctionBuilder, TableFunctionCallbacks,
};
use duckdb_neo::types::{List, MapValue, TimestampValue};
use duckdb_neo::value::Value;
use duckdb_neo::vector::Unknown;
use duckdb_neo::{DuckDBType, Error, Result, ToValue};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// A value in a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Text(Option<String>),
    Texts(Vec<String>),
    Number(u64),
    Real(f64),
    Time(SystemTime),
    Truth(bool),
    Counts(Vec<(String, u64)>),
}

/// What a column holds.
#[derive(Debug, Clone)]
pub enum Kind {
    /// VARCHAR
    Text,
    /// VARCHAR[]
    Texts,
    /// UBIGINT
    Number,
    /// DOUBLE
    Real,
    /// TIMESTAMP, in UTC
    Time,
    /// BOOLEAN
    Truth,
    /// MAP(VARCHAR, UBIGINT)
    Counts,
    /// A program's value.
    Shaped(Arc<Shape>),
    /// A list of a program's values.
    ListOf(Arc<Shape>),
}

pub type Row = Vec<Cell>;

/// Where the rows of a call come from, a chunk at a time; a chunk without rows is the last.
pub trait Source: Send + 'static {
    fn fill(&mut self, context: &Context, output: DataChunkRef<'_>) -> Result<()>;
}

/// Rows that are few enough to be made at once.
impl Source for Vec<Row> {
    fn fill(&mut self, context: &Context, mut output: DataChunkRef<'_>) -> Result<()> {
        let batch: Vec<Row> = self.drain(..self.len().min(output.capacity()?)).collect();
        for column in 0..output.col_count() {
            let mut vector = output.get_vector_at_mut::<Unknown>(column)?;
            vector.set_size(batch.len())?;
            for (index, row) in batch.iter().enumerate() {
                vector.write_value_slow(index, row[column].value(context)?)?;
            }
        }
        Ok(())
    }
}

/// A table function.
pub trait Table: Send + Sync + 'static {
    /// What the arguments of a call mean.
    type Arguments: Send + Sync + 'static;
    type Rows: Source;

    const NAME: &'static str;
    const DESCRIPTION: &'static str;
    const EXAMPLE: &'static str;
    /// Empty where the columns depend on the arguments.
    const COLUMNS: &'static [(&'static str, Kind)];

    fn signature(_extension: &Extension) -> Result<SignatureBuilder> {
        Ok(SignatureBuilder::new())
    }

    /// The columns of a call with these arguments.
    fn columns(_arguments: &Self::Arguments, _context: &Context) -> Result<Vec<(String, Kind)>> {
        Ok(Self::COLUMNS.iter().map(|(name, kind)| ((*name).to_owned(), kind.clone())).collect())
    }

    /// Reads the arguments, in the signature's order.
    fn arguments(arguments: &mut [BindArgument]) -> Result<Self::Arguments>;

    /// Does what the function is for. Called once for a query that runs.
    fn rows(arguments: &Self::Arguments, context: &Context) -> Result<Self::Rows>;
}

/// Registers a table function.
pub fn register<T: Table>(extension: &Extension, table: T) -> Result<()> {
    let documentation = FunctionDocumentationBuilder::new()
        .description(T::DESCRIPTION)
        .add_example("", T::EXAMPLE)
        .add_category("hooks");
    let signature = T::signature(extension)?.documentation(documentation);
    TableFunctionBuilder::new(T::NAME, signature, Adapter(table)).register(extension)
}

struct Adapter<T>(T);

impl<T: Table> TableFunctionCallbacks for Adapter<T> {
    type BindData = T::Arguments;
    type LocalState = ();
    /// The rows that were not given out yet; `None` until the function has run.
    type GlobalState = Mutex<Option<T::Rows>>;

    fn bind(
        &self,
        context: &Context,
        mut arguments: Vec<BindArgument>,
        output: BindFunctionHandle<'_>,
    ) -> Result<Self::BindData> {
        guard(|| {
            let arguments = T::arguments(&mut arguments)?;
            for (name, kind) in T::columns(&arguments, context)? {
                output.add_result_column(&name, &kind.logical_type(context)?)?;
            }
            Ok(arguments)
        })
    }

    fn init_global_state(
        &self,
        _arguments: &Self::BindData,
        _context: &Context,
        _columns: InitColumnData<'_>,
    ) -> Result<(Option<Self::GlobalState>, Option<usize>)> {
        Ok((Some(Mutex::new(None)), Some(1)))
    }

    fn exec(
        &self,
        arguments: &Self::BindData,
        remaining: Option<&Self::GlobalState>,
        _local: Option<&mut Self::LocalState>,
        context: &Context,
        output: DataChunkRef<'_>,
        _columns: ExecColumnInfo<'_>,
    ) -> Result<()> {
        guard(|| {
            let remaining = remaining.ok_or_else(|| Error::api_error("a table function without its state"))?;
            let mut remaining =
                remaining.lock().map_err(|_| Error::api_error("this query has failed before; run it again"))?;
            let rows = match &mut *remaining {
                Some(rows) => rows,
                none => none.insert(T::rows(arguments, context)?),
            };
            rows.fill(context, output)
        })
    }
}

impl Kind {
    fn logical_type(&self, context: &Context) -> Result<LogicalType> {
        match self {
            Kind::Text => String::logical_type(context),
            Kind::Texts => List::<String>::logical_type(context),
            Kind::Number => u64::logical_type(context),
            Kind::Real => f64::logical_type(context),
            Kind::Time => TimestampValue::logical_type(context),
            Kind::Truth => bool::logical_type(context),
            Kind::Counts => MapValue::<String, u64>::logical_type(context),
            Kind::Shaped(shape) => Ok(shape.sql().clone()),
            Kind::ListOf(shape) => shape.list_of(context),
        }
    }
}

impl ToValue for Cell {
    fn value<C: FFILink + ?Sized>(&self, link: &C) -> Result<Value> {
        match self {
            Cell::Text(text) => text.value(link),
            Cell::Texts(texts) => List(texts.iter().cloned().map(Some).collect()).value(link),
            Cell::Truth(truth) => truth.value(link),
            Cell::Number(number) => number.value(link),
            Cell::Real(number) => number.value(link),
            Cell::Time(time) => {
                let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
                TimestampValue(since.as_micros() as i64).value(link)
            }
            Cell::Counts(counts) => counts.iter().cloned().collect::<MapValue<String, u64>>().value(link),
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::Text(Some(text))
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(Some(text.to_owned()))
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Cell::Number(number)
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Cell::Number(number as u64)
    }
}

impl From<bool> for Cell {
    fn from(truth: bool) -> Self {
        Cell::Truth(truth)
    }
}

//! SELECTs that are put together.

use crate::engine::{Connection, DbError, Param, Row};

/// A SELECT whose conditions are known only when it runs. Values are always parameters.
pub(crate) struct Query<'a> {
    sql: String,
    params: Vec<Param<'a>>,
    conditions: usize,
}

impl<'a> Query<'a> {
    pub(crate) fn new(select: &str) -> Self {
        Self { sql: select.to_owned(), params: Vec::new(), conditions: 0 }
    }

    /// Adds a parameter; gives its placeholder.
    pub(crate) fn mark(&mut self, value: impl Into<Param<'a>>) -> String {
        self.params.push(value.into());
        format!("?{}", self.params.len())
    }

    pub(crate) fn and(&mut self, condition: &str) {
        self.sql += if self.conditions == 0 { " WHERE " } else { " AND " };
        self.sql += condition;
        self.conditions += 1;
    }

    pub(crate) fn and_equal(&mut self, column: &str, value: impl Into<Param<'a>>) {
        let mark = self.mark(value);
        self.and(&format!("{column} = {mark}"));
    }

    /// From and including the one, to and excluding the other.
    pub(crate) fn and_between(&mut self, column: &str, from: Option<i64>, to: Option<i64>) {
        for (comparison, value) in [(">=", from), ("<", to)] {
            if let Some(value) = value {
                let mark = self.mark(value);
                self.and(&format!("{column} {comparison} {mark}"));
            }
        }
    }

    pub(crate) fn run(
        mut self,
        connection: &mut dyn Connection,
        order: &str,
        limit: i64,
    ) -> Result<Vec<Row>, DbError> {
        let limit = self.mark(limit);
        connection.query(&format!("{} ORDER BY {order} LIMIT {limit}", self.sql), &self.params)
    }

    /// Without a limit, where the conditions set one; `more` follows them.
    pub(crate) fn all(self, connection: &mut dyn Connection, more: &str) -> Result<Vec<Row>, DbError> {
        connection.query(&format!("{} {more}", self.sql), &self.params)
    }

    pub(crate) fn grouped(
        mut self,
        connection: &mut dyn Connection,
        group: &str,
        limit: i64,
    ) -> Result<Vec<Row>, DbError> {
        self.sql += &format!(" GROUP BY {group}");
        self.run(connection, group, limit)
    }
}

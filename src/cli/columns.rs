//! Which columns of a table fit a line, and how wide each is. Owns the order in which columns give way;
//! knows nothing of what is in them.
//!
//! Invariant: a figure is whole or not there. Names give way first, down to [`COMFORT`]; then columns that
//! may be left out, in their order; then names again, down to [`LEAST`].

/// A name that is still told apart from others.
const COMFORT: usize = 16;

/// Less says nothing.
const LEAST: usize = 6;

/// Blanks between two columns.
pub(super) const GAP: u16 = 2;

const BETWEEN: usize = GAP as usize;

/// A column, as wide as its widest cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) natural: usize,
    /// Made of names, which can be shortened.
    pub(super) is_name: bool,
    /// Its place among those that are left out, if it may be.
    pub(super) leaves: Option<usize>,
}

/// The width of each column, or nothing where it is left out.
pub(super) fn fit(columns: &[Column], line: Option<usize>) -> Vec<Option<usize>> {
    let mut widths: Vec<Option<usize>> = columns.iter().map(|one| Some(one.natural)).collect();
    let Some(line) = line else { return widths };
    let mut leaving: Vec<usize> =
        (0..columns.len()).filter(|at| columns[*at].leaves.is_some()).collect();
    leaving.sort_by_key(|at| columns[*at].leaves);
    let mut leaving = leaving.into_iter();
    while needed(columns, &widths, COMFORT) > line {
        let Some(at) = leaving.next() else { break };
        widths[at] = None;
    }
    let least = if needed(columns, &widths, COMFORT) > line { LEAST } else { COMFORT };
    share(columns, &mut widths, line, least);
    widths
}

/// How wide a line must be for all columns with their names at ease.
pub(super) fn whole(columns: &[Column]) -> usize {
    let widths: Vec<Option<usize>> = columns.iter().map(|one| Some(one.natural)).collect();
    needed(columns, &widths, COMFORT)
}

fn needed(columns: &[Column], widths: &[Option<usize>], name: usize) -> usize {
    let shown = columns.iter().zip(widths).filter(|(_, width)| width.is_some());
    let least =
        |column: &Column| column.natural.min(if column.is_name { name } else { usize::MAX });
    let widths = shown.map(|(column, _)| least(column));
    let (sum, count) = widths.fold((0, 0_usize), |(sum, count), width| (sum + width, count + 1));
    sum + BETWEEN * count.saturating_sub(1)
}

/// Gives names what figures leave: all of it to those that need little, the same to the others.
fn share(columns: &[Column], widths: &mut [Option<usize>], line: usize, least: usize) {
    let figures = needed(columns, widths, 0);
    let mut room = line.saturating_sub(figures);
    let mut names: Vec<usize> =
        (0..columns.len()).filter(|at| columns[*at].is_name && widths[*at].is_some()).collect();
    names.sort_by_key(|at| columns[*at].natural);
    let mut left = names.len();
    for at in names {
        let natural = columns[at].natural;
        let width = natural.min((room / left).max(least.min(natural)));
        widths[at] = Some(width);
        room = room.saturating_sub(width);
        left -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(natural: usize) -> Column {
        Column { natural, is_name: true, leaves: None }
    }

    fn figure(natural: usize, leaves: Option<usize>) -> Column {
        Column { natural, is_name: false, leaves }
    }

    #[test]
    fn a_line_without_end_has_everything() {
        assert_eq!(fit(&[name(300), figure(9, Some(0))], None), [Some(300), Some(9)]);
    }

    #[test]
    fn names_give_way_then_columns_then_names_again() {
        let columns =
            [name(40), name(8), figure(10, None), figure(10, Some(1)), figure(10, Some(0))];
        assert_eq!(whole(&columns), 16 + 8 + 30 + 4 * BETWEEN);
        let all = |line| fit(&columns, Some(line));
        assert_eq!(all(86), [Some(40), Some(8), Some(10), Some(10), Some(10)]);
        assert_eq!(all(70), [Some(24), Some(8), Some(10), Some(10), Some(10)]);
        assert_eq!(all(61), [Some(27), Some(8), Some(10), Some(10), None]);
        assert_eq!(all(45), [Some(23), Some(8), Some(10), None, None]);
        assert_eq!(all(30), [Some(8), Some(8), Some(10), None, None]);
        assert_eq!(all(5), [Some(6), Some(6), Some(10), None, None]);
    }

    #[test]
    fn no_table_is_wider_than_its_line_while_figures_fit() {
        for line in 30..200 {
            let columns = [name(60), figure(12, Some(0)), name(90), figure(9, None)];
            let widths = fit(&columns, Some(line));
            let shown: Vec<usize> = widths.into_iter().flatten().collect();
            let wide = shown.iter().sum::<usize>() + BETWEEN * (shown.len() - 1);
            assert!(wide <= line, "{shown:?} in {line}");
        }
    }
}

//! [`wrap`] breaks the lines of the help.

/// The widest line of the help, in columns.
const WIDTH: usize = 100;

/// Breaks `text` into lines for a column that begins at `indent`. The first line is not
/// indented: the caller writes it where the column begins.
pub fn wrap(indent: usize, text: &str) -> String {
    let mut wrapped = String::new();
    let mut column = indent;
    for word in text.split(' ') {
        if column > indent && column + 1 + word.len() > WIDTH {
            wrapped += &format!("\n{:indent$}", "");
            column = indent;
        } else if column > indent {
            wrapped.push(' ');
            column += 1;
        }
        wrapped += word;
        column += word.len();
    }
    wrapped + "\n"
}

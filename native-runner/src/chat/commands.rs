//! What begins with a slash.

use std::path::PathBuf;

/// What `/help` shows.
pub const HELP: &str = "\
/help          this
/system TEXT   what the model is to be, from now on; without a text: nothing
/regen         another answer to the last question
/undo          take back the last question and its answer
/reset         begin again; the system text stays
/save FILE     write the conversation as JSON
/stats         times, speeds and memory of the last answer
/exit          leave (also Ctrl-D, or Ctrl-C twice)
A line that ends with \\ goes on in the next one; \"\"\" begins and ends a text of several lines; // says a slash.
Ctrl-C ends an answer where it is, and what was said is kept.";

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `/help`
    Help,
    /// `/system TEXT`
    System(Option<String>),
    /// `/regen`
    Regenerate,
    /// `/undo`
    Undo,
    /// `/reset`
    Reset,
    /// `/save FILE`
    Save(PathBuf),
    /// `/stats`
    Stats,
    /// `/exit`
    Exit,
}

/// A line that was entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entered {
    /// To the model.
    Said(String),
    /// To this program.
    Command(Command),
    /// What is wrong with a command.
    Wrong(String),
}

/// Tells commands from what is said.
pub fn parse(text: String) -> Entered {
    let Some(command) = text.strip_prefix('/') else { return Entered::Said(text) };
    if let Some(rest) = command.strip_prefix('/') {
        return Entered::Said(format!("/{rest}"));
    }
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let rest = rest.trim();
    let command = match (name, rest) {
        ("system", "") => Command::System(None),
        ("system", text) => Command::System(Some(text.to_owned())),
        ("save", "") => return Entered::Wrong("/save needs the name of a file".into()),
        ("save", file) => Command::Save(file.into()),
        ("help" | "?", "") => Command::Help,
        ("regen" | "regenerate", "") => Command::Regenerate,
        ("undo", "") => Command::Undo,
        ("reset" | "clear", "") => Command::Reset,
        ("stats", "") => Command::Stats,
        ("exit" | "quit" | "bye", "") => Command::Exit,
        ("help" | "regen" | "undo" | "reset" | "stats" | "exit" | "quit", _) => {
            return Entered::Wrong(format!("/{name} takes nothing after it"));
        }
        _ => {
            return Entered::Wrong(format!(
                "there is no command /{name}: /help lists them, and // begins a text with a slash"
            ));
        }
    };
    Entered::Command(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_texts() {
        let of = |text: &str| parse(text.to_owned());
        assert_eq!(of("Hi /reset"), Entered::Said("Hi /reset".into()));
        assert_eq!(of("//etc"), Entered::Said("/etc".into()));
        assert_eq!(of("/reset "), Entered::Command(Command::Reset));
        assert_eq!(of("/system  Be  brief. "), Entered::Command(Command::System(Some("Be  brief.".into()))));
        assert_eq!(of("/system"), Entered::Command(Command::System(None)));
        assert_eq!(of("/save a b.json"), Entered::Command(Command::Save("a b.json".into())));
        for wrong in ["/save", "/etc/passwd", "/undo 3", "/"] {
            assert!(matches!(of(wrong), Entered::Wrong(_)), "{wrong}");
        }
    }
}

//! What was said, and which of it the model still sees.

use webweft::preprocess::Message;

/// A system text, and turns: what a user says, and what is answered.
#[derive(Debug, Default)]
pub struct Conversation {
    /// What the model is to be.
    pub system: Option<String>,
    said: Vec<Message>,
    /// The first message that is sent; those before are forgotten, but for `/save`.
    first: usize,
}

impl Conversation {
    /// Nothing said yet.
    pub fn new(system: Option<String>) -> Self {
        Self { system, ..Self::default() }
    }

    /// What the model is to answer to.
    pub fn sent(&self) -> Vec<Message> {
        let system = self.system.iter().map(|text| Message::system(text.as_str()));
        system.chain(self.said[self.first..].iter().cloned()).collect()
    }

    /// Everything, for `/save`.
    pub fn all(&self) -> Vec<Message> {
        let system = self.system.iter().map(|text| Message::system(text.as_str()));
        system.chain(self.said.iter().cloned()).collect()
    }

    /// The user says something.
    pub fn ask(&mut self, text: String) {
        self.said.push(Message::user(text));
    }

    /// The model answered.
    pub fn answer(&mut self, text: String) {
        self.said.push(Message::assistant(text));
    }

    /// Forgets all turns.
    pub fn reset(&mut self) {
        self.said.clear();
        self.first = 0;
    }

    /// Takes back the last question, and its answer if there is one. Whether there was any.
    pub fn undo(&mut self) -> bool {
        let Some(at) = self.said.iter().rposition(is_question) else { return false };
        self.said.truncate(at);
        self.first = self.first.min(at);
        true
    }

    /// Takes back the last answer only. Whether there is a question to answer again.
    pub fn take_back_answer(&mut self) -> bool {
        let Some(at) = self.said.iter().rposition(is_question) else { return false };
        self.said.truncate(at + 1);
        true
    }

    /// Leaves out the oldest turn that is still sent; the last one stays. Whether there was one.
    pub fn leave_out_oldest(&mut self) -> bool {
        let next = (self.first + 1..self.said.len()).find(|&at| is_question(&self.said[at]));
        self.first = next.unwrap_or(self.first);
        next.is_some()
    }
}

fn is_question(message: &Message) -> bool {
    message.role == "user"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(messages: &[Message]) -> Vec<&str> {
        messages.iter().filter_map(Message::text).collect()
    }

    fn three_turns() -> Conversation {
        let mut chat = Conversation::new(Some("s".into()));
        for turn in ["1", "2", "3"] {
            chat.ask(format!("q{turn}"));
            chat.answer(format!("a{turn}"));
        }
        chat
    }

    #[test]
    fn turns_are_taken_back() {
        let mut chat = three_turns();
        assert!(chat.undo());
        assert_eq!(texts(&chat.sent()), ["s", "q1", "a1", "q2", "a2"]);
        assert!(chat.take_back_answer());
        assert_eq!(texts(&chat.sent()), ["s", "q1", "a1", "q2"]);
        assert!(chat.undo() && chat.undo() && !chat.undo() && !chat.take_back_answer());
        assert_eq!(texts(&chat.sent()), ["s"]);
    }

    #[test]
    fn the_oldest_turns_go_and_the_system_text_stays() {
        let mut chat = three_turns();
        assert!(chat.leave_out_oldest());
        assert_eq!(texts(&chat.sent()), ["s", "q2", "a2", "q3", "a3"]);
        assert!(chat.leave_out_oldest() && !chat.leave_out_oldest());
        assert_eq!(texts(&chat.sent()), ["s", "q3", "a3"]);
        assert_eq!(chat.all().len(), 7, "it is kept for /save");
        // what was taken back is sent no more, whatever was left out
        assert!(chat.undo() && chat.undo());
        chat.ask("new".into());
        assert_eq!(texts(&chat.sent()), ["s", "new"]);
        chat.reset();
        assert_eq!(texts(&chat.sent()), ["s"]);
    }
}

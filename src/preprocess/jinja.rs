//! The environment that transformers compiles chat templates in, on minijinja.
//!
//! Templates come with models, so they are programs of strangers. They reach nothing but the messages, a clock and their own values,
//! and their time is bounded. Their memory is not: a template that doubles a text often enough fails as any allocation does, and one
//! that nests lists some ten thousand deep overflows the stack when they are freed.

use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};

use super::python;

/// Instructions that one rendering may take: a hundred thousand messages of the longest templates, and about a second.
const FUEL: u64 = 10_000_000;

/// What a template said through `raise_exception`.
#[derive(Debug)]
pub(super) struct Raised(pub String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// An environment whose clock stands at `now`, in seconds since 1970.
pub(super) fn environment<'a>(now: u64) -> Environment<'a> {
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    env.set_syntax(syntax.expect("default delimiters with whitespace control are a syntax"));
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_fuel(Some(FUEL));
    env.set_formatter(|out, state, value| match f64::try_from(value.clone()) {
        Ok(number) if value.kind() == ValueKind::Number && !value.is_integer() && number.is_finite() => {
            out.write_str(&python::float(number)).map_err(Error::from)
        }
        _ => minijinja::escape_formatter(out, state, value),
    });
    env.set_unknown_method_callback(python::method);
    env.add_filter("tojson", |value: &Value, indent: Option<Value>, kwargs: Kwargs| {
        python::to_json(value, indent, kwargs)
    });
    env.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
    });
    env.add_function("strftime_now", move |format: &str| python::strftime(format, now));
    env
}

/// What training marks as the assistant's own words, `{% generation %} ... {% endgeneration %}`, as a block that only opens a
/// scope. Lines and whitespace control stay as they are.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        rest = tag;
        let inner = tag.strip_prefix(['-', '+']).unwrap_or(tag);
        let name = inner.trim_start();
        let new = [("generation", "with"), ("endgeneration", "endwith")].into_iter().find_map(|(old, new)| {
            let after = name.strip_prefix(old)?;
            let end = after.trim_start();
            let closed = end.strip_prefix(['-', '+']).unwrap_or(end).starts_with("%}");
            closed.then_some((new, after))
        });
        if let Some((new, after)) = new {
            out.push_str(&tag[..tag.len() - name.len()]);
            out.push_str(new);
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_become_scopes() {
        let of = without_generation_tags;
        assert_eq!(of("a{% generation %}b{% endgeneration %}c"), "a{% with %}b{% endwith %}c");
        assert_eq!(of("{%- generation -%}\nb{%-endgeneration-%}"), "{%- with -%}\nb{%-endwith-%}");
        let other = "{% set generation = 1 %}{{ generation }}{% generations %}{%";
        assert_eq!(of(other), other);
    }

    fn render(source: &str) -> Result<String, Error> {
        environment(0).render_str(source, ())
    }

    #[test]
    fn what_never_ends_is_ended() {
        let forever = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}";
        let error = render(forever).expect_err("out of fuel");
        assert_eq!(error.kind(), ErrorKind::OutOfFuel);
        let deep = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
        assert!(render(deep).is_err());
        let nested = "{% set ns = namespace(x=[]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}";
        let error = render(nested).expect_err("too deep");
        assert!(error.to_string().contains("nested"), "{error}");
    }
}

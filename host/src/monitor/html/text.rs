//! Numbers and names as the report writes them.

/// Text for any place in HTML: between tags, or in a quoted attribute.
pub(super) fn esc(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Controls are not allowed in HTML, and those that turn the
            // direction of writing could make a name look like another.
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.push('\u{fffd}')
            }
            c => out.push(c),
        }
    }
    out
}

/// At most this many characters, the last an ellipsis where some were cut off.
pub(super) fn short(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    text.chars().take(characters - 1).chain(['…']).collect()
}

/// A count, with its thousands parted.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count and its noun.
pub(super) fn counted(value: u64, one: &str, several: &str) -> String {
    format!("{} {}", count(value), if value == 1 { one } else { several })
}

/// A number to three significant digits or so.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        "–".to_owned()
    } else if size == 0.0 {
        "0".to_owned()
    } else if !(1e-4..1e7).contains(&size) {
        format!("{value:.2e}").replace('-', "−")
    } else if size >= 1000.0 {
        let sign = if value < 0.0 { "−" } else { "" };
        format!("{sign}{}", count(size.round() as u64))
    } else {
        let decimals = (2 - size.log10().floor() as i32).clamp(0, 6) as usize;
        let text = format!("{value:.decimals$}");
        let text = match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.'),
            false => &text,
        };
        text.replace('-', "−")
    }
}

/// A figure in a column of such: always three decimals.
pub(super) fn figure(value: f64) -> String {
    if !value.is_finite() {
        "–".to_owned()
    } else if value > 0.0 && value < 0.0005 {
        "&lt;0.001".to_owned()
    } else {
        format!("{value:.3}")
    }
}

/// A probability, as small as it makes sense to write one.
pub(super) fn probability(value: f64) -> String {
    if !value.is_finite() {
        "–".to_owned()
    } else if value < 1e-4 {
        "&lt;0.0001".to_owned()
    } else if value >= 0.99995 {
        "1".to_owned()
    } else {
        format!("{value:.4}")
    }
}

/// A share, in percent; the sign stays beside the number.
pub(super) fn percent(share: f64) -> String {
    let value = share * 100.0;
    if !value.is_finite() {
        "–".to_owned()
    } else if value == 0.0 {
        "0\u{a0}%".to_owned()
    } else if value < 0.05 {
        "&lt;0.1\u{a0}%".to_owned()
    } else {
        format!("{value:.1}\u{a0}%")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_html_gives_a_meaning_is_left() {
        assert_eq!(
            esc("<script>\"a\" & 'b'\u{0}\u{202e}"),
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;\u{fffd}\u{fffd}"
        );
        assert_eq!(short("héllo", 5), "héllo");
        assert_eq!(short("héllos", 5), "héll…");
    }

    #[test]
    fn numbers_are_as_long_as_they_must_be() {
        assert_eq!(
            [0.0, 0.123456, 12.0, 999.6, 12345.6, -2.5, 1e-9, 3e12, f64::NAN].map(number),
            ["0", "0.123", "12", "1000", "12,346", "−2.5", "1.00e−9", "3.00e12", "–"]
        );
        assert_eq!([0, 999, 1000, 1234567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.0, 0.0001, 0.5, 1.0].map(percent),
            ["0\u{a0}%", "&lt;0.1\u{a0}%", "50.0\u{a0}%", "100.0\u{a0}%"]
        );
        assert_eq!([0.0, 0.0001, 0.25].map(figure), ["0.000", "&lt;0.001", "0.250"]);
        assert_eq!([1.0, 0.00001, 0.04].map(probability), ["1", "&lt;0.0001", "0.0400"]);
    }
}

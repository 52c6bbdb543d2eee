//! `ai.onnx` Cast, versions 1 to 25.

use super::Kernel;
use super::numbers::{integer, is_integer, number, write_integers, write_numbers};
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{Dtype, Shape, StringsView, Tensor, Values, View};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// Another element type, the same shape. A float becomes an integer by
/// dropping its fraction, an integer a narrower one by dropping its high bits,
/// and anything but zero is true.
///
/// Where the specification leaves the result open, it is what x86-64 computes,
/// and with it ONNX Runtime: of NaN and floats out of range the lowest int64 or
/// int32, of which the 8-bit types keep the low byte.
///
/// Numbers are written as ONNX Runtime writes them: floats of both types with
/// eight digits (C's `%.8g`), `NaN`, `INF` and `-INF`, booleans as 0 and 1. Text
/// is read as C's `strtod` and `strtoll` do: after white space as much of it as
/// is a number. It is an error if that is nothing, or out of range.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cast {
    /// The element type of the result.
    pub to: Dtype,
}

/// Fills the buffer with these values and lends it out.
pub(crate) fn to_f32(buffer: &mut Vec<f32>, values: impl Iterator<Item = f32>) -> &[f32] {
    buffer.clear();
    buffer.extend(values);
    buffer
}

/// The numbers as float32, in the buffer if they have another type; `None` of
/// text.
pub(crate) fn as_f32<'a>(x: View<'a>, buffer: &'a mut Vec<f32>) -> Option<&'a [f32]> {
    Some(match x.values {
        Values::Float32(v) => v,
        Values::Float64(v) => to_f32(buffer, v.iter().map(|&v| v as f32)),
        // Not by way of float64, which would round twice.
        Values::Int64(v) => to_f32(buffer, v.iter().map(|&v| v as f32)),
        Values::String(_) => return None,
        _ => to_f32(buffer, (0..x.shape.len()).map(|i| number(x, i) as f32)),
    })
}

impl Kernel for Cast {
    const NAME: &'static str = "Cast";

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let out = &mut out[0];
        match (x.values, self.to) {
            (Values::String(texts), to) if to != Dtype::String => {
                let unreadable = || operands.value_error(format!("a text is no {to}"));
                return read(texts, to, x.shape, out).ok_or_else(unreadable);
            }
            (Values::String(_), _) => out.copy_from(x, x.shape),
            (_, Dtype::String) => write(x, out),
            (Values::Float32(v), Dtype::Float64) => out.write_f64(x.shape).extend(v.iter().map(|&v| f64::from(v))),
            (Values::Float64(v), Dtype::Float32) => out.write_f32(x.shape).extend(v.iter().map(|&v| v as f32)),
            (Values::Int64(v), Dtype::Float32) => out.write_f32(x.shape).extend(v.iter().map(|&v| v as f32)),
            (_, to) if is_integer(x.dtype()) => {
                let mut values = (0..x.shape.len()).map(|i| integer(x, i));
                match to {
                    Dtype::Float32 | Dtype::Float64 => {
                        write_numbers(out, to, x.shape, &mut values.map(|v| v as f64));
                    }
                    _ => write_integers(out, to, x.shape, &mut values),
                }
            }
            (_, to) => {
                let mut values = (0..x.shape.len()).map(|i| number(x, i));
                match to {
                    Dtype::Float32 | Dtype::Float64 => write_numbers(out, to, x.shape, &mut values),
                    Dtype::Bool => out.write_bool(x.shape).extend(values.map(|v| u8::from(v != 0.0))),
                    _ => {
                        let low = if to == Dtype::Int64 {
                            i64::MIN
                        } else {
                            i64::from(i32::MIN)
                        };
                        let range = low as f64..-(low as f64);
                        let truncated = |v: f64| {
                            let v = libm::trunc(v);
                            if range.contains(&v) { v as i64 } else { low }
                        };
                        write_integers(out, to, x.shape, &mut values.map(truncated));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Every number as text.
fn write(x: View<'_>, out: &mut Tensor) {
    let strings = out.write_strings(x.shape);
    let mut buffer = String::new();
    for i in 0..x.shape.len() {
        buffer.clear();
        match x.values {
            Values::Int64(v) => {
                // Writing to a string does not fail.
                let _ = write!(buffer, "{}", v[i]);
            }
            Values::Float32(_) | Values::Float64(_) => write_float(x.number(i).unwrap_or(f64::NAN), &mut buffer),
            _ => {
                let _ = write!(buffer, "{}", x.number(i).unwrap_or(0.0));
            }
        }
        strings.push(&buffer);
    }
}

/// Digits of a float that are written.
const DIGITS: usize = 8;

fn write_float(value: f64, out: &mut String) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "INF" } else { "-INF" });
    }
    // Digit, point, digits and the exponent, which tells how to write it.
    let scientific = format!("{value:.*e}", DIGITS - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..DIGITS as i32).contains(&exponent) {
        let fixed = format!("{value:.*}", (DIGITS as i32 - 1 - exponent) as usize);
        out.push_str(without_zeros(&fixed));
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{}e{sign}{:02}", without_zeros(mantissa), exponent.abs());
    }
}

/// A number without zeros at the end of its fraction.
fn without_zeros(number: &str) -> &str {
    match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => number,
    }
}

/// Every text as a number, if it is one.
fn read(texts: StringsView<'_>, to: Dtype, shape: Shape, out: &mut Tensor) -> Option<()> {
    macro_rules! each {
        ($out:expr, $read:expr) => {{
            let out = $out;
            for text in texts.iter() {
                out.push($read(text)?);
            }
        }};
    }
    // Narrower integers are cut off, as a C++ cast does.
    match to {
        Dtype::Float32 => each!(out.write_f32(shape), |t| read_float(t).map(|v| v as f32)),
        Dtype::Float64 => each!(out.write_f64(shape), read_float),
        Dtype::Int64 => each!(out.write_i64(shape), read_signed),
        Dtype::Int32 => each!(out.write_i32(shape), |t| read_signed(t).map(|v| v as i32)),
        Dtype::Int8 => each!(out.write_i8(shape), |t| read_signed(t).map(|v| v as i8)),
        Dtype::Uint8 => each!(out.write_u8(shape), |t| read_unsigned(t).map(|v| v as u8)),
        Dtype::Bool => each!(out.write_bool(shape), |t| read_unsigned(t).map(|v| u8::from(v != 0))),
        Dtype::String => return None,
    }
    Some(())
}

/// A sign, and what follows it after white space.
fn sign(text: &str) -> (bool, &str) {
    let text = text.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn read_integer(text: &str) -> Option<(bool, u64)> {
    let (negative, rest) = sign(text);
    Some((negative, rest[..digits(rest)].parse().ok()?))
}

fn read_signed(text: &str) -> Option<i64> {
    match read_integer(text)? {
        (true, magnitude) => 0i64.checked_sub_unsigned(magnitude),
        (false, magnitude) => i64::try_from(magnitude).ok(),
    }
}

fn read_unsigned(text: &str) -> Option<u64> {
    read_integer(text).map(|(negative, magnitude)| if negative { magnitude.wrapping_neg() } else { magnitude })
}

fn read_float(text: &str) -> Option<f64> {
    let (negative, rest) = sign(text);
    let starts = |word: &str| {
        rest.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    let magnitude = if starts("inf") {
        f64::INFINITY
    } else if starts("nan") {
        f64::NAN
    } else if starts("0x") {
        // `strtod` reads hexadecimal floats.
        return None;
    } else {
        let mut end = digits(rest);
        let mut count = end;
        if rest[end..].starts_with('.') {
            let fraction = digits(&rest[end + 1..]);
            count += fraction;
            end += 1 + fraction;
        }
        if count == 0 {
            return None;
        }
        if let Some(exponent) = rest[end..].strip_prefix(['e', 'E']) {
            let signed = usize::from(exponent.starts_with(['+', '-']));
            match digits(&exponent[signed..]) {
                0 => {}
                count => end += 1 + signed + count,
            }
        }
        rest[..end].parse::<f64>().ok().filter(|value| value.is_finite())?
    };
    Some(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::RunError;
    use crate::ops::Op;
    use crate::ops::testing::{apply_made, tensor, texts};
    use crate::tensor::Data;

    fn cast(to: Dtype, x: Tensor) -> Result<Tensor, RunError> {
        apply_made(|_| Op::Cast(Cast { to }), &[x]).map(|mut results| results.remove(0))
    }

    #[test]
    fn floats_are_written_with_eight_digits() {
        for (value, expected) in [
            (0.1f32 as f64, "0.1"),
            (1.0 / 3.0, "0.33333333"),
            (100.0, "100"),
            (-0.0, "-0"),
            (12_345_678.5, "12345678"),
            (12_345_679.5, "12345680"),
            (99_999_999.5, "1e+08"),
            (123_456_789.0, "1.2345679e+08"),
            (0.0001, "0.0001"),
            (0.000_012_5, "1.25e-05"),
            (-1e300, "-1e+300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-INF"),
        ] {
            let x = tensor(&[1], Data::Float64(vec![value]));
            assert_eq!(cast(Dtype::String, x).unwrap(), texts(&[1], &[expected]));
        }
    }

    #[test]
    fn integers_and_booleans_are_written_whole() {
        let x = tensor(&[2], Data::Int64(vec![i64::MIN, 7]));
        assert_eq!(
            cast(Dtype::String, x).unwrap(),
            texts(&[2], &["-9223372036854775808", "7"])
        );
        let x = tensor(&[2], Data::Bool(vec![1, 0]));
        assert_eq!(cast(Dtype::String, x).unwrap(), texts(&[2], &["1", "0"]));
    }

    #[test]
    fn numbers_are_read_as_far_as_they_go() {
        let x = texts(
            &[8],
            &["+1.5e3", " -.5x", "7.", "1e", "-inf", "INFINITY", "0", "1e-400"],
        );
        let expected = vec![1500.0, -0.5, 7.0, 1.0, f64::NEG_INFINITY, f64::INFINITY, 0.0, 0.0];
        assert_eq!(cast(Dtype::Float64, x).unwrap(), tensor(&[8], Data::Float64(expected)));
        let Data::Float32(nan) = cast(Dtype::Float32, texts(&[1], &["NaN"])).unwrap().data else {
            panic!()
        };
        assert!(nan[0].is_nan());
        let x = texts(&[3], &["-9223372036854775808", "12abc", "\t+3.9"]);
        let expected = tensor(&[3], Data::Int64(vec![i64::MIN, 12, 3]));
        assert_eq!(cast(Dtype::Int64, x).unwrap(), expected);
        let x = texts(&[2], &["2", "0"]);
        assert_eq!(cast(Dtype::Bool, x).unwrap(), tensor(&[2], Data::Bool(vec![1, 0])));
        for text in ["", ".", "x", "1e999", "0x10", "é"] {
            let result = cast(Dtype::Float32, texts(&[1], &[text]));
            assert!(matches!(result, Err(RunError::Value { .. })), "{text}");
        }
        assert!(cast(Dtype::Int64, texts(&[1], &["9223372036854775808"])).is_err());
        assert!(cast(Dtype::Bool, texts(&[1], &["True"])).is_err());
    }

    #[test]
    fn numbers_become_numbers_of_every_type() {
        let f = |v: &[f32]| Data::Float32(v.to_vec());
        let cases = [
            (f(&[-1.9, 2.9]), Dtype::Int64, Data::Int64(vec![-1, 2])),
            (f(&[f32::NAN, 1e30]), Dtype::Int64, Data::Int64(vec![i64::MIN; 2])),
            (
                Data::Float64(vec![f64::NAN, -2_147_483_648.5]),
                Dtype::Int32,
                Data::Int32(vec![i32::MIN; 2]),
            ),
            (f(&[-1.0, 300.0]), Dtype::Uint8, Data::Uint8(vec![255, 44])),
            (f(&[0.0, f32::NAN, 0.1]), Dtype::Bool, Data::Bool(vec![0, 1, 1])),
            (Data::Int64(vec![1 << 32 | 5]), Dtype::Int32, Data::Int32(vec![5])),
            (
                Data::Int64(vec![(1 << 53) + 1]),
                Dtype::Int64,
                Data::Int64(vec![(1 << 53) + 1]),
            ),
            (Data::Int32(vec![200, 0]), Dtype::Int8, Data::Int8(vec![-56, 0])),
            (Data::Bool(vec![1, 0]), Dtype::Float64, Data::Float64(vec![1.0, 0.0])),
            (Data::Uint8(vec![255]), Dtype::Float32, f(&[255.0])),
        ];
        for (from, to, expected) in cases {
            let out = cast(to, tensor(&[from.len()], from.clone())).unwrap();
            assert_eq!(out.data, expected, "{from:?} to {to}");
        }
    }
}

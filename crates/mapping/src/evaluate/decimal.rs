//! Decimals from their characters and back; never through binary floating point.

use rust_decimal::Decimal;

/// The most digits a decimal may have.
const DIGITS: u32 = 28;

/// Why a text is no decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotDecimal {
    /// It isn't written like one.
    Shape,
    /// It has more than 28 digits, before or after the point.
    TooLong,
}

/// Why two decimals have no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoResult {
    /// Division by zero.
    Zero,
    /// The exact result has more than 28 digits.
    TooLong,
}

/// True for a JSON number without exponent and with at most 28 digits: its characters can be used as they are.
#[inline]
pub(crate) fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let unsigned = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let mut point = None;
    for (index, byte) in unsigned.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {}
            b'.' if point.is_none() => point = Some(index),
            _ => return false,
        }
    }
    let whole = point.unwrap_or(unsigned.len());
    let leads = whole > 1 && unsigned.first() == Some(&b'0');
    let length = unsigned.len();
    let digits = length - usize::from(point.is_some());
    whole > 0 && !leads && point.is_none_or(|point| point + 1 < length) && digits <= DIGITS as usize
}

/// Reads a decimal of at most 18 characters that has neither plus nor exponent; the usual case, and the fast one.
#[inline]
pub(crate) fn parse_short(text: &str) -> Option<Decimal> {
    let bytes = text.as_bytes();
    let unsigned = bytes.strip_prefix(b"-").unwrap_or(bytes);
    if unsigned.len() > 18 || !unsigned.first()?.is_ascii_digit() {
        return None;
    }
    let (mut mantissa, mut scale, mut point) = (0_i64, 0_u32, false);
    for byte in unsigned {
        match byte {
            b'0'..=b'9' => {
                mantissa = mantissa * 10 + i64::from(byte - b'0');
                scale += u32::from(point);
            }
            b'.' if !point => point = true,
            _ => return None,
        }
    }
    Some(Decimal::new(if unsigned.len() < bytes.len() { -mantissa } else { mantissa }, scale))
}

/// Reads a decimal: a sign, digits with or without a point, an exponent. Blanks are the caller's business.
pub(crate) fn parse(text: &str) -> Result<Decimal, NotDecimal> {
    let bytes = text.as_bytes();
    let (negative, unsigned) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, bytes),
    };
    let (mut mantissa, mut scale, mut digits, mut at) = (0_i128, 0_i64, 0_usize, 0);
    let mut point = false;
    let mut long = false;
    while let Some(&byte) = unsigned.get(at) {
        match byte {
            b'0'..=b'9' => {
                digits += 1;
                scale += i64::from(point);
                // Zeros at the end of a long fraction carry nothing.
                match mantissa.checked_mul(10).and_then(|m| m.checked_add(i128::from(byte - b'0'))) {
                    Some(grown) => mantissa = grown,
                    None if point && byte == b'0' => scale -= 1,
                    None => long = true,
                }
            }
            b'.' if !point => point = true,
            _ => break,
        }
        at += 1;
    }
    if digits == 0 {
        return Err(NotDecimal::Shape);
    }
    scale -= exponent(unsigned.get(at..).unwrap_or_default())?;
    if long {
        return Err(NotDecimal::TooLong);
    }
    compose(if negative { -mantissa } else { mantissa }, scale).ok_or(NotDecimal::TooLong)
}

fn exponent(text: &[u8]) -> Result<i64, NotDecimal> {
    let digits = match text {
        [] => return Ok(0),
        [b'e' | b'E', b'-', digits @ ..] | [b'e' | b'E', b'+', digits @ ..] | [b'e' | b'E', digits @ ..] => {
            digits
        }
        _ => return Err(NotDecimal::Shape),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NotDecimal::Shape);
    }
    // Anything beyond a few hundred is too long whatever the mantissa is, unless that is zero.
    let size = digits.iter().fold(0_i64, |size, digit| (size * 10 + i64::from(digit - b'0')).min(100_000));
    Ok(if text.get(1) == Some(&b'-') { -size } else { size })
}

/// The decimal `mantissa × 10^-scale`, if it has at most 28 digits before and after the point.
fn compose(mut mantissa: i128, mut scale: i64) -> Option<Decimal> {
    if mantissa == 0 {
        return Some(Decimal::new(0, u32::try_from(scale.clamp(0, 28)).unwrap_or_default()));
    }
    if scale <= i64::from(DIGITS) && (0..=i128::from(i64::MAX)).contains(&mantissa.abs()) && scale >= 0 {
        let (Ok(small), Ok(scale)) = (i64::try_from(mantissa), u32::try_from(scale)) else { return None };
        return Some(Decimal::new(small, scale));
    }
    let limit = 10_i128.pow(DIGITS);
    while scale > 0 && (scale > i64::from(DIGITS) || mantissa.abs() >= limit) && mantissa % 10 == 0 {
        mantissa /= 10;
        scale -= 1;
    }
    while scale < 0 {
        mantissa = mantissa.checked_mul(10).filter(|grown| grown.abs() < limit)?;
        scale += 1;
    }
    let scale = u32::try_from(scale).ok().filter(|scale| *scale <= DIGITS && mantissa.abs() < limit)?;
    Decimal::try_from_i128_with_scale(mantissa, scale).ok()
}

/// `left + right`, exactly.
pub(crate) fn add(left: Decimal, right: Decimal) -> Result<Decimal, NoResult> {
    exactly(left, right, Decimal::checked_add, |left, right| left.scale().max(right.scale()))
}

/// `left × right`, exactly.
pub(crate) fn multiply(left: Decimal, right: Decimal) -> Result<Decimal, NoResult> {
    if left.is_zero() || right.is_zero() {
        return Ok(Decimal::ZERO);
    }
    exactly(left, right, Decimal::checked_mul, |left, right| left.scale() + right.scale())
}

/// `left ÷ right`, rounded to what a decimal holds where the quotient has no end.
pub(crate) fn divide(left: Decimal, right: Decimal) -> Result<Decimal, NoResult> {
    if right.is_zero() {
        return Err(NoResult::Zero);
    }
    within(left.checked_div(right))
}

/// The remainder of `left ÷ right`, with the sign of `left`.
pub(crate) fn remainder(left: Decimal, right: Decimal) -> Result<Decimal, NoResult> {
    if right.is_zero() {
        return Err(NoResult::Zero);
    }
    within(left.checked_rem(right))
}

/// rust_decimal rounds silently to make a result fit; a scale below the due one gives that away.
fn exactly(
    left: Decimal,
    right: Decimal,
    operation: fn(Decimal, Decimal) -> Option<Decimal>,
    due: fn(Decimal, Decimal) -> u32,
) -> Result<Decimal, NoResult> {
    if let Ok(result) = within(operation(left, right))
        && result.scale() == due(left, right)
    {
        return Ok(result);
    }
    let (left, right) = (left.normalize(), right.normalize());
    let result = within(operation(left, right))?;
    if result.scale() == due(left, right) { Ok(result) } else { Err(NoResult::TooLong) }
}

fn within(result: Option<Decimal>) -> Result<Decimal, NoResult> {
    result.ok_or(NoResult::TooLong)
}

/// Appends a decimal as a JSON number, without zeros at the end of its fraction.
pub(crate) fn write(value: Decimal, out: &mut Vec<u8>) {
    let mut scale = value.scale() as usize;
    let mut rest = value.mantissa().unsigned_abs();
    while rest > u128::from(u64::MAX) && scale > 0 && rest.is_multiple_of(10) {
        rest /= 10;
        scale -= 1;
    }
    if value.is_sign_negative() && rest != 0 {
        out.push(b'-');
    }
    // 2^96 has 29 digits, and a fraction needs at most 28 behind a zero.
    let mut digits = [b'0'; 32];
    let mut start = digits.len();
    let mut put = |digit: u8| {
        start = start.saturating_sub(1);
        if let Some(place) = digits.get_mut(start) {
            *place = b'0' + digit;
        }
    };
    let mut written = 0;
    while rest > u128::from(u64::MAX) {
        put((rest % 10) as u8);
        rest /= 10;
        written += 1;
    }
    let mut small = rest as u64;
    if written == 0 {
        while scale > 0 && small.is_multiple_of(10) {
            small /= 10;
            scale -= 1;
        }
    }
    while small > 0 || written <= scale {
        put((small % 10) as u8);
        small /= 10;
        written += 1;
    }
    let point = digits.len() - scale;
    out.extend_from_slice(digits.get(start..point).unwrap_or_default());
    if scale > 0 {
        out.push(b'.');
        out.extend_from_slice(digits.get(point..).unwrap_or_default());
    }
}

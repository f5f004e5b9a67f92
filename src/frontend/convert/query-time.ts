/** Timestamps in query strings. */
import { invalid } from "../../common/errors.ts";

const nsPerSecond = 1_000_000_000n;
const unixTime = /^([+-]?\d+)(?:\.(\d+))?$/;
const rfc3339Time = /^(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)$/;
/** The longest time, in characters: digits beyond cannot matter. */
const longest = 64;

/**
 * Reads Unix seconds with or without a fraction, or RFC 3339.
 *
 * @param text the query's value; empty: none
 * @returns nanoseconds since the epoch
 * @throws SockerlessError of kind `invalid`
 */
export function parseQueryTime(text: string): bigint | undefined {
  if (text === "") {
    return undefined;
  }
  if (text.length > longest) {
    throw invalid(
      `strconv.ParseInt: parsing ${JSON.stringify(`${text.slice(0, longest)}…`)}: value out of range`,
    );
  }
  const unix = unixTime.exec(text);
  if (unix !== null) {
    const nanoseconds = BigInt(unix[1] ?? "") * nsPerSecond + fraction(unix[2]);
    if (BigInt.asIntN(64, nanoseconds) !== nanoseconds) {
      throw invalid(`strconv.ParseInt: parsing ${JSON.stringify(text)}: value out of range`);
    }
    return nanoseconds;
  }
  const rfc3339 = rfc3339Time.exec(text);
  const milliseconds = rfc3339 === null ? Number.NaN : Date.parse(`${rfc3339[1]}${rfc3339[3]}`.toUpperCase());
  if (Number.isNaN(milliseconds)) {
    // Go reads the parts before and behind the point.
    const [seconds = "", decimals = ""] = text.split(/\.(.*)/s, 2);
    const part = /^[+-]?\d+$/.test(seconds) ? decimals : seconds;
    throw invalid(`strconv.ParseInt: parsing ${JSON.stringify(part)}: invalid syntax`);
  }
  return BigInt(milliseconds) * 1_000_000n + fraction(rfc3339?.[2]);
}

/** Digits after the decimal point as nanoseconds; finer ones are dropped. */
function fraction(digits = ""): bigint {
  return BigInt(digits.slice(0, 9).padEnd(9, "0"));
}

/** Timestamps in query strings. */
import { invalid } from "../../common/errors.ts";

const nsPerSecond = 1_000_000_000n;
const unixTime = /^([+-]?\d+)(?:\.(\d+))?$/;
/** The longest time, in characters: digits beyond cannot matter. */
const longest = 64;

/**
 * Reads Unix seconds with or without a fraction.
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
  if (unix === null) {
    const wrong = text.replace(/^[+-]?\d+\./, ""); // Go reads the parts before and behind the point.
    throw invalid(`strconv.ParseInt: parsing ${JSON.stringify(wrong)}: invalid syntax`);
  }
  const nanoseconds = BigInt(unix[1] ?? "") * nsPerSecond + fraction(unix[2]);
  if (BigInt.asIntN(64, nanoseconds) !== nanoseconds) {
    throw invalid(`strconv.ParseInt: parsing ${JSON.stringify(text)}: value out of range`);
  }
  return nanoseconds;
}

/** Digits after the decimal point as nanoseconds; finer ones are dropped. */
function fraction(digits = ""): bigint {
  return BigInt(digits.slice(0, 9).padEnd(9, "0"));
}

/** JSON syntax errors in the words of Go's decoder: people search for that text, and tests of clients match it. */

/** A scanner's position, and the values that are open there, outermost first. */
interface Scan {
  readonly source: string;
  at: number;
  readonly open: ("object" | "array")[];
}

const literals: readonly string[] = ["true", "false", "null"];

/**
 * Names the error in a text that is not JSON.
 *
 * @returns undefined where nothing is wrong up to the end of the first value
 */
export function describeSyntaxError(source: string): string | undefined {
  const scan: Scan = { source, at: 0, open: [] };
  // A loop where a parser would recurse: a client may nest a million lists.
  for (let outcome: Outcome = wantsValue; ; ) {
    if (outcome === done) {
      return undefined;
    }
    if (typeof outcome === "string") {
      return outcome;
    }
    outcome = outcome === wantsValue ? scanValue(scan) : scanNext(scan);
  }
}

const done = Symbol("the first value is complete");
const wantsValue = Symbol("a value has to follow");
/** A string is the error. Undefined: a value is complete. */
type Outcome = string | typeof done | typeof wantsValue | undefined;

/** Scans the beginning of a list or an object, or the whole of any other value. */
function scanValue(scan: Scan): Outcome {
  skipSpace(scan);
  const char = scan.source[scan.at];
  switch (char) {
    case "{":
      scan.at += 1;
      scan.open.push("object");
      return closes(scan, "}") ? undefined : scanKey(scan);
    case "[":
      scan.at += 1;
      scan.open.push("array");
      return closes(scan, "]") ? undefined : wantsValue;
    case '"':
      return scanText(scan);
    case "t":
    case "f":
    case "n":
      return scanLiteral(scan, literals.find((literal) => literal.startsWith(char)) ?? "");
    default:
      return /[-\d]/.test(char ?? "") ? scanNumber(scan) : unexpected(scan, "looking for beginning of value");
  }
}

/** Scans what follows a complete value: the next value, or the end of the enclosing one. */
function scanNext(scan: Scan): Outcome {
  const inside = scan.open.at(-1);
  if (inside === undefined) {
    return done;
  }
  if (closes(scan, inside === "object" ? "}" : "]")) {
    return undefined;
  }
  if (scan.source[scan.at] !== ",") {
    return unexpected(scan, inside === "object" ? "after object key:value pair" : "after array element");
  }
  scan.at += 1;
  return inside === "object" ? scanKey(scan) : wantsValue;
}

function scanKey(scan: Scan): Outcome {
  skipSpace(scan);
  if (scan.source[scan.at] !== '"') {
    return unexpected(scan, "looking for beginning of object key string");
  }
  const problem = scanText(scan);
  if (problem !== undefined) {
    return problem;
  }
  skipSpace(scan);
  if (scan.source[scan.at] !== ":") {
    return unexpected(scan, "after object key");
  }
  scan.at += 1;
  return wantsValue;
}

function scanText(scan: Scan): Outcome {
  scan.at += 1;
  for (;;) {
    const char = scan.source[scan.at];
    if (char === undefined || char < " ") {
      return unexpected(scan, "in string literal");
    }
    scan.at += 1;
    if (char === '"') {
      return undefined;
    }
    if (char === "\\") {
      const problem = scanEscape(scan);
      if (problem !== undefined) {
        return problem;
      }
    }
  }
}

function scanEscape(scan: Scan): Outcome {
  const char = scan.source[scan.at] ?? "";
  if (char === "" || !'bfnrt\\/"u'.includes(char)) {
    return unexpected(scan, "in string escape code");
  }
  scan.at += 1;
  for (let digit = 0; char === "u" && digit < 4; digit += 1) {
    if (!/[\da-fA-F]/.test(scan.source[scan.at] ?? "")) {
      return unexpected(scan, "in \\u hexadecimal character escape");
    }
    scan.at += 1;
  }
  return undefined;
}

function scanNumber(scan: Scan): Outcome {
  take(scan, /-/y);
  if (!take(scan, /0|[1-9]\d*/y)) {
    return unexpected(scan, "in numeric literal");
  }
  if (take(scan, /\./y) && !take(scan, /\d+/y)) {
    return unexpected(scan, "after decimal point in numeric literal");
  }
  if (take(scan, /[eE][+-]?/y) && !take(scan, /\d+/y)) {
    return unexpected(scan, "in exponent of numeric literal");
  }
  return undefined;
}

function scanLiteral(scan: Scan, literal: string): Outcome {
  for (const expected of literal) {
    if (scan.source[scan.at] !== expected) {
      return unexpected(scan, `in literal ${literal} (expecting '${expected}')`);
    }
    scan.at += 1;
  }
  return undefined;
}

function closes(scan: Scan, bracket: string): boolean {
  skipSpace(scan);
  if (scan.source[scan.at] !== bracket) {
    return false;
  }
  scan.at += 1;
  scan.open.pop();
  return true;
}

function take(scan: Scan, pattern: RegExp): boolean {
  pattern.lastIndex = scan.at;
  const found = pattern.exec(scan.source);
  scan.at += found?.[0].length ?? 0;
  return found !== null;
}

function skipSpace(scan: Scan): void {
  // An expression would take most of the time of a text of brackets.
  while (isSpace(scan.source[scan.at])) {
    scan.at += 1;
  }
}

function isSpace(char: string | undefined): boolean {
  return char === " " || char === "\t" || char === "\r" || char === "\n";
}

function unexpected(scan: Scan, place: string): string {
  const code = scan.source.codePointAt(scan.at);
  if (code === undefined) {
    return "unexpected EOF";
  }
  const char = String.fromCodePoint(code);
  const quoted = char === "'" ? "\\'" : char === '"' ? char : JSON.stringify(char).slice(1, -1);
  return `invalid character '${quoted}' ${place}`;
}

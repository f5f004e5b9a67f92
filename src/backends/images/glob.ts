/** Shell patterns of the `reference` filter, like Go's `path.Match`: `*` and `?` do not match a slash. */
import { invalid } from "../../common/errors.ts";

/** Length limit for patterns, as no reference is longer. */
const longestPattern = 1024;

/**
 * Compiles a pattern with `*`, `?`, `[class]` and backslash escapes.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function globMatcher(pattern: string): (text: string) => boolean {
  const tokens = tokenize(pattern);
  return (text) => matches(tokens, [...text]);
}

type Token = "*" | ((character: string) => boolean);

function tokenize(pattern: string): Token[] {
  if (pattern.length > longestPattern) {
    throw badPattern();
  }
  const characters = [...pattern];
  const tokens: Token[] = [];
  for (let at = 0; at < characters.length; at++) {
    const character = characters[at];
    if (character === "*") {
      tokens.push("*");
    } else if (character === "?") {
      tokens.push((each) => each !== "/");
    } else if (character === "[") {
      const end = classEnd(characters, at);
      tokens.push(characterClass(characters.slice(at + 1, end)));
      at = end;
    } else {
      const literal = character === "\\" ? characters[++at] : character;
      if (literal === undefined) {
        throw badPattern();
      }
      tokens.push((each) => each === literal);
    }
  }
  return tokens;
}

function classEnd(characters: readonly string[], start: number): number {
  for (let at = start + 1; at < characters.length; at++) {
    if (characters[at] === "\\") {
      at++;
    } else if (characters[at] === "]") {
      return at;
    }
  }
  throw badPattern();
}

function characterClass(inside: readonly string[]): (character: string) => boolean {
  const negated = inside[0] === "^";
  const ranges: (readonly [from: string, to: string])[] = [];
  let at = negated ? 1 : 0;
  const next = (): string => {
    const character = inside[at] === "\\" ? inside[++at] : inside[at];
    at++;
    if (character === undefined || (character === "-" && inside[at - 2] !== "\\")) {
      throw badPattern();
    }
    return character;
  };
  while (at < inside.length) {
    const from = next();
    if (inside[at] === "-") {
      at++;
      ranges.push([from, next()]);
    } else {
      ranges.push([from, from]);
    }
  }
  if (ranges.length === 0) {
    throw badPattern();
  }
  return (character) => ranges.some(([from, to]) => from <= character && character <= to) !== negated;
}

/** Backtracks only to the last star, so that time is bounded by pattern × text. */
function matches(tokens: readonly Token[], text: readonly string[]): boolean {
  let token = 0;
  let at = 0;
  let star = -1;
  let starAt = 0;
  while (at < text.length) {
    const current = tokens[token];
    const character = text[at] as string;
    if (current === "*") {
      star = token++;
      starAt = at;
    } else if (current?.(character)) {
      token++;
      at++;
    } else if (star >= 0 && text[starAt] !== "/") {
      token = star + 1;
      at = ++starAt;
    } else {
      return false;
    }
  }
  return tokens.slice(token).every((each) => each === "*");
}

function badPattern(): Error {
  return invalid("syntax error in pattern");
}

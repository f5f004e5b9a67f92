/** Shell patterns of the `reference` filter, like Go's `path.Match`: `*` and `?` do not match a slash. */
import { invalid } from "../../common/errors.ts";
import { compileExpression } from "../model/re2.ts";

/**
 * Compiles patterns with `*`, `?`, `[class]` and backslash escapes, as one expression: matching takes time by the text's
 * length alone.
 *
 * @returns whether a text matches one of them; throws as {@link compileExpression}'s test
 * @throws SockerlessError of kind `invalid`; patterns that are too long together are, too
 */
export function globMatcher(patterns: readonly string[]): (text: string) => boolean {
  const names = new Set(patterns.filter((pattern) => !/[*?[\\]/.test(pattern)));
  const expressions = patterns.filter((pattern) => !names.has(pattern)).map(expressionOf);
  if (expressions.length === 0) {
    return (text) => names.has(text);
  }
  const expression = compiled(`^(?:${expressions.join("|")})$`);
  return (text) => names.has(text) || expression(text);
}

function compiled(source: string): (text: string) => boolean {
  try {
    const expression = compileExpression(source);
    return (text) => expression.test(text);
  } catch (error) {
    throw invalid("syntax error in pattern", error);
  }
}

/** The regular expression of a pattern. */
function expressionOf(pattern: string): string {
  const characters = [...pattern];
  let expression = "";
  for (let at = 0; at < characters.length; at++) {
    const character = characters[at];
    if (character === "*") {
      expression += "[^/]*";
    } else if (character === "?") {
      expression += "[^/]";
    } else if (character === "[") {
      const end = classEnd(characters, at);
      expression += classExpression(characters.slice(at + 1, end));
      at = end;
    } else {
      const literal = character === "\\" ? characters[++at] : character;
      if (literal === undefined) {
        throw badPattern();
      }
      expression += escaped(literal);
    }
  }
  return expression;
}

function escaped(character: string): string {
  return /[!-/:-@[-`{-~]/.test(character) ? `\\${character}` : character;
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

function classExpression(inside: readonly string[]): string {
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
  const text = ranges
    .filter(([from, to]) => from <= to)
    .map(([from, to]) => `${escaped(from)}-${escaped(to)}`)
    .join("");
  // A class without characters has none, or all if it is negated.
  return text === "" ? `[${negated ? "" : "^"}\\s\\S]` : `[${negated ? "^" : ""}${text}]`;
}

function badPattern(): Error {
  return invalid("syntax error in pattern");
}

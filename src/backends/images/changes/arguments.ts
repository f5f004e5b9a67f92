/** Arguments of Dockerfile instructions: JSON arrays, blank-separated lists, `name=value` pairs. */
import { invalid } from "../../../common/errors.ts";

/** Arguments of an instruction that accepts a JSON array or plain text. */
export type CommandArguments =
  | { readonly form: "exec"; readonly values: readonly string[] }
  | { readonly form: "shell"; readonly text: string };

/**
 * Parses a JSON array of strings, or the text of a shell command.
 *
 * @throws SockerlessError of kind `invalid` for an array of anything else
 */
export function parseCommandArguments(rest: string): CommandArguments {
  const values = parseJsonArray(rest);
  return values === undefined ? { form: "shell", text: rest } : { form: "exec", values };
}

/** Parses a JSON array of strings, or blank-separated words. */
export function parseListArguments(rest: string): readonly string[] {
  return parseJsonArray(rest) ?? rest.split(/\s+/).filter((word) => word !== "");
}

function parseJsonArray(text: string): readonly string[] | undefined {
  if (!text.trimStart().startsWith("[")) {
    return undefined;
  }
  let values: unknown;
  try {
    values = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!Array.isArray(values)) {
    return undefined;
  }
  if (!values.every((value) => typeof value === "string")) {
    throw invalid("when using JSON array syntax, arrays must be comprised of strings only");
  }
  return values;
}

/**
 * The unexpanded pairs of ENV and LABEL: `name=value …`, or the old `name rest of line`.
 *
 * @param instruction in upper case, for the error
 */
export function parsePairs(rest: string, instruction: string): (readonly [name: string, value: string])[] {
  if (rest === "") {
    throw invalid(`${instruction} requires at least one argument`);
  }
  const words = splitWords(rest);
  if (!(words[0] ?? "").includes("=")) {
    const [, name = "", value] = /^(\S+)\s+([\s\S]+)$/.exec(rest) ?? [];
    if (value === undefined) {
      throw invalid(`${instruction} must have two arguments`);
    }
    return [[name, value]];
  }
  return words.map((word) => {
    const equals = word.indexOf("=");
    if (equals < 0) {
      throw invalid(
        `Syntax error - can't find = in ${JSON.stringify(word)}. Must be of the form: name=value`,
      );
    }
    if (equals === 0) {
      throw invalid(`${instruction} names can not be blank`);
    }
    return [word.slice(0, equals), word.slice(equals + 1)];
  });
}

/** Splits at blanks outside of quotes and escapes, which are kept. */
function splitWords(text: string): string[] {
  return text.match(/(?:[^\s"'\\]|\\[\s\S]|\\$|"(?:[^"\\]|\\[\s\S])*(?:"|$)|'[^']*(?:'|$))+/g) ?? [];
}

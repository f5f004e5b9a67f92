/**
 * `--log-opt tag`: a Go template over a container's properties. Fields and Docker's functions are supported, alone, in
 * a pipe and with arguments; control structures (`if`, `range`, `with`) are not.
 */

/** Values available in a tag, by field name. */
export type TagFields = Readonly<Record<string, string | readonly string[]>>;

/** The longest template, in characters. */
const longestTemplate = 4_096;

/** The longest value of a template's parts, and the longest tag, in characters: each is written with every line. */
const longestValue = 65_536;

/** The most characters that all functions of a template read and write together: a pipe may have hundreds of them. */
const mostWork = 4 * longestValue;

/** The most spaces that `pad` adds on a side. */
const widest = 1024;

type Value = string | number | readonly string[];

/**
 * Renders a tag.
 *
 * @throws Error in the words of Go's templates
 */
export function renderLogTag(template: string, fields: TagFields): string {
  if (template.length > longestTemplate) {
    throw new Error(`template: log-tag:1: it has more than ${longestTemplate} characters`);
  }
  let text = "";
  const work: Work = { left: mostWork };
  let trimNext = false;
  for (const { literal, action, trimsBefore, trimsAfter } of partsOf(template)) {
    const shown = trimNext ? literal.trimStart() : literal;
    text += trimsBefore ? shown.trimEnd() : shown;
    trimNext = trimsAfter;
    if (action !== undefined) {
      text += show(evaluate(action, fields, work));
    }
    refuseTooLong(text);
  }
  return text;
}

/** Characters that the functions of a template may still read and write. */
interface Work {
  left: number;
}

interface Part {
  readonly literal: string;
  /** The action after the literal; undefined at the end. */
  readonly action: string | undefined;
  readonly trimsBefore: boolean;
  readonly trimsAfter: boolean;
}

function* partsOf(template: string): Generator<Part> {
  let rest = template;
  for (;;) {
    const open = rest.indexOf("{{");
    if (open === -1) {
      yield { literal: rest, action: undefined, trimsBefore: false, trimsAfter: false };
      return;
    }
    const behind = rest.slice(open + 2);
    // Braces within quotes do not end an action.
    const inside = /^(?:"(?:[^"\\]|\\.)*"|`[^`]*`|[^"`}]|\}(?!\}))*(?=\}\})/.exec(behind)?.[0];
    if (inside === undefined) {
      throw new Error("template: log-tag:1: unclosed action");
    }
    const action = inside.replace(/^-\s/, "").replace(/\s-$/, "");
    if (!/^\/\*.*\*\/$/s.test(action)) {
      yield {
        literal: rest.slice(0, open),
        action,
        trimsBefore: /^-\s/.test(inside),
        trimsAfter: /\s-$/.test(inside),
      };
    }
    rest = behind.slice(inside.length + 2);
  }
}

function evaluate(action: string, fields: TagFields, work: Work): Value {
  const tokens = tokensOf(action);
  if (tokens.length === 0) {
    throw new Error("template: log-tag:1: missing value for command");
  }
  let piped: Value | undefined;
  let command: string[] = [];
  for (const token of [...tokens, "|"]) {
    if (token !== "|") {
      command.push(token);
      continue;
    }
    piped = run(command, piped, fields, work);
    command = [];
  }
  return piped ?? "";
}

function tokensOf(action: string): string[] {
  const tokens = action.match(/"(?:[^"\\]|\\.)*"|`[^`]*`|\||-?[0-9]+|\.?[A-Za-z_][\w.]*|\.|[^\s]/g) ?? [];
  const odd = tokens.find((token) => !/^["`|.\w-]/.test(token) || /^(if|range|with|end|define)$/.test(token));
  if (odd !== undefined) {
    throw new Error(`template: log-tag:1: "${odd}" is not supported in a log tag`);
  }
  return tokens;
}

function run(command: readonly string[], piped: Value | undefined, fields: TagFields, work: Work): Value {
  const [first, ...rest] = command;
  if (first === undefined) {
    throw new Error("template: log-tag:1: missing value for command");
  }
  const last = piped === undefined ? [] : [piped];
  const call = functions[first];
  if (call !== undefined) {
    const read = [...rest.map((token) => operand(token, fields)), ...last];
    charge(work, read);
    const value = call(...read);
    refuseTooLong(value);
    charge(work, [value]);
    return value;
  }
  if (rest.length > 0 || last.length > 0) {
    throw new Error(`template: log-tag:1: can't give argument to non-function ${first}`);
  }
  return operand(first, fields);
}

function operand(token: string, fields: TagFields): Value {
  if (token.startsWith('"')) {
    try {
      return String(JSON.parse(token));
    } catch (error) {
      throw new Error("template: log-tag:1: invalid syntax", { cause: error });
    }
  }
  if (token.startsWith("`")) {
    return token.slice(1, -1);
  }
  if (/^-?[0-9]+$/.test(token)) {
    return Number(token);
  }
  if (!token.startsWith(".")) {
    throw new Error(`template: log-tag:1: function ${JSON.stringify(token)} not defined`);
  }
  const name = token.slice(1);
  const value = Object.hasOwn(fields, name) ? fields[name] : undefined;
  if (value === undefined) {
    throw new Error(
      `template: log-tag:1:2: executing "log-tag" at <${token}>: can't evaluate field ${name} in type *logger.Info`,
    );
  }
  refuseTooLong(value);
  return value;
}

function charge(work: Work, values: readonly Value[]): void {
  work.left -= values.reduce<number>((length, value) => length + lengthOf(value), 0);
  if (work.left < 0) {
    throw new Error(`template: log-tag:1: its functions read and write more than ${mostWork} characters`);
  }
}

function refuseTooLong(value: Value): void {
  if (lengthOf(value) > longestValue) {
    throw new Error(`template: log-tag:1: a value has more than ${longestValue} characters`);
  }
}

/** The length of a value, each element of a list with a separator. */
function lengthOf(value: Value): number {
  return typeof value === "object"
    ? value.reduce((length, text) => length + text.length + 1, 0)
    : String(value).length;
}

const functions: Readonly<Record<string, (...values: Value[]) => Value>> = Object.assign(
  Object.create(null) as Record<string, (...values: Value[]) => Value>,
  {
    json: (value: Value = "") => JSON.stringify(value),
    lower: (value: Value = "") => show(value).toLowerCase(),
    upper: (value: Value = "") => show(value).toUpperCase(),
    title: (value: Value = "") =>
      show(value).replaceAll(/(?<![\w'])\p{L}/gu, (letter) => letter.toUpperCase()),
    split: (value: Value = "", separator: Value = "") => show(value).split(show(separator)),
    join: (value: Value = [], separator: Value = "") =>
      Array.isArray(value) ? value.join(show(separator)) : show(value),
    truncate: (value: Value = "", length: Value = 0) => show(value).slice(0, Number(length)),
    pad: (value: Value = "", before: Value = 0, after: Value = 0) =>
      show(value) === "" ? "" : blanks(before) + show(value) + blanks(after),
    println: (...values: Value[]) => `${values.map(show).join(" ")}\n`,
    print: (...values: Value[]) => values.map(show).join(""),
    len: (value: Value = "") => (typeof value === "number" ? value : value.length),
  },
);

function blanks(count: Value): string {
  return " ".repeat(Math.min(Math.max(0, Number(count) || 0), widest));
}

function show(value: Value): string {
  return typeof value === "object" ? `[${value.join(" ")}]` : String(value);
}

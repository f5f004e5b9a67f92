/**
 * A small part of the Kusto Query Language, read strictly: `let`, a table, and the operators `where`, `project`, `extend`,
 * `order by`, `take`, `top` and `count`. All else is refused by name.
 */
import { notSimulated } from "../../wire/fault.ts";

/** A value of a row; times are of the class Date. */
export type Value = string | number | boolean | Date | null;

/** A row by its columns. */
export type Row = Readonly<Record<string, Value>>;

/** A table, with the type of each column. */
export interface Table {
  readonly columns: Readonly<Record<string, ColumnType>>;
  readonly rows: readonly Row[];
}

export type ColumnType = "string" | "datetime" | "real" | "long" | "bool";

/** A mistake in a query. */
export class QueryRefused extends Error {
  readonly code: "SyntaxError" | "SemanticError";

  constructor(code: QueryRefused["code"], message: string) {
    super(message);
    this.code = code;
  }
}

/** The world of a query. */
export interface QueryScope {
  readonly now: Date;
  /** A table by its name; undefined: there is none. */
  table(name: string): Table | undefined;
}

/** @throws QueryRefused; ArmFault for what is not simulated */
export function runQuery(query: string, scope: QueryScope): Table {
  return new Query(tokens(query), scope).run();
}

interface Token {
  readonly kind: "name" | "string" | "number" | "timespan" | "sign" | "raw";
  readonly text: string;
}

const patterns: readonly (readonly [Token["kind"] | "skip", RegExp])[] = [
  ["skip", /^(?:\s+|\/\/[^\n]*)/],
  ["raw", /^datetime\(\s*[^"')]+\)/],
  ["timespan", /^\d+(?:\.\d+)?(?:d|h|m|s|ms)\b/],
  ["number", /^\d+(?:\.\d+)?/],
  ["name", /^[A-Za-z_]\w*/],
  ["string", /^@"(?:[^"]|"")*"|^@'(?:[^']|'')*'|^"(?:[^"\\\n]|\\.)*"|^'(?:[^'\\\n]|\\.)*'/],
  ["sign", /^(?:==|!=|=~|!~|<=|>=|[|;,()=<>[\]])/],
];

function tokens(query: string): Token[] {
  const found: Token[] = [];
  for (let rest = query; rest !== ""; ) {
    const match = patterns.flatMap(([kind, pattern]) => {
      const text = pattern.exec(rest)?.[0];
      return text === undefined ? [] : [{ kind, text }];
    })[0];
    if (match === undefined) {
      throw new QueryRefused("SyntaxError", `A recognition error occurred at '${rest.slice(0, 20)}'.`);
    }
    const { kind, text } = match;
    if (kind !== "skip") {
      found.push({ kind, text: kind === "string" ? literal(text) : text });
    }
    rest = rest.slice(text.length);
  }
  return found;
}

function literal(text: string): string {
  if (text.startsWith("@")) {
    const quote = text.charAt(1);
    return text.slice(2, -1).replaceAll(quote + quote, quote);
  }
  const escapes: Readonly<Record<string, string>> = { n: "\n", t: "\t", r: "\r", "0": "\0" };
  return text
    .slice(1, -1)
    .replace(/\\u([0-9a-fA-F]{4})|\\(.)/g, (_, code: string | undefined, character: string) =>
      code === undefined ? (escapes[character] ?? character) : String.fromCharCode(Number.parseInt(code, 16)),
    );
}

type Expression = (row: Row) => Value;

const stringOperators: Readonly<Record<string, (one: string, other: string) => boolean>> = {
  startswith: (one, other) => one.toLowerCase().startsWith(other.toLowerCase()),
  startswith_cs: (one, other) => one.startsWith(other),
  contains: (one, other) => one.toLowerCase().includes(other.toLowerCase()),
  contains_cs: (one, other) => one.includes(other),
  "=~": (one, other) => one.toLowerCase() === other.toLowerCase(),
  "!~": (one, other) => one.toLowerCase() !== other.toLowerCase(),
};

const millisecondsOf: Readonly<Record<string, number>> = {
  d: 86_400_000,
  h: 3_600_000,
  m: 60_000,
  s: 1000,
  ms: 1,
};

class Query {
  readonly #tokens: readonly Token[];
  readonly #scope: QueryScope;
  readonly #variables = new Map<string, Value>();
  #at = 0;
  #table: Table = { columns: {}, rows: [] };

  constructor(tokens: readonly Token[], scope: QueryScope) {
    this.#tokens = tokens;
    this.#scope = scope;
  }

  run(): Table {
    while (this.#accept("let")) {
      const name = this.#take("name");
      this.#expect("=");
      this.#variables.set(name, this.#expression()({}));
      this.#expect(";");
    }
    const name = this.#take("name");
    const table = this.#scope.table(name);
    if (table === undefined) {
      throw unresolved("table or column", name);
    }
    this.#table = table;
    while (this.#accept("|")) {
      this.#operator();
    }
    this.#accept(";");
    if (this.#peek() !== undefined) {
      throw this.#unexpected();
    }
    return this.#table;
  }

  #operator(): void {
    const name = this.#take("name");
    const { columns, rows } = this.#table;
    switch (name) {
      case "where":
      case "filter": {
        const holds = this.#expression();
        this.#table = { columns, rows: rows.filter((row) => holds(row) === true) };
        return;
      }
      case "take":
      case "limit":
        this.#table = { columns, rows: rows.slice(0, this.#count()) };
        return;
      case "top": {
        const count = this.#count();
        this.#expect("by");
        this.#sort();
        this.#table = { columns, rows: this.#table.rows.slice(0, count) };
        return;
      }
      case "order":
      case "sort":
        this.#expect("by");
        this.#sort();
        return;
      case "project":
        this.#project({});
        return;
      case "extend":
        this.#project(columns);
        return;
      case "count":
        this.#table = { columns: { Count: "long" }, rows: [{ Count: rows.length }] };
        return;
      default:
        throw notSimulated(`the operator ${name} of KQL`);
    }
  }

  /** @param kept columns of the result besides the named ones */
  #project(kept: Table["columns"]): void {
    const made: { readonly name: string; readonly type: ColumnType; readonly value: Expression }[] = [];
    do {
      const first = this.#peek();
      const isNamed = this.#tokens[this.#at + 1]?.text === "=" && first?.kind === "name";
      if (isNamed) {
        this.#at += 2;
      }
      const column = this.#peek();
      const value = this.#expression();
      const name = isNamed ? first.text : column?.kind === "name" ? column.text : "Column1";
      const type = this.#table.columns[column?.text ?? ""] ?? "string";
      made.push({ name, type, value });
    } while (this.#accept(","));
    const types = Object.fromEntries(made.map(({ name, type }) => [name, type]));
    this.#table = {
      columns: { ...kept, ...types },
      rows: this.#table.rows.map((row) => ({
        ...(Object.keys(kept).length > 0 && row),
        ...Object.fromEntries(made.map(({ name, value }) => [name, value(row)])),
      })),
    };
  }

  /** Descending unless it says otherwise, as in Kusto. */
  #sort(): void {
    const keys: { readonly value: Expression; readonly sign: number }[] = [];
    do {
      const value = this.#expression();
      const sign = this.#accept("asc") ? 1 : -1;
      this.#accept("desc");
      if (this.#accept("nulls")) {
        throw notSimulated("the order of nulls in KQL");
      }
      keys.push({ value, sign });
    } while (this.#accept(","));
    const rows = this.#table.rows.toSorted((one, other) => {
      for (const { value, sign } of keys) {
        const order = compare(value(one), value(other));
        if (order !== 0) {
          return order * sign;
        }
      }
      return 0;
    });
    this.#table = { columns: this.#table.columns, rows };
  }

  #expression(): Expression {
    let left = this.#conjunction();
    while (this.#accept("or")) {
      const [one, other] = [left, this.#conjunction()];
      left = (row) => one(row) === true || other(row) === true;
    }
    return left;
  }

  #conjunction(): Expression {
    let left = this.#comparison();
    while (this.#accept("and")) {
      const [one, other] = [left, this.#comparison()];
      left = (row) => one(row) === true && other(row) === true;
    }
    return left;
  }

  #comparison(): Expression {
    const left = this.#value();
    const { text = "", kind } = this.#peek() ?? {};
    if (kind === "string") {
      return left;
    }
    const ofStrings = stringOperators[text];
    if (ofStrings !== undefined) {
      this.#at += 1;
      const right = this.#value();
      return (row) => ofStrings(String(left(row) ?? ""), String(right(row) ?? ""));
    }
    if (text === "in") {
      this.#at += 1;
      this.#expect("(");
      const values = this.#list();
      return (row) => values.some((each) => compare(left(row), each(row)) === 0);
    }
    const holds = orders[text];
    if (holds === undefined) {
      return left;
    }
    this.#at += 1;
    const right = this.#value();
    return (row) => holds(compare(left(row), right(row)));
  }

  #value(): Expression {
    const token = this.#peek();
    this.#at += 1;
    switch (token?.kind) {
      case "string":
        return () => token.text;
      case "number":
        return () => Number(token.text);
      case "timespan":
        return () => timespan(token.text);
      case "raw":
        return () => dateOf(token.text.slice("datetime(".length, -1).trim());
      case "name":
        return this.#accept("(") ? this.#call(token.text) : this.#named(token.text);
      case "sign":
        if (token.text === "(") {
          const inner = this.#expression();
          this.#expect(")");
          return inner;
        }
        if (token.text === "[") {
          const name = this.#take("string");
          this.#expect("]");
          return this.#named(name);
        }
        break;
      case undefined:
        break;
    }
    this.#at -= 1;
    throw this.#unexpected();
  }

  #named(name: string): Expression {
    if (name === "true" || name === "false") {
      return () => name === "true";
    }
    const variable = this.#variables.get(name);
    if (variable !== undefined) {
      return () => variable;
    }
    if (this.#table.columns[name] === undefined) {
      throw unresolved("scalar", name);
    }
    return (row) => row[name] ?? null;
  }

  #call(name: string): Expression {
    const { now } = this.#scope;
    if (name === "column_ifexists") {
      const column = this.#take("string");
      this.#expect(",");
      const [otherwise = () => null] = this.#list();
      return this.#table.columns[column] === undefined ? otherwise : this.#named(column);
    }
    const args = this.#list();
    const first = args[0] ?? (() => null);
    switch (name) {
      case "ago":
        return (row) => new Date(now.getTime() - Number(first(row)));
      case "now":
        return () => now;
      case "not":
        return (row) => first(row) !== true;
      case "tostring":
        return (row) => textOf(first(row));
      case "todatetime":
      case "datetime":
        return (row) => dateOf(textOf(first(row)));
      case "isempty":
        return (row) => textOf(first(row)) === "";
      case "isnotempty":
        return (row) => textOf(first(row)) !== "";
      default:
        throw notSimulated(`the function ${name} of KQL`);
    }
  }

  /** Arguments up to the closing parenthesis. */
  #list(): Expression[] {
    const found: Expression[] = [];
    if (this.#accept(")")) {
      return found;
    }
    do {
      found.push(this.#expression());
    } while (this.#accept(","));
    this.#expect(")");
    return found;
  }

  #count(): number {
    return Number(this.#take("number"));
  }

  #peek(): Token | undefined {
    return this.#tokens[this.#at];
  }

  /** Steps over a word or sign, if it is next. */
  #accept(text: string): boolean {
    const token = this.#peek();
    const isNext = token?.text === text && token.kind !== "string";
    this.#at += isNext ? 1 : 0;
    return isNext;
  }

  #expect(text: string): void {
    if (!this.#accept(text)) {
      throw this.#unexpected();
    }
  }

  #take(kind: Token["kind"]): string {
    const token = this.#peek();
    if (token?.kind !== kind) {
      throw this.#unexpected();
    }
    this.#at += 1;
    return token.text;
  }

  #unexpected(): QueryRefused {
    const near = this.#peek()?.text ?? "the end of the query";
    return new QueryRefused(
      "SyntaxError",
      `A recognition error occurred in the query: unexpected '${near}'.`,
    );
  }
}

const orders: Readonly<Record<string, (order: number) => boolean>> = {
  "==": (order) => order === 0,
  "!=": (order) => order !== 0,
  "<": (order) => order < 0,
  "<=": (order) => order <= 0,
  ">": (order) => order > 0,
  ">=": (order) => order >= 0,
};

function unresolved(what: string, name: string): QueryRefused {
  return new QueryRefused(
    "SemanticError",
    `'where' operator: Failed to resolve ${what} expression named '${name}'`,
  );
}

function compare(one: Value, other: Value): number {
  const [left, right] = [one, other].map((value) =>
    value instanceof Date ? value.getTime() : (value ?? ""),
  );
  if (typeof left !== typeof right) {
    throw new QueryRefused(
      "SemanticError",
      `Cannot compare values of types ${typeof left} and ${typeof right}.`,
    );
  }
  return left === right ? 0 : (left ?? 0) < (right ?? 0) ? -1 : 1;
}

function textOf(value: Value): string {
  return value instanceof Date ? value.toISOString() : String(value ?? "");
}

function dateOf(text: string): Date {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) {
    throw new QueryRefused("SemanticError", `'${text}' is no datetime.`);
  }
  return date;
}

function timespan(text: string): number {
  const [, amount = "", unit = ""] = /^([\d.]+)([a-z]+)$/.exec(text) ?? [];
  return Number(amount) * (millisecondsOf[unit] ?? Number.NaN);
}

/**
 * The part of the Kusto Query Language that the backend writes, read strictly: a table, and the operators `where`,
 * `project`, `order by`, `take`, and `count` for tests. All else is refused by name.
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

/**
 * Runs a query on tables that are found by name.
 *
 * @throws QueryRefused; ArmFault for what is not simulated
 */
export function runQuery(query: string, table: (name: string) => Table | undefined): Table {
  return new Query(tokens(query), table).run();
}

interface Token {
  readonly kind: "name" | "string" | "number" | "sign";
  readonly text: string;
}

const patterns: readonly (readonly [Token["kind"] | "skip", RegExp])[] = [
  ["skip", /^(?:\s+|\/\/[^\n]*)/],
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

class Query {
  readonly #tokens: readonly Token[];
  readonly #find: (name: string) => Table | undefined;
  #at = 0;
  #table: Table = { columns: {}, rows: [] };

  constructor(tokens: readonly Token[], find: (name: string) => Table | undefined) {
    this.#tokens = tokens;
    this.#find = find;
  }

  run(): Table {
    const name = this.#take("name");
    const table = this.#find(name);
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
      case "where": {
        const holds = this.#expression();
        this.#table = { columns, rows: rows.filter((row) => holds(row) === true) };
        return;
      }
      case "take":
        this.#table = { columns, rows: rows.slice(0, this.#count()) };
        return;
      case "order":
        this.#expect("by");
        this.#sort();
        return;
      case "project":
        this.#project();
        return;
      case "count":
        this.#table = { columns: { Count: "long" }, rows: [{ Count: rows.length }] };
        return;
      default:
        throw notSimulated(`the operator ${name} of KQL`);
    }
  }

  #project(): void {
    const made: Record<string, ColumnType> = {};
    do {
      const name = this.#take("name");
      made[name] = this.#typeOf(name);
    } while (this.#accept(","));
    this.#table = {
      columns: made,
      rows: this.#table.rows.map((row) =>
        Object.fromEntries(Object.keys(made).map((name) => [name, row[name] ?? null])),
      ),
    };
  }

  #typeOf(name: string): ColumnType {
    const type = this.#table.columns[name];
    if (type === undefined) {
      throw unresolved("scalar", name);
    }
    return type;
  }

  /** Descending unless it says otherwise, as in Kusto. */
  #sort(): void {
    const keys: { readonly value: Expression; readonly sign: number }[] = [];
    do {
      const value = this.#value();
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
    const { text = "" } = this.#peek() ?? {};
    if (text === "startswith_cs") {
      this.#at += 1;
      const right = this.#value();
      return (row) => String(left(row) ?? "").startsWith(String(right(row) ?? ""));
    }
    const holds = orders[text];
    if (holds === undefined) {
      throw this.#unexpected();
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
      case "name":
        this.#typeOf(token.text);
        return (row) => row[token.text] ?? null;
      default:
        this.#at -= 1;
        throw this.#unexpected();
    }
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

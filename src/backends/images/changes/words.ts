/**
 * Words of a Dockerfile instruction: quotes, escapes and variables, as in Docker's builder. `$NAME`, `${NAME}`,
 * `${NAME:-default}`, `${NAME-default}`, `${NAME:+value}` and `${NAME+value}` are replaced; single quotes prevent that.
 */
import { invalid, messageOf } from "../../../common/errors.ts";

/** Looks up a variable; undefined if not set. */
export type Variables = (name: string) => string | undefined;

/** Limit for nested defaults. */
const maxDepth = 32;

/** Expands a word: removes quotes and replaces variables. */
export function expandWord(text: string, variables: Variables): string {
  return read(text, variables).text;
}

/** Splits text at unquoted blanks and expands the words; variables' values are split too. */
export function expandWords(text: string, variables: Variables): string[] {
  return read(text, variables).words;
}

function read(text: string, variables: Variables): ReturnType<WordReader["read"]> {
  try {
    return new WordReader(text, variables).read();
  } catch (error) {
    throw invalid(`failed to process ${JSON.stringify(text)}: ${messageOf(error)}`, error);
  }
}

class WordReader {
  readonly #text: string;
  readonly #variables: Variables;
  readonly #depth: number;
  #at = 0;
  #output = "";
  #words: string[] = [];
  #word: string | undefined;

  constructor(text: string, variables: Variables, depth = 0) {
    if (depth > maxDepth) {
      throw invalid("variables are nested too deeply");
    }
    this.#text = text;
    this.#variables = variables;
    this.#depth = depth;
  }

  read(): { readonly text: string; readonly words: string[] } {
    while (this.#at < this.#text.length) {
      this.#next();
    }
    this.#endWord();
    return { text: this.#output, words: this.#words };
  }

  #next(): void {
    const character = this.#take();
    if (character === "'") {
      this.#add(this.#untilQuote("'"));
    } else if (character === '"') {
      this.#doubleQuoted();
    } else if (character === "\\") {
      this.#add(this.#take());
    } else if (character === "$") {
      const value = this.#variable();
      this.#output += value;
      this.#split(value);
    } else if (/\s/.test(character)) {
      this.#output += character;
      this.#endWord();
    } else {
      this.#add(character);
    }
  }

  #doubleQuoted(): void {
    this.#add("");
    for (;;) {
      if (this.#at >= this.#text.length) {
        throw invalid("unexpected end of statement while looking for matching double-quote");
      }
      const character = this.#take();
      if (character === '"') {
        return;
      }
      if (character === "$") {
        this.#add(this.#variable());
      } else if (character === "\\" && /["$\\]/.test(this.#text[this.#at] ?? "")) {
        this.#add(this.#take());
      } else {
        this.#add(character);
      }
    }
  }

  #untilQuote(quote: string): string {
    const end = this.#text.indexOf(quote, this.#at);
    if (end < 0) {
      throw invalid("unexpected end of statement while looking for matching single-quote");
    }
    const inside = this.#text.slice(this.#at, end);
    this.#at = end + 1;
    return inside;
  }

  /** Reads a variable after its dollar sign and returns its value. @throws invalid: its syntax */
  #variable(): string {
    const rest = this.#text.slice(this.#at);
    const plain = /^(?:[A-Za-z_][A-Za-z0-9_]*|[0-9])/.exec(rest)?.[0];
    if (plain !== undefined) {
      this.#at += plain.length;
      return this.#variables(plain) ?? "";
    }
    if (!rest.startsWith("{")) {
      return "$";
    }
    const end = closingBrace(rest);
    if (end < 0) {
      throw invalid("syntax error: missing '}'");
    }
    this.#at += end + 1;
    return this.#modified(rest.slice(1, end));
  }

  /** The value of an expression in a variable's braces. @throws invalid: its syntax */
  #modified(inside: string): string {
    const parts = /^([A-Za-z_][A-Za-z0-9_]*|[0-9])(?:(:?)([-+?])([\s\S]*))?$/.exec(inside);
    if (parts === null) {
      throw invalid(
        inside === "" ? "syntax error: empty variable name" : "unsupported modifier in substitution",
      );
    }
    const [, name = "", colon, operator, word = ""] = parts;
    const value = this.#variables(name);
    const isSet = value !== undefined && (colon !== ":" || value !== "");
    const alternative = (): string => new WordReader(word, this.#variables, this.#depth + 1).read().text;
    switch (operator) {
      case "-":
        return isSet ? value : alternative();
      case "+":
        return isSet ? alternative() : "";
      case "?":
        if (!isSet) {
          throw invalid(`${name}: ${alternative() || "not set"}`);
        }
        return value;
      default:
        return value ?? "";
    }
  }

  #take(): string {
    return this.#text[this.#at++] ?? "";
  }

  #add(text: string): void {
    this.#output += text;
    this.#word = (this.#word ?? "") + text;
  }

  #split(value: string): void {
    const [first = "", ...others] = value.split(/\s+/);
    if (first !== "") {
      this.#word = (this.#word ?? "") + first;
    }
    for (const other of others) {
      this.#endWord();
      this.#word = other === "" ? undefined : other;
    }
  }

  #endWord(): void {
    if (this.#word !== undefined) {
      this.#words.push(this.#word);
      this.#word = undefined;
    }
  }
}

function closingBrace(text: string): number {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === "\\") {
      at++;
    } else if (text[at] === "{") {
      depth++;
    } else if (text[at] === "}" && --depth === 0) {
      return at;
    }
  }
  return -1;
}

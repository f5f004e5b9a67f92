/** Docker's filters: values of one key are alternatives; all keys must match. */
import { invalid } from "../../common/errors.ts";
import type { StringList } from "../../gen/sockerless/backend/v1/config_pb.ts";
import {
  compileExpression,
  type Expression,
  type MatchingTime,
  matchingTime,
  writtenOutLength,
} from "./re2.ts";

/** Limit for all regular expressions of a request, their repetitions written out; others are only compared as text. */
const longestPatterns = 4096;

/** A name without special characters, which needs no regular expression. */
const plainName = /^[\w/:-]*$/;
/** An expression that only such a name matches. */
const wholeName = /^\^([\w/:-]*)\$$/;

/** A key's values as {@link Filters.matches} takes them. */
interface Patterns {
  /** Names that are looked for anywhere in a text. */
  readonly parts: readonly string[];
  /** Names that match a whole text. */
  readonly whole: ReadonlySet<string>;
  readonly expressions: readonly string[];
}

/** Up to so many names, or lengths of beginnings, are looked for uncounted; more are charged to the time of expressions. */
const fewParts = 32;

/** The filters of a request. */
export class Filters {
  readonly #values = new Map<string, ReadonlySet<string>>();
  /** The values of a key as a list, each once. */
  readonly #lists = new Map<string, readonly string[]>();
  /** The lengths of a key's values, each once and the shortest first, without that of the empty one. */
  readonly #lengths = new Map<string, readonly number[]>();
  readonly #patterns = new Map<string, Patterns>();
  /** Compiled values; undefined if invalid as a regular expression. */
  readonly #expressions = new Map<string, Expression | undefined>();
  #patternsLength = 0;
  readonly #time: MatchingTime;

  /**
   * @param accepted the keys that the listing supports
   * @throws invalid: another key
   */
  constructor(
    filters: Readonly<Record<string, StringList>>,
    accepted: readonly string[],
    time = matchingTime,
  ) {
    this.#time = time;
    for (const [key, list] of Object.entries(filters)) {
      if (!accepted.includes(key)) {
        throw invalid(`invalid filter '${key}'`);
      }
      const values = new Set(list.values);
      this.#values.set(key, values);
      this.#lists.set(key, [...values]);
      this.#lengths.set(
        key,
        [...new Set(list.values.map(({ length }) => length))]
          .filter((length) => length > 0)
          .sort((a, b) => a - b),
      );
    }
  }

  /** Whether the key was given. */
  has(key: string): boolean {
    return this.#values.has(key);
  }

  /** The values of a key, each once. */
  get(key: string): readonly string[] {
    return this.#lists.get(key) ?? [];
  }

  /** Whether the text is one of the key's values; true if there are none. */
  matchesExactly(key: string, text: string): boolean {
    const values = this.#values.get(key);
    return values === undefined || values.size === 0 || values.has(text);
  }

  /** Whether the text is one of the key's values. */
  hasValue(key: string, text: string): boolean {
    return this.#values.get(key)?.has(text) === true;
  }

  /**
   * Whether the text starts with one of the key's values that are not empty.
   *
   * @throws unavailable: clients' filters have taken too long
   */
  hasPrefix(key: string, text: string): boolean {
    const lengths = this.#lengths.get(key) ?? [];
    const beginsWithValue = (): boolean => {
      for (const length of lengths) {
        if (length > text.length) {
          return false;
        }
        if (this.hasValue(key, text.slice(0, length))) {
          return true;
        }
      }
      return false;
    };
    return lengths.length > fewParts ? this.#time.run(0, beginsWithValue) : beginsWithValue();
  }

  /** Like {@link matchesExactly}, but also true if the text starts with a value. @throws as {@link hasPrefix} */
  matchesPrefix(key: string, text: string): boolean {
    return this.matchesExactly(key, text) || this.hasValue(key, "") || this.hasPrefix(key, text);
  }

  /**
   * Like {@link matchesExactly}, but also true if a value, as a regular expression, matches part of the text.
   *
   * @throws invalid, unavailable: the values take too long
   */
  matches(key: string, text: string): boolean {
    const { parts, whole, expressions } = this.#patternsOf(key);
    const hasPart = (): boolean => parts.some((part) => text.includes(part));
    return (
      this.matchesExactly(key, text) ||
      whole.has(text) ||
      (parts.length > fewParts ? this.#time.run(0, hasPart) : hasPart()) ||
      expressions.some((value) => this.#expression(value)?.test(text))
    );
  }

  #patternsOf(key: string): Patterns {
    let patterns = this.#patterns.get(key);
    if (patterns === undefined) {
      const values = this.get(key);
      patterns = {
        parts: values.filter((value) => plainName.test(value)),
        whole: new Set(values.flatMap((value) => wholeName.exec(value)?.[1] ?? [])),
        expressions: values.filter((value) => !plainName.test(value) && !wholeName.test(value)),
      };
      this.#patterns.set(key, patterns);
    }
    return patterns;
  }

  /** Whether the pairs contain every value (a name or `name=value`); true if there are none. */
  matchesPairs(key: string, pairs: Readonly<Record<string, string>>): boolean {
    return this.get(key).every((wanted) => {
      const equals = wanted.indexOf("=");
      const name = equals === -1 ? wanted : wanted.slice(0, equals);
      const value = Object.hasOwn(pairs, name) ? pairs[name] : undefined;
      return value !== undefined && (equals === -1 || value === wanted.slice(equals + 1));
    });
  }

  /** Whether labels match a prune's filters: all of `label`, and not all of `label!`. */
  matchesLabels(labels: Readonly<Record<string, string>>): boolean {
    const isSpared = this.has("label!") && this.matchesPairs("label!", labels);
    return !isSpared && this.matchesPairs("label", labels);
  }

  /**
   * The boolean value of a key; undefined if it was not given.
   *
   * @throws invalid: no value, not a boolean, or both
   */
  boolean(key: string): boolean | undefined {
    const values = this.#values.get(key);
    if (values === undefined) {
      return undefined;
    }
    const isTrue = values.has("1") || values.has("true");
    const isFalse = values.has("0") || values.has("false");
    if (isTrue === isFalse) {
      throw invalid(
        values.size === 0 ? `invalid filter '${key}'` : `invalid filter '${key}=[${[...values].join(" ")}]'`,
      );
    }
    return isTrue;
  }

  #expression(value: string): Expression | undefined {
    if (!this.#expressions.has(value)) {
      this.#patternsLength += writtenOutLength(value);
      this.#expressions.set(
        value,
        this.#patternsLength > longestPatterns ? undefined : compiled(value, this.#time),
      );
    }
    return this.#expressions.get(value);
  }
}

function compiled(pattern: string, time: MatchingTime): Expression | undefined {
  try {
    return compileExpression(pattern, time);
  } catch {
    return undefined; // Compared only as text, as in Docker.
  }
}

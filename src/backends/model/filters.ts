/** Docker's filters: several values of a key are alternatives, several keys must all match. */
import type { RE2JS } from "re2js";

import { invalid } from "../../common/errors.ts";
import type { StringList } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { re2 } from "./re2.ts";

/** Regular expressions come from clients; longer ones are compared as text alone. */
const longestPattern = 4096;

/** A name as most are: an expression that stands for itself alone. */
const plainName = /^[\w/:-]*$/;

/** The filters of one request. */
export class Filters {
  readonly #values = new Map<string, ReadonlySet<string>>();
  /** Compiled values; undefined: not a regular expression. */
  readonly #expressions = new Map<string, RE2JS | undefined>();

  /**
   * @param accepted the keys that the listing knows
   * @throws invalid: another key
   */
  constructor(filters: Readonly<Record<string, StringList>>, accepted: readonly string[]) {
    for (const [key, list] of Object.entries(filters)) {
      if (!accepted.includes(key)) {
        throw invalid(`invalid filter '${key}'`);
      }
      this.#values.set(key, new Set(list.values));
    }
  }

  /** Whether the key was given. */
  has(key: string): boolean {
    return this.#values.has(key);
  }

  /** The values of a key, each once. */
  get(key: string): readonly string[] {
    return [...(this.#values.get(key) ?? [])];
  }

  /** Whether the text is one of the key's values; true where there are none. */
  matchesExactly(key: string, text: string): boolean {
    const values = this.#values.get(key);
    return values === undefined || values.size === 0 || values.has(text);
  }

  /** As {@link matchesExactly}; a value that the text begins with will do as well. */
  matchesPrefix(key: string, text: string): boolean {
    return this.matchesExactly(key, text) || this.get(key).some((value) => text.startsWith(value));
  }

  /** As {@link matchesExactly}; a value that is a regular expression found in the text will do as well. */
  matches(key: string, text: string): boolean {
    const isFound = (value: string): boolean | undefined =>
      plainName.test(value) ? text.includes(value) : this.#expression(value)?.test(text);
    return this.matchesExactly(key, text) || this.get(key).some(isFound);
  }

  /** Whether every value, a name or `name=value`, is among the pairs; true where there are none. */
  matchesPairs(key: string, pairs: Readonly<Record<string, string>>): boolean {
    return this.get(key).every((wanted) => {
      const equals = wanted.indexOf("=");
      const name = equals === -1 ? wanted : wanted.slice(0, equals);
      const value = Object.hasOwn(pairs, name) ? pairs[name] : undefined;
      return value !== undefined && (equals === -1 || value === wanted.slice(equals + 1));
    });
  }

  /** Whether labels pass a prune's `label`, all of them, and `label!`, not all of them. */
  matchesLabels(labels: Readonly<Record<string, string>>): boolean {
    const isSpared = this.has("label!") && this.matchesPairs("label!", labels);
    return !isSpared && this.matchesPairs("label", labels);
  }

  /**
   * The truth value of a key; undefined where it was not given.
   *
   * @throws invalid: no value, not a truth value, or both
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

  #expression(value: string): RE2JS | undefined {
    if (!this.#expressions.has(value)) {
      this.#expressions.set(value, compiled(value));
    }
    return this.#expressions.get(value);
  }
}

function compiled(pattern: string): RE2JS | undefined {
  if (pattern.length > longestPattern) {
    return undefined;
  }
  const engine = re2();
  try {
    return engine.compile(pattern);
  } catch {
    return undefined; // As in Docker, it is compared as text alone.
  }
}

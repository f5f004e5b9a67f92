/** Differences between sockerless and a dockerd that are meant, as rules that must each be needed. */
import type { Call } from "./calls.ts";

/** The part of an answer that differs; an error is its status and text. */
export type Aspect = "error" | "contentType" | "headers" | "shape";

/** Something that one side has and the other has not, or has instead. */
export interface Rule {
  readonly aspect: Aspect;
  /** Pattern of `METHOD path`, the path decoded. */
  readonly calls: RegExp;
  readonly ours?: RegExp;
  readonly theirs?: RegExp;
}

/** Rules by their heading in docs/differences.md, and which of them were needed. */
export class Rules {
  readonly #groups: Readonly<Record<string, readonly Rule[]>>;
  readonly #used = new Set<Rule>();

  constructor(groups: Readonly<Record<string, readonly Rule[]>>) {
    this.#groups = groups;
  }

  get headings(): readonly string[] {
    return Object.keys(this.#groups);
  }

  /** True if a rule covers a difference; one side may be empty. */
  covers(call: Call, aspect: Aspect, ours: string, theirs: string): boolean {
    const request = `${call.method} ${decodeURIComponent(call.path)}`;
    const matching = Object.values(this.#groups)
      .flat()
      .filter(
        (rule) =>
          rule.aspect === aspect &&
          rule.calls.test(request) &&
          (rule.ours === undefined ? ours === "" : rule.ours.test(ours)) &&
          (rule.theirs === undefined ? theirs === "" : rule.theirs.test(theirs)),
      );
    for (const rule of matching) {
      this.#used.add(rule);
    }
    return matching.length > 0;
  }

  /** The rules that no difference has needed, for a person to read. */
  get unused(): readonly string[] {
    return Object.entries(this.#groups).flatMap(([heading, rules]) =>
      rules
        .filter((rule) => !this.#used.has(rule))
        .map(({ aspect, calls, ours, theirs }) => `${heading}: ${aspect} ${calls} ${ours} ${theirs}`),
    );
  }
}

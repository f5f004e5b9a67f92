import assert from "node:assert/strict";

import { expression, type HclBlock, type HclModule } from "../hcl-module.ts";

/** One acceptance criterion of the ECS module. */
export interface Criterion {
  readonly number: number;
  readonly statement: string;
  /** Throws an assertion error where the module does not meet the criterion. */
  readonly check: (module: HclModule) => void;
  /** Changes of the module that break the criterion, so that `check` must throw. */
  readonly brokenBy: readonly Mutation[];
}

/** A change of one file: `from` becomes `to`, wherever it stands. */
export interface Mutation {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

/** A mutation, in one line. */
export function change(file: string, from: string, to: string): Mutation {
  return { file, from, to };
}

/** That attributes of a block have these expressions; null for one that must not be there. */
export function assertAttributes(
  body: HclBlock,
  expected: Readonly<Record<string, string | number | boolean | null>>,
): void {
  const actual = Object.fromEntries(
    Object.keys(expected).map((name) => {
      const value = body[name];
      return [name, value === undefined ? null : typeof value === "string" ? expression(value) : value];
    }),
  );
  assert.deepEqual(actual, expected);
}

/** That a variable is offered, with this default. */
export function assertDefault(module: HclModule, name: string, value: unknown): void {
  assert.deepEqual(module.variable(name)["default"], value, `default of ${name}`);
}

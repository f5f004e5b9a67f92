/** Verdicts on what clients are told of a command: its own exit code only with its whole output, and 0 only where it said 0. */

/** A command, as its script ends when nothing disturbs it. */
export interface Expected {
  /** Neither 1 nor a code of Docker's own: one that only the command itself can have said. */
  readonly code: number;
  readonly output: string;
}

/** An answer that a client had. */
export interface Told {
  /** Null: no code, since the client was cut off. */
  readonly code: number | null;
  readonly output: string;
}

/** Describes what is wrong; undefined: the client was told the truth, or that something failed. */
export function violationOf(told: Told, expected: Expected): string | undefined {
  if (told.code !== 0 && told.code !== expected.code) {
    return undefined;
  }
  if (told.code !== expected.code) {
    return `was told ${told.code} of a command that ends with ${expected.code}`;
  }
  if (told.output !== expected.output) {
    return `was told ${told.code} with ${told.output.length} of ${expected.output.length} bytes`;
  }
  return undefined;
}

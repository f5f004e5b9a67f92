/** `clientToken` of RunTask: which tasks a token made, and with what. */
import { createHash } from "node:crypto";

import { AwsFault } from "../../wire/service.ts";

interface Use {
  readonly parameters: string;
  readonly taskArns: readonly string[];
  /** Simulated milliseconds since the epoch, after which the token is as new. */
  expiresAt: number;
}

const dayMs = 24 * 60 * 60 * 1000;
const hourMs = 60 * 60 * 1000;

/** The tokens of one cluster each; they live a day, or for an hour after their tasks, whichever is shorter. */
export class ClientTokens {
  readonly #uses = new Map<string, Use>();
  readonly #byTask = new Map<string, Use>();

  /**
   * The tasks that a token made before.
   *
   * @returns undefined for a token that has not been used
   * @throws AwsFault `ConflictException` for other parameters than then
   */
  find(cluster: string, token: string, request: unknown, nowMs: number): readonly string[] | undefined {
    const use = this.#uses.get(`${cluster} ${token}`);
    if (use === undefined || use.expiresAt < nowMs) {
      return undefined;
    }
    if (use.parameters !== digest(request)) {
      const message = "The client token was used before with other parameters.";
      throw new AwsFault("ConflictException", message, undefined, { resourceIds: use.taskArns });
    }
    return use.taskArns;
  }

  record(cluster: string, token: string, request: unknown, taskArns: readonly string[], nowMs: number): void {
    const use: Use = { parameters: digest(request), taskArns, expiresAt: nowMs + dayMs };
    this.#uses.set(`${cluster} ${token}`, use);
    for (const taskArn of taskArns) {
      this.#byTask.set(taskArn, use);
    }
  }

  /** A task has stopped: its token has an hour left. */
  taskStopped(taskArn: string, nowMs: number): void {
    const use = this.#byTask.get(taskArn);
    if (use !== undefined) {
      use.expiresAt = Math.min(use.expiresAt, nowMs + hourMs);
      this.#byTask.delete(taskArn);
    }
  }
}

function digest(request: unknown): string {
  return createHash("sha256").update(canonical(request)).digest("hex");
}

/** JSON with the members of objects in order. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, member: unknown) =>
    member !== null && typeof member === "object" && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).toSorted(([one], [other]) => (one < other ? -1 : 1)))
      : member,
  );
}

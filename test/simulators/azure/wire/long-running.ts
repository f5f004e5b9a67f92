/**
 * Long-running operations as ARM tells them: by `Azure-AsyncOperation`, whose resource has a status, or by `Location`,
 * which answers 202 until there is a result.
 */
import { randomUUID } from "node:crypto";

import type { Context } from "../context.ts";
import { ArmFault } from "./fault.ts";
import type { ArmAnswer, ArmCall, ArmOperation } from "./provider.ts";

interface LongOperation {
  readonly id: string;
  readonly startedAt: Date;
  status: "InProgress" | "Succeeded" | "Failed";
  result: ArmAnswer | undefined;
  error: { readonly code: string; readonly message: string } | undefined;
}

/** How a long-running call is answered. */
export interface LongAnswer {
  readonly delayMs: number;
  /** How the client follows it. */
  readonly by: "azure-async-operation" | "location";
  /** The answer to the call itself, if it has not ended. */
  readonly accepted: ArmAnswer;
  /** Ends it; its answer is that to the call itself if there is no delay, else the one at `Location`. @throws ArmFault */
  finish(): Promise<ArmAnswer> | ArmAnswer;
}

/** The long-running operations of one provider. */
export class LongOperations {
  readonly #context: Context;
  readonly #namespace: string;
  readonly #kind: string;
  readonly #operations = new Map<string, LongOperation>();

  /** @param kind begins the names of its resources, for instance `containerappsjob` */
  constructor(context: Context, namespace: string, kind: string) {
    this.#context = context;
    this.#namespace = namespace;
    this.#kind = kind;
  }

  /** Begins an operation, and ends it in simulated time. */
  async answer({ origin, apiVersion }: ArmCall, long: LongAnswer): Promise<ArmAnswer> {
    const { clock, subscriptionId } = this.#context;
    if (long.delayMs === 0) {
      return await long.finish();
    }
    const operation: LongOperation = {
      id: randomUUID(),
      startedAt: clock.now(),
      status: "InProgress",
      result: undefined,
      error: undefined,
    };
    this.#operations.set(operation.id, operation);
    clock.after(long.delayMs, () => void this.#finish(operation, long));
    const base = `${origin}/subscriptions/${subscriptionId}${this.#path}`;
    const url = (kind: string): string => `${base}${kind}/${operation.id}?api-version=${apiVersion}`;
    const followed: Record<string, string> =
      long.by === "location"
        ? { location: url("OperationResults") }
        : { "azure-asyncoperation": `${url("OperationStatuses")}&azureAsyncOperation=true` };
    return {
      ...long.accepted,
      headers: { ...followed, "retry-after": "1" },
    };
  }

  /** The calls by which clients follow. */
  get calls(): ArmOperation[] {
    const action = `${this.#namespace}/locations/${this.#kind}OperationStatuses/read`;
    const path = (kind: string): string =>
      `/providers/${this.#namespace}/locations/{location}/${this.#kind}${kind}/{operationId}`;
    return [
      {
        name: `${this.#kind}OperationStatuses_Get`,
        method: "GET",
        path: path("OperationStatuses"),
        action,
        query: ["azureAsyncOperation"],
        run: (call) => this.#status(call),
      },
      {
        name: `${this.#kind}OperationResults_Get`,
        method: "GET",
        path: path("OperationResults"),
        action: action.replace("Statuses", "Results"),
        run: (call) => this.#result(call),
      },
    ];
  }

  get #path(): string {
    return `/providers/${this.#namespace}/locations/${this.#context.location}/${this.#kind}`;
  }

  async #finish(operation: LongOperation, { finish }: LongAnswer): Promise<void> {
    try {
      operation.result = await finish();
      operation.status = "Succeeded";
    } catch (error) {
      const { code, message } = ArmFault.of(error);
      operation.error = { code, message };
      operation.status = "Failed";
    }
  }

  #status(call: ArmCall): ArmAnswer {
    const { id, status, startedAt, error } = this.#find(call);
    const { subscriptionId } = this.#context;
    return {
      status: 200,
      ...(status === "InProgress" && { headers: { "retry-after": "1" } }),
      body: {
        id: `/subscriptions/${subscriptionId}${this.#path}OperationStatuses/${id}`,
        name: id,
        status,
        startTime: startedAt.toISOString(),
        ...(error !== undefined && { error }),
      },
    };
  }

  #result(call: ArmCall): ArmAnswer {
    const { id, error, result } = this.#find(call);
    if (error !== undefined) {
      throw new ArmFault(400, error.code, error.message);
    }
    if (result !== undefined) {
      return result;
    }
    const { subscriptionId } = this.#context;
    const url = `${call.origin}/subscriptions/${subscriptionId}${this.#path}OperationResults/${id}?api-version=${call.apiVersion}`;
    return { status: 202, headers: { location: url, "retry-after": "1" } };
  }

  #find({ path }: ArmCall): LongOperation {
    const { operationId = "" } = path;
    const operation = this.#operations.get(operationId);
    if (operation === undefined) {
      throw new ArmFault(404, "NotFound", `The operation '${operationId}' was not found.`);
    }
    return operation;
  }
}

/** A simulated service as the wire layer sees it: a service model's name, and a function for each operation. */
import type { AccessRequest, Principal } from "../iam/access.ts";

/** An input as it arrives: members that are present have a value. The SDK's own types let every member be undefined. */
export type Given<T> = T extends Date | Uint8Array | string | number | boolean
  ? T
  : T extends readonly (infer Each)[]
    ? Given<Each>[]
    : T extends object
      ? { [Key in keyof T]: Given<Exclude<T[Key], undefined>> }
      : T;

/** An SDK's output type without what the SDK adds. */
export type Answer<T> = Omit<T, "$metadata">;

/** One call, as a handler sees it. */
export interface Call {
  readonly requestId: string;
  /** The caller, known by the access key. */
  readonly principal: Principal;
}

/** An operation of a service, with its types forgotten. */
export interface Operation {
  /** The permissions that this call needs; all of them must be granted. */
  access(input: unknown, call: Call): readonly AccessRequest[];
  /** @throws AwsFault for what the service refuses */
  run(input: unknown, call: Call): unknown;
}

/** An operation with the types of the SDK's command. */
type OperationOf<Command> = Command extends {
  readonly input: infer Input;
  resolveMiddleware(...args: never): (...args: never) => Promise<{ readonly output: infer Output }>;
}
  ? {
      readonly access: (input: Given<Input>, call: Call) => readonly AccessRequest[];
      readonly run: (input: Given<Input>, call: Call) => Answer<Output> | Promise<Answer<Output>>;
    }
  : never;

/** Operations with the types of an SDK's commands: `operations<typeof import("@aws-sdk/client-ecs")>({ … })`. */
export function operations<Sdk>(
  definitions: {
    readonly [Name in keyof Sdk as Name extends `${infer Operation}Command`
      ? Operation
      : never]?: Sdk[Name] extends new (...args: never) => infer Command ? OperationOf<Command> : never;
  },
): Readonly<Record<string, Operation>> {
  // The wire layer has validated the input against the service model, which the SDK's types are generated from.
  return definitions as Readonly<Record<string, Operation>>;
}

/** A simulated service. */
export interface ServiceHandler {
  /** Name of its model below `models/fixtures` and in the call log: `ecs`, `logs`, `efs`, … */
  readonly name: string;
  /** Operations by the model's names; others are answered like operations that AWS does not know. */
  readonly operations: Readonly<Record<string, Operation>>;
  /** The error codes that are not the same in all services. */
  readonly codes: ErrorCodes;
}

/** A service's own codes for errors that every service has. */
export interface ErrorCodes {
  /** A request that breaks the service model's constraints. */
  readonly invalid: string;
  /** A request over a rate. */
  readonly throttled: string;
  /** HTTP status of {@link throttled}; 400 where absent. */
  readonly throttledStatus?: number;
  /** A call that no policy allows. */
  readonly denied: string;
  /** HTTP status of {@link denied}; 400 where absent. */
  readonly deniedStatus?: number;
  /** An access key that nobody has. */
  readonly unknownKey: string;
  /** HTTP status of {@link unknownKey}; 400 where absent. */
  readonly unknownKeyStatus?: number;
}

/** An error that the service answers: `code` is the exception's name, `members` its further members. */
export class AwsFault extends Error {
  readonly code: string;
  /** HTTP status; undefined: the model's for that code, else 400. */
  readonly status: number | undefined;
  readonly members: Readonly<Record<string, unknown>>;

  constructor(code: string, message: string, status?: number, members: Record<string, unknown> = {}) {
    super(message);
    this.name = "AwsFault";
    this.code = code;
    this.status = status;
    this.members = members;
  }
}

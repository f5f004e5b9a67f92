/**
 * Measures that parts of the program report, for metrics. Each is a channel of `node:diagnostics_channel`:
 * while nobody observes it, a report costs one comparison.
 */
import { type Channel, channel } from "node:diagnostics_channel";

/** Reports of one kind. */
export class Measure<Values extends object> {
  readonly #channel: Channel;

  constructor(name: string) {
    this.#channel = channel(`sockerless:${name}`);
  }

  /** @param values called only if somebody observes */
  report(values: () => Values): void {
    if (this.#channel.hasSubscribers) {
      this.#channel.publish(values());
    }
  }

  /** Observes for the rest of the process's life. */
  observe(observer: (values: Values) => void): void {
    this.#channel.subscribe((values) => observer(values as Values));
  }
}

/** A request of a Docker client was answered. */
export const requestAnswered = new Measure<{
  readonly method: string;
  /** The path of the route table; undefined for a path that is in no route. */
  readonly route: string | undefined;
  /** Undefined where the client left before an answer. */
  readonly status: number | undefined;
  readonly seconds: number;
}>("request-answered");

/** Bytes have passed between a client and an agent. */
export const streamBytes = new Measure<{
  readonly direction: "input" | "output";
  readonly bytes: number;
}>("stream-bytes");

/** A stream to an agent has ended. */
export const streamEnded = new Measure<{ readonly outcome: "ended" | "failed" }>("stream-ended");

/** A start of a container has ended, well or not. */
export const startEnded = new Measure<{
  readonly outcome: "started" | "failed";
  readonly seconds: number;
  /** Phases that are over, by name. */
  readonly phases: readonly {
    readonly name: string;
    /** `backend`, `cloud` or `agent`: the clock of its times. */
    readonly by: string;
    /** Milliseconds since 1970. */
    readonly fromMs: number;
    readonly seconds: number;
  }[];
}>("start-ended");

/** A call of the backend's has ended. */
export const backendCalled = new Measure<{
  /** `sockerless.backend.v1.ContainerService/Start`. */
  readonly method: string;
  /** `ok`, `canceled` or the kind of the error. */
  readonly outcome: string;
}>("backend-called");

/** A call of the backend, of an agent or of the host process was answered, or its stream has begun. */
export const processCalled = new Measure<{
  /** `sockerless.agent.v1.AgentService/Start`. */
  readonly method: string;
  readonly seconds: number;
  /** Undefined for an answer, also for one that tells of something that is not there. */
  readonly failure: string | undefined;
}>("process-called");

/** A call of a cloud was answered or lost. */
export const cloudCalled = new Measure<{
  /** `ecs`, `Microsoft.App`, `kubernetes`. */
  readonly service: string;
  /** `RunTask`, `PUT jobs`, `create pods`: one of a fixed number. */
  readonly action: string;
  /** HTTP status; 0 where nobody answered. */
  readonly status: number;
  readonly isThrottled: boolean;
  readonly seconds: number;
}>("cloud-called");

/** A batch was written to the state's database, or refused by it. */
export const stateWritten = new Measure<{
  readonly outcome: "written" | "failed";
  readonly seconds: number;
}>("state-written");

/** A start that a prepared task could serve has looked for one. */
export const preparedAsked = new Measure<{
  /** `hit`, or why there was none. */
  readonly outcome: PreparedOutcome;
}>("prepared-asked");

/** A prepared task has waited for so long since it was last counted, for a cost in the prices' currency (0: unknown). */
export const preparedWaited = new Measure<{ readonly seconds: number; readonly cost: number }>(
  "prepared-waited",
);

/**
 * A start has found a task; one that was still coming up, for which it has waited; none with its image, size and network; none that
 * is not taken; none because the day's limit is reached; one that comes up too late; one that is to be replaced; one that could not be
 * made its own.
 */
export type PreparedOutcome =
  | "hit"
  | "awaited"
  | "none-alike"
  | "none-left"
  | "limit"
  | "late"
  | "too-old"
  | "unclaimed";

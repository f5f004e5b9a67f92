/**
 * Steps at which tests kill the backend, as `kill -9` does. What kills is no part of the product: a test build, which is
 * this one with `test/support/test-build.ts` loaded first, says so in a global symbol; without one nothing here does anything.
 *
 * The steps are each call of the driver that makes or takes away something, before it is made and after it is answered
 * (`workloads.launch.before`, `workloads.launch.after`), each commit of the state, before and after it is durable
 * (`state.commit.before`), what a pull does with a blob (`blobs.append.after`, `blobs.place.before`), and each call of a
 * cloud (`aws.RunTask.after`).
 */
import type { Driver } from "./driver.ts";
import type { State } from "./state/state.ts";

/** What a test build brings. */
export interface TestBuild {
  /** Hears of each step; may not return. */
  readonly reached: (step: string) => void;
  /** An agent that was built with fault points. */
  readonly agentPath: string;
}

/** What this process is a test build of; undefined in a product. */
export const testBuild = Reflect.get(globalThis, Symbol.for("sockerless.test-build")) as
  | TestBuild
  | undefined;

/** The driver and the state with a fault point around each of their steps; the same objects outside of tests. */
export function withFaultPoints<T extends { readonly driver: Driver; readonly state: State }>(parts: T): T {
  if (testBuild === undefined) {
    return parts;
  }
  const { driver, state } = parts;
  return {
    ...parts,
    state: around("state", state, ["commit"]),
    driver: {
      ...driver,
      workloads: around("workloads", driver.workloads, ["create", "launch", "release", "remove", "end"]),
      images: around("images", driver.images, ["prepare", "discard", "forget"]),
      networks: around("networks", driver.networks, ["ensure", "connect", "disconnect", "remove"]),
      volumes: around("volumes", driver.volumes, ["create", "createPart", "remove"]),
    },
  };
}

/**
 * A function with a fault point around each of its calls; the same function outside of tests.
 *
 * @param stepOf the name of a call's step, without before and after
 */
export function withCallFaultPoints<Args extends unknown[], Answer>(
  call: (...args: Args) => Promise<Answer>,
  stepOf: (...args: Args) => string,
): (...args: Args) => Promise<Answer> {
  if (testBuild === undefined) {
    return call;
  }
  const { reached } = testBuild;
  return async (...args) => {
    const step = stepOf(...args);
    reached(`${step}.before`);
    const answer = await call(...args);
    reached(`${step}.after`);
    return answer;
  };
}

function around<T extends object>(role: string, target: T, methods: readonly (keyof T & string)[]): T {
  return new Proxy(target, {
    get(_, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") {
        return value;
      }
      const bound = value.bind(target) as (...args: unknown[]) => Promise<unknown>;
      return methods.some((method) => method === name)
        ? withCallFaultPoints(bound, () => `${role}.${String(name)}`)
        : bound;
    },
  });
}

/**
 * Lets tests kill the backend at a named step, as `kill -9` does. Only with SOCKERLESS_TEST_BUILD=1 in the environment;
 * SOCKERLESS_FAULT_POINT_FILE is the path of a file that holds the name of one step, and is removed when that is
 * reached, so that the next backend lives. The host process reads the same file (`agent/host/faultpoint`).
 *
 * The steps of the backend are each call of the driver, before it is made and after it is answered
 * (`workloads.launch.before`, `workloads.launch.after`), each commit of the state, before and after it is durable
 * (`state.commit.before`), and each call of a cloud (`aws.RunTask.after`). `:3` behind a name means the third time.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";

import type { Driver } from "./driver.ts";
import type { State } from "./state/state.ts";

/** The driver and the state with a fault point around each of their steps; the same objects outside of tests. */
export function withFaultPoints<T extends { readonly driver: Driver; readonly state: State }>(parts: T): T {
  const file = faultPointFile();
  if (file === undefined) {
    return parts;
  }
  const { driver, state } = parts;
  return {
    ...parts,
    state: around("state", state, file, ["commit"]),
    driver: {
      ...driver,
      workloads: around("workloads", driver.workloads, file, ["create", "launch", "release", "remove"]),
      images: around("images", driver.images, file, ["prepare", "forget"]),
      networks: around("networks", driver.networks, file, ["ensure", "remove"]),
      volumes: around("volumes", driver.volumes, file, ["create", "remove"]),
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
  const file = faultPointFile();
  if (file === undefined) {
    return call;
  }
  return async (...args) => {
    const step = stepOf(...args);
    reached(`${step}.before`, file);
    const answer = await call(...args);
    reached(`${step}.after`, file);
    return answer;
  };
}

/** Where the step is named at which to die; undefined outside of tests. */
function faultPointFile(): string | undefined {
  return process.env["SOCKERLESS_TEST_BUILD"] === "1"
    ? process.env["SOCKERLESS_FAULT_POINT_FILE"]
    : undefined;
}

function around<T extends object>(
  role: string,
  target: T,
  file: string,
  methods: readonly (keyof T & string)[],
): T {
  return new Proxy(target, {
    get(_, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") {
        return value;
      }
      if (!methods.some((method) => method === name)) {
        return value.bind(target);
      }
      return async (...args: unknown[]): Promise<unknown> => {
        const step = `${role}.${String(name)}`;
        reached(`${step}.before`, file);
        const answer: unknown = await value.apply(target, args);
        reached(`${step}.after`, file);
        return answer;
      };
    },
  });
}

function reached(step: string, file: string): void {
  const [name, count = "1"] = readIfThere(file).trim().split(":");
  if (name !== step) {
    return;
  }
  if (Number(count) > 1) {
    writeFileSync(file, `${name}:${Number(count) - 1}`);
    return;
  }
  rmSync(file);
  process.kill(process.pid, "SIGKILL");
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return ""; // no step is named
  }
}

/**
 * Steps at which tests kill the backend, as with `kill -9`. The product has no code that kills: a test build, which
 * preloads `test/support/test-build.ts`, registers it under a global symbol; without one, nothing here has any effect.
 *
 * The steps are: each of the engine's verbs (`create.volumes.before`, in `engine/work/steps.ts`); each call of the driver that
 * creates or removes something, before the call and after its answer (`workloads.launch.before`, `workloads.launch.after`);
 * each commit of the state, before and after it is durable (`state.commit.before`); a pull's handling of blobs (`blobs.append.after`, `blobs.place.before`); each log drained
 * from an agent (`logs.drain.after`); the claim of a prepared agent (`agents.claim.after`); and each call of a cloud (`aws.RunTask.after`).
 */
import { ownValue } from "../../common/own-value.ts";
import type { Driver } from "./driver.ts";
import type { ImagePreparer } from "./images.ts";
import type { State } from "../state/state.ts";

/** The parts that a test build adds. */
export interface TestBuild {
  /** Called at each step; may never return. */
  readonly reached: (step: string) => void;
  /** Path of an agent built with fault points. */
  readonly agentPath: string;
}

/** This process's test build; undefined in a product. */
export const testBuild = Reflect.get(globalThis, Symbol.for("sockerless.test-build")) as
  | TestBuild
  | undefined;

/** Adds a fault point around each commit of the state; returns the same object outside of tests. */
export function stateWithFaultPoints(state: State): State {
  return around(state, steps("state", ["commit"]));
}

/** Adds a fault point around each step of an image preparer; returns the same object outside of tests. */
export function imagesWithFaultPoints<T extends ImagePreparer>(images: T): T {
  const unpacking = around(images.unpacking, steps("images", ["forget"]));
  return around({ ...images, unpacking }, steps("images", ["prepare", "discard"]));
}

/**
 * Adds a fault point around each log drained for stopped containers of a cloud; returns the same object outside of
 * tests.
 */
export function storedWithFaultPoints<T extends object>(stored: T): T {
  return around(stored, steps("logs", ["drain"]));
}

/** Adds a fault point around each step of a driver except those of images; returns the same object outside of tests. */
export function driverWithFaultPoints(driver: Driver): Driver {
  const { workloads, silentAgents, networks, volumes } = driver;
  const parts = around(volumes.parts, { create: "volumes.createPart" });
  return {
    ...driver,
    workloads: around(workloads, steps("workloads", ["create", "launch", "release", "remove"])),
    silentAgents: around(silentAgents, steps("workloads", ["end"])),
    networks: around(networks, steps("networks", ["ensure", "connect", "disconnect", "remove"])),
    volumes: around({ ...volumes, parts }, steps("volumes", ["create", "remove"])),
  };
}

/**
 * Adds a fault point around each call of a function; returns the same function outside of tests.
 *
 * @param stepOf the name of a call's step, without `before` and `after`
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

/** The steps of a role, by method. */
function steps(role: string, methods: readonly string[]): Record<string, string> {
  return Object.fromEntries(methods.map((method) => [method, `${role}.${method}`]));
}

function around<T extends object>(target: T, stepOf: Readonly<Record<string, string>>): T {
  if (testBuild === undefined) {
    return target;
  }
  return new Proxy(target, {
    get(_, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") {
        return value;
      }
      const bound = value.bind(target) as (...args: unknown[]) => Promise<unknown>;
      const step = ownValue(stepOf, String(name));
      return step === undefined ? bound : withCallFaultPoints(bound, () => step);
    },
  });
}

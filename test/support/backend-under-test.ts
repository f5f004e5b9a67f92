/** On which backend the tests of a file run: the client tests of test/api are written once and run on several. */

/** Backends that client tests can run on. */
export type TestedBackend = "local" | "ecs" | "aca" | "kubernetes";

const backends: readonly TestedBackend[] = ["local", "ecs", "aca", "kubernetes"];

/** Beside a cluster (`npm run soak -- kubernetes`) all run there, elsewhere on the one that a variable names. */
let chosen: TestedBackend =
  process.env["SOCKERLESS_TEST_KUBERNETES"] === undefined
    ? backendNamed(process.env["SOCKERLESS_TEST_BACKEND"] ?? "local")
    : "kubernetes";

/** @throws Error where there is no such backend */
function backendNamed(name: string): TestedBackend {
  const backend = backends.find((each) => each === name);
  if (backend === undefined) {
    throw new Error(`SOCKERLESS_TEST_BACKEND is ${name}, and no backend: ${backends.join(", ")}`);
  }
  return backend;
}

/** Chooses the backend of all {@link withDaemon} daemons of this process: imported before the tests. */
export function testOn(backend: TestedBackend): void {
  chosen = backend;
}

/** The backend that was chosen. */
export function backendUnderTest(): TestedBackend {
  return chosen;
}

/** A network mode for containers that need none: a job's agent has to call, and every pod has a network. */
export function quickestNetwork(): string {
  return chosen === "aca" || chosen === "kubernetes" ? "bridge" : "none";
}

/**
 * For the `skip` option of a test or suite whose subject another backend does not have, or has in another way:
 * docs/backends tells each difference.
 *
 * @param why shown in the report
 */
export function onlyOn(backend: TestedBackend, why: string): string | false {
  return chosen === backend ? false : `only on ${backend}: ${why}`;
}

/** As {@link onlyOn}, of a subject that one backend alone does not have, or has in another way. */
export function notOn(backend: TestedBackend, why: string): string | false {
  return chosen === backend ? `not on ${backend}: ${why}` : false;
}

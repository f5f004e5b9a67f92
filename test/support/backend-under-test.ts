/** On which backend the tests of a file run: the client tests of test/api are written once and run on several. */

/** Backends that client tests can run on. */
export type TestedBackend = "local" | "ecs";

let chosen: TestedBackend = "local";

/** Chooses the backend of all {@link withDaemon} daemons of this process: imported before the tests. */
export function testOn(backend: TestedBackend): void {
  chosen = backend;
}

/** The backend that was chosen. */
export function backendUnderTest(): TestedBackend {
  return chosen;
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
